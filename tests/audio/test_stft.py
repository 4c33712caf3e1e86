import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import export

from vocalsep_jax.audio.stft import OverlapAdder, Stft

RECIPE = Stft(510, 172)


def test_the_recipe_has_256_bins_and_patches_of_44370_samples():
    assert RECIPE.bins == 256
    assert RECIPE.samples(256) == 44_370


@pytest.mark.parametrize("xp", [np, jnp])
@pytest.mark.parametrize(("stft", "frames"), [(RECIPE, 20), (Stft(62, 21), 1), (Stft(64, 32), 9)])
def test_frames_are_those_of_scipy(rng, xp, stft, frames):
    x = rng.standard_normal((2, stft.samples(frames) + stft.hop - 1)).astype(np.float32)
    window = scipy.signal.get_window("hann", stft.n_fft, fftbins=True)
    _, _, expected = scipy.signal.stft(
        x.astype(np.float64),
        window=window,
        nperseg=stft.n_fft,
        noverlap=stft.n_fft - stft.hop,
        boundary=None,
        padded=False,
    )
    expected = expected * window.sum()  # scipy scales by the window's sum
    ours = stft.transform(xp.asarray(x), xp)
    assert isinstance(ours, jax.Array if xp is jnp else np.ndarray)
    assert ours.dtype == np.complex64
    assert ours.shape == expected.shape == (2, stft.bins, frames)
    assert np.abs(ours - expected).max() < 1e-6 * np.abs(expected).max()


@settings(deadline=None, max_examples=60)
@given(
    samples=st.one_of(st.integers(1, 600), st.integers(1, 5000)),
    channels=st.integers(1, 3),
    stft=st.sampled_from([RECIPE, Stft(62, 21), Stft(8, 4), Stft(1022, 256)]),
)
def test_synthesis_gives_back_a_signal_of_any_length(samples, channels, stft):
    x = np.random.default_rng(samples).uniform(-1, 1, (samples, channels)).astype(np.float32)
    spectrogram = stft.analyse(x)
    assert spectrogram.shape == (channels, stft.bins, stft.frames(samples))
    y = stft.synthesise(spectrogram, samples)
    assert y.shape == x.shape
    assert np.abs(y - x).max() < 2e-6


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=6),
    st.sampled_from([RECIPE, Stft(62, 21), Stft(8, 4)]),
)
def test_frames_added_in_parts_give_the_signal(parts, stft):
    x = np.random.default_rng(0).uniform(-1, 1, (stft.samples(sum(parts)), 2)).astype(np.float32)
    spectra = stft.transform(x.T)
    adder = OverlapAdder(stft, (2,))
    ends = np.cumsum([0, *parts])
    y = np.concatenate([adder.push(spectra[..., a:b]) for a, b in itertools.pairwise(ends)], axis=1)
    assert y.shape == (2, sum(parts) * stft.hop)
    assert np.abs(y - x.T[:, : y.shape[1]])[:, stft.n_fft :].max(initial=0) < 2e-6


@pytest.mark.parametrize(("shape", "stft"), [((1000, 2), Stft(62, 21)), ((3, 700, 1), RECIPE)])
def test_numpy_and_jax_give_the_same(rng, shape, stft):
    """Of a spectrogram that no signal has, too: its frames contradict each other."""
    x = rng.uniform(-1, 1, shape).astype(np.float32)
    samples = shape[-2]
    spectrogram = stft.analyse(x)
    masked = spectrogram * rng.random(spectrogram.shape).astype(np.float32)

    def results(x, masked, xp):
        adder = OverlapAdder(stft, masked.shape[:-2], xp)
        parts = [adder.push(masked[..., a:b]) for a, b in ((0, 5), (5, 6), (6, masked.shape[-1]))]
        return stft.transform(x.mT, xp), stft.analyse(x, xp), stft.synthesise(masked, samples, xp), *parts

    on_device = jax.jit(functools.partial(results, xp=jnp))(x, masked)
    for ours, expected in zip(on_device, results(x, masked, np), strict=True):
        assert (ours.dtype, ours.shape) == (expected.dtype, expected.shape)
        assert np.abs(ours - expected).max() < 1e-6 * np.abs(expected).max()


def test_one_jax_program_serves_signals_of_any_length(rng):
    stft = Stft(62, 21)

    def there_and_back(x):
        return stft.synthesise(stft.analyse(x, jnp), x.shape[0], jnp)

    (samples,) = export.symbolic_shape("S", constraints=["S >= 1"])
    exported = export.export(jax.jit(there_and_back))(jax.ShapeDtypeStruct((samples, 2), jnp.float32))
    for length in (1, 62, 999):
        x = rng.uniform(-1, 1, (length, 2)).astype(np.float32)
        np.testing.assert_allclose(exported.call(x), x, atol=2e-6)


@pytest.mark.parametrize("stft", [RECIPE, Stft(62, 21), Stft(64, 32)])
def test_the_transform_by_bins_is_the_transform(rng, stft):
    x = rng.standard_normal((3, 2, stft.samples(9) + 1)).astype(np.float32)
    by_bins = stft.transform_by_bins(x)
    assert by_bins.flags.c_contiguous
    assert by_bins.dtype == np.complex64
    np.testing.assert_allclose(by_bins, stft.transform(x), atol=1e-5)


def test_a_hop_that_leaves_gaps_is_refused():
    with pytest.raises(ValueError, match="hop"):
        Stft(510, 300)
