import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import tone
from vocalsep_jax.audio.masks import (
    apply_mask,
    apply_resampled_mask,
    crossfade_weights,
    ideal_ratio_mask,
    patch_count,
    patch_step,
    ratio_mask,
)
from vocalsep_jax.audio.stft import Stft

RECIPE = Stft(510, 172)


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


@pytest.mark.parametrize("length", [1, 7, 256])
def test_a_patch_weighs_most_in_its_middle_and_something_everywhere(length):
    weights = crossfade_weights(length)
    assert (weights.shape, weights.dtype) == ((length,), np.float32)
    assert weights.min() > 0
    np.testing.assert_allclose(weights, weights[::-1], atol=1e-6)
    assert (np.diff(weights[: (length + 1) // 2]) > 0).all()


def test_the_ratio_mask_is_the_share_of_the_voice_and_0_in_silence():
    v, a = np.float32([3, 0, 1, 0]), np.float32([1, 2, 0, 0])
    np.testing.assert_allclose(ratio_mask(v, a), [0.75, 0, 1, 0], atol=1e-6)


def test_a_mask_of_ones_returns_the_input(rng):
    x = rng.uniform(-1, 1, (30_000, 2)).astype(np.float32)
    y = apply_mask(x, RECIPE, np.ones_like)
    assert np.abs(y - x).max() < 2e-6


def test_the_ideal_mask_separates_what_does_not_overlap():
    low, high = (tone(f, 1, 44_100, 1, level=1) for f in (500, 5000))
    mask = ideal_ratio_mask(low, high, RECIPE)
    estimate = apply_mask(low + high, RECIPE, lambda _: mask)
    assert np.abs(estimate - low)[1000:-1000].max() < 0.01


def test_a_mask_of_another_rate_sees_that_rate_and_gives_back_its_own():
    x, seen = tone(440, 0.5, 44_100), []

    def mask(magnitude):
        seen.append(magnitude.shape)
        return np.full_like(magnitude, 0.5)

    y = apply_resampled_mask(x, Stft(62, 21), mask, sample_rate=44_100, mask_rate=8000)
    assert seen == [(2, 32, Stft(62, 21).frames(4000))]
    assert y.shape == x.shape
    np.testing.assert_allclose(y[2000:-2000], 0.5 * x[2000:-2000], atol=2e-3)
    one = x[:1]  # resampled, it has no sample
    assert apply_resampled_mask(one, Stft(62, 21), mask, sample_rate=44_100, mask_rate=8000).shape == (1, 2)
