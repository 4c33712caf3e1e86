import itertools

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalsep_jax.audio.masks import apply_mask, ideal_ratio_mask, patch_count, patch_step
from vocalsep_jax.audio.stft import OverlapAdder, Stft

RECIPE = Stft(510, 172)


def test_the_recipe_has_256_bins_and_patches_of_44370_samples():
    assert RECIPE.bins == 256
    assert RECIPE.samples(256) == 44_370


def test_frames_are_those_of_scipy(rng):
    x = rng.standard_normal(RECIPE.samples(20)).astype(np.float32)
    window = scipy.signal.get_window("hann", 510, fftbins=True)
    _, _, expected = scipy.signal.stft(
        x.astype(np.float64), window=window, nperseg=510, noverlap=338, boundary=None, padded=False
    )
    expected = expected * window.sum()  # scipy scales by the window's sum
    ours = RECIPE.transform(x)
    assert ours.dtype == np.complex64
    assert ours.shape == expected.shape == (256, 20)
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


def test_a_mask_of_ones_returns_the_input(rng):
    x = rng.uniform(-1, 1, (30_000, 2)).astype(np.float32)
    y = apply_mask(x, RECIPE, np.ones_like)
    assert np.abs(y - x).max() < 2e-6


def test_a_hop_that_leaves_gaps_is_refused():
    with pytest.raises(ValueError, match="hop"):
        Stft(510, 300)


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 2000), st.integers(1, 64), st.floats(0, 0.99))
def test_patches_cover_every_frame_and_no_patch_is_one_too_many(frames, length, overlap):
    step = patch_step(length, overlap)
    assert 1 <= step <= length
    last = (patch_count(frames, length, step) - 1) * step
    assert last + length >= frames
    assert last == 0 or last - step + length < frames


@pytest.mark.parametrize("overlap", [-0.1, 1.0])
def test_an_impossible_overlap_is_refused(overlap):
    with pytest.raises(ValueError, match="overlap"):
        patch_step(10, overlap)


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


def test_the_ideal_mask_separates_what_does_not_overlap():
    t = np.arange(44_100) / 44_100
    low, high = (np.sin(2 * np.pi * f * t).astype(np.float32)[:, None] for f in (500, 5000))
    mask = ideal_ratio_mask(low, high, RECIPE)
    estimate = apply_mask(low + high, RECIPE, lambda _: mask)
    assert np.abs(estimate - low)[1000:-1000].max() < 0.01
