import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from vocalsep_jax.audio import device_stft
from vocalsep_jax.audio.stft import Stft

FORMS = [device_stft._by_fft, device_stft._by_products, device_stft.transform]


@pytest.mark.parametrize(("n_fft", "hop", "samples"), [(510, 172, 44_370), (62, 21, 1000), (64, 32, 64)])
def test_all_forms_are_scipys_transform(rng, n_fft, hop, samples):
    x = rng.standard_normal((3, samples)).astype(np.float32)
    stft = Stft(n_fft, hop)
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
    for real, imaginary in jax.jit(lambda x: [form(x, stft) for form in FORMS])(x):
        ours = np.asarray(real) + 1j * np.asarray(imaginary)
        assert ours.shape == (3, stft.bins, (samples - n_fft) // hop + 1) == expected.shape
        assert np.abs(ours - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(("platform", "by_fft"), [("cpu", True), ("tpu", False), ("cuda", False)])
def test_the_form_is_chosen_by_the_platform_it_is_lowered_for(platform, by_fft):
    program = jax.jit(lambda x: device_stft.transform(x, Stft(62, 21)))
    lowered = program.trace(jnp.zeros((2, 200))).lower(lowering_platforms=(platform,))
    assert ("stablehlo.fft" in lowered.as_text()) == by_fft
    assert ("stablehlo.dot_general" in lowered.as_text()) != by_fft
