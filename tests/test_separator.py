import jax
import numpy as np
import pytest

from tests.conftest import tone
from vocalsep_jax.models.unet import UNet
from vocalsep_jax.separator import STEMS, Separator


@pytest.fixture(scope="module")
def separator(run):
    return Separator(run)


@pytest.mark.parametrize("rate", [8000, 11_025, 48_000])
@pytest.mark.parametrize(("samples", "channels"), [(1, 1), (2, 2), (61, 1), (700, 3), (9001, 2), (100, 8)])
def test_shape_stays_and_the_stems_sum_to_the_input(separator, rng, rate, samples, channels):
    x = rng.uniform(-1, 1, (samples, channels)).astype(np.float32)
    stems = separator.separate(x, rate)
    assert tuple(stems) == STEMS
    assert all(s.shape == x.shape and s.dtype == np.float32 for s in stems.values())
    assert all(np.isfinite(s).all() for s in stems.values())
    np.testing.assert_allclose(stems["vocals"] + stems["no_vocals"], x, atol=1e-6)


def test_stems_come_in_blocks_as_they_become_final(separator, rng):
    x = rng.uniform(-1, 1, (30_000, 2)).astype(np.float32)
    came = 0

    def blocks():
        nonlocal came
        for block in np.array_split(x, 60):
            came += len(block)
            yield block

    seen = []
    for stems in separator.stream(blocks(), 8000):
        seen.append(stems)
        assert sum(len(s["vocals"]) for s in seen) <= came
    assert len(seen) > 10
    for name, expected in separator.separate(x, 8000).items():
        np.testing.assert_allclose(np.concatenate([s[name] for s in seen]), expected, atol=1e-6)
    assert list(separator.stream([], 8000)) == []
    with pytest.raises(ValueError, match="NaN or infinity"):
        list(separator.stream([x[:10], np.full((5, 2), np.nan, np.float32)], 8000))


def test_a_mono_vector_stays_one(separator):
    x = tone(440, 0.3)[:, 0]
    stems = separator.separate(x, 8000)
    assert stems["vocals"].shape == x.shape
    np.testing.assert_array_equal(stems["vocals"], separator.separate(x[:, None], 8000)["vocals"][:, 0])


def test_channels_are_separated_on_their_own(separator):
    left, right = tone(440, 0.5, channels=1), tone(1000, 0.5, channels=1)
    both = separator.separate(np.concatenate([left, right], axis=1), 8000)["vocals"]
    for n, x in enumerate((left, right)):
        alone = separator.separate(x, 8000)["vocals"][:, 0]
        np.testing.assert_allclose(both[:, n], alone, atol=1e-6)


def test_the_result_does_not_depend_on_the_batch_size(run, separator):
    x = tone(440, 1.0)
    other = Separator(run, batch_size=3).separate(x, 8000)["vocals"]
    np.testing.assert_allclose(separator.separate(x, 8000)["vocals"], other, atol=1e-6)


def test_the_mask_is_the_network_s(run, separator):
    """One patch, no overlap to average: what is written is network x mixture."""
    from vocalsep_jax.checkpoints import restore_model
    from vocalsep_jax.spectral import Stft

    stft = Stft(62, 21)
    x = tone(700, 0.05)
    spectrum = stft.analyse(x)
    frames = spectrum.shape[-1]
    assert frames <= 32
    model = UNet(width=2, depth=5)
    patch = np.zeros((2, 32, 32), np.float32)
    patch[:, :, :frames] = np.abs(spectrum)
    shapes = jax.eval_shape(model.init, jax.random.key(0), patch)
    variables, _ = restore_model(run, shapes)
    mask = np.asarray(model.apply(variables, patch))[:, :, :frames]
    assert mask.std() > 0.01
    expected = stft.synthesise(spectrum * mask, len(x))
    np.testing.assert_allclose(separator.separate(x, 8000)["vocals"], expected, atol=1e-6)


def test_silence_gives_silence(separator):
    stems = separator.separate(np.zeros((5000, 2), np.float32), 8000)
    assert not stems["vocals"].any()
    assert not stems["no_vocals"].any()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((0, 2)), "not empty"),
        (np.zeros((2, 2, 2)), r"\[S\] or \[S, C\]"),
        (np.array([0.0, np.nan]), "NaN or infinity"),
    ],
)
def test_waveforms_that_are_none(separator, x, message):
    with pytest.raises(ValueError, match=message):
        separator.separate(x, 8000)


@pytest.mark.parametrize("options", [{"overlap": 1.0}, {"batch_size": 0}, {"device": "abacus"}])
def test_impossible_options(run, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Separator(run, **options)
