import jax
import numpy as np
import pytest
import scipy.signal

from vocalsep_jax.audio.stft import Stft
from vocalsep_jax.data import crops
from vocalsep_jax.data.crops import Crops, patches


@pytest.mark.parametrize("form", [crops._by_fft, crops._by_products, crops.transform])
@pytest.mark.parametrize(("n_fft", "hop", "samples"), [(510, 172, 44_370), (62, 21, 1000), (64, 32, 64)])
def test_the_transform_is_scipys(rng, form, n_fft, hop, samples):
    x = rng.standard_normal((3, samples)).astype(np.float32)
    stft = Stft(n_fft, hop)
    real, imaginary = jax.jit(lambda x: form(x, stft))(x)
    window = scipy.signal.get_window("hann", n_fft)
    _, _, expected = scipy.signal.stft(
        x.astype(np.float64),
        window=window,
        nperseg=n_fft,
        noverlap=n_fft - hop,
        boundary=None,
        padded=False,
    )
    expected = expected * window.sum()  # SciPy scales by that
    ours = np.asarray(real) + 1j * np.asarray(imaginary)
    assert ours.shape == (3, stft.bins, (samples - n_fft) // hop + 1) == expected.shape
    assert np.abs(ours - expected).max() < 1e-5 * np.abs(expected).max()


def test_patches_are_the_magnitudes_of_the_stems_and_of_their_sum(rng):
    stft = Stft(62, 21)
    stems = rng.integers(-32_768, 32_767, (2, 4, 2, stft.samples(32)), np.int16, endpoint=True)
    gains = rng.random((2, 4, 2)).astype(np.float32) / 32_767
    weight = np.array([1, 1, 1, 0], np.float32)
    batch = patches(Crops(*stems, *gains, weight), stft)
    voice, other = stft.transform(np.einsum("kbcs,kbc->kbs", stems, gains).astype(np.float32))
    for ours, expected in zip(batch, (voice + other, voice, other, weight), strict=True):
        assert np.abs(ours - np.abs(expected)).max() < 1e-5 * np.abs(expected).max()
