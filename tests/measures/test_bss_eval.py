"""BSSEval v4: against museval, and against what can be said with pencil and paper."""

import numpy as np
import pytest

from vocalsep_jax.measures import bss_eval
from vocalsep_jax.measures.bss_eval import BssEval

NAMES = ("sdr", "isr", "sir", "sar")


def song(rng, samples=6000, channels=2):
    """Two noises, one of them low, and estimates with all kinds of error: float32 `[2, S, C]` each."""
    references = 0.1 * rng.standard_normal((2, samples, channels))
    references[0] = 0.3 * np.cumsum(references[0], axis=0)
    references[0] -= references[0].mean(axis=0)
    estimates = references + 0.3 * references[::-1] + 0.02 * rng.standard_normal(references.shape)
    estimates[:, 3:] += 0.2 * references[:, :-3]
    return references.astype(np.float32), estimates.astype(np.float32)


@pytest.fixture
def museval():
    """museval's function; skips where it, or ffmpeg, which it looks for, is absent."""
    try:
        from museval.metrics import bss_eval
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"museval cannot be imported: {error}")

    def call(references, estimates, window, hop, taps):
        return bss_eval(
            references.astype(float), estimates.astype(float), window=window, hop=hop, filters_len=taps
        )[:4]

    return call


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("window", "hop", "taps"), [(1000, 1000, 64), (1700, 900, 64), (9000, 9000, 16), (2000, 2000, 512)]
)
def test_it_is_museval_s(museval, rng, channels, window, hop, taps):
    references, estimates = song(rng, channels=channels)
    references[0, 1000:2000] = 0  # a silent frame, or a part of one
    estimates[1, 4000:6000] = 0
    ours = BssEval(references, window=window, hop=hop, filter_length=taps).score(estimates)
    theirs = museval(references, estimates, window, hop, taps)
    for name, found, expected in zip(NAMES, ours, theirs, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=name)  # NaN where they are
    assert np.isnan(ours.sdr).any() == (window in (1000, 2000))


def test_mono_that_was_written_as_stereo_is_museval_s_too(museval, rng):
    references, estimates = (np.repeat(x[..., :1], 2, axis=2) for x in song(rng))
    ours = BssEval(references, window=1000, filter_length=64).score(estimates)
    for found, expected in zip(ours, museval(references, estimates, 1000, 1000, 64), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_blocks_of_the_correlations_do_not_show(rng, monkeypatch):
    references, estimates = song(rng)
    whole = BssEval(references, window=1000, filter_length=64).score(estimates)
    monkeypatch.setattr(bss_eval, "_BLOCK", 777)
    parts = BssEval(references, window=1000, filter_length=64).score(estimates)
    np.testing.assert_allclose(whole, parts, atol=1e-7)


def test_interference_of_the_other_source_alone(rng):
    """A tenth of the other: SDR and SIR are 20 dB and the levels' difference, nothing is artefact."""
    references = rng.standard_normal((2, 20_000, 1))
    estimates = references + 0.1 * references[::-1]
    found = BssEval(references, window=20_000, filter_length=16).score(estimates)
    # Two noises are not quite orthogonal: a filter of one explains a bit of the other.
    np.testing.assert_allclose(found.sdr, 20, atol=0.2)
    np.testing.assert_allclose(found.sir, 20, atol=0.2)
    assert (found.sar > 80).all()
    assert (found.isr > 40).all()


def test_noise_of_its_own_is_an_artefact(rng):
    """Noise 14 dB below, orthogonal to both sources and their delays: SDR and SAR are 14 dB."""
    references = rng.standard_normal((2, 40_000, 1))
    noise = 10 ** (-14 / 20) * rng.standard_normal((2, 40_000, 1))
    found = BssEval(references, window=40_000, filter_length=8).score(references + noise)
    np.testing.assert_allclose(found.sdr, 14, atol=0.2)
    np.testing.assert_allclose(found.sar, 14, atol=0.2)
    assert (found.sir > 40).all()


def test_a_filter_is_spatial_distortion(rng):
    """An echo of a half is allowed: SDR and ISR are 6 dB, there is neither interference nor artefact."""
    references = rng.standard_normal((2, 20_000, 1))
    estimates = references.copy()
    estimates[:, 5:] += 0.5 * references[:, :-5]
    found = BssEval(references, window=20_000, filter_length=16).score(estimates)
    np.testing.assert_allclose(found.sdr, 20 * np.log10(2), atol=0.1)
    np.testing.assert_allclose(found.isr, 20 * np.log10(2), atol=0.1)
    assert (found.sir > 60).all()
    assert (found.sar > 30).all()  # what lies beyond the frame's end


def test_a_perfect_estimate_has_no_distortion(rng):
    references, _ = song(rng)
    found = BssEval(references, window=1000, filter_length=16).score(references)
    assert np.isinf(found.sdr).all()
    assert not np.isnan(np.array(found)).any()


@pytest.mark.parametrize("which", ["reference", "estimate"])
def test_a_source_that_is_silent_throughout_leaves_no_scores(rng, which):
    references, estimates = song(rng)
    (references if which == "reference" else estimates)[1] = 0
    found = BssEval(references, window=1000, filter_length=16).score(estimates)
    assert np.isnan(np.array(found)).all()
    assert found.sdr.shape == (2, 6)


def test_a_channel_that_is_silent_is_no_trouble(rng):
    references, estimates = song(rng)
    references[0, :, 1] = 0
    found = BssEval(references, window=1000, filter_length=64).score(estimates)
    assert np.isfinite(np.array(found)).all()


def test_what_does_not_fit_is_refused(rng):
    references, estimates = song(rng)
    with pytest.raises(ValueError, match="shapes differ"):
        BssEval(references, window=1000).score(estimates[:, :-1])
    with pytest.raises(ValueError, match="not empty"):
        BssEval(references[0], window=1000)
    with pytest.raises(ValueError, match="at least 1"):
        BssEval(references, window=0)
