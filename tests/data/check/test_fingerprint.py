import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.data.check.conftest import fingerprint, tune
from vocalsep_jax.data.check import fingerprint as module
from vocalsep_jax.data.check.fingerprint import RATE, STFT, Landmarks


def noise_spectrogram(frames, seed=0):
    return np.random.default_rng(seed).rayleigh(1, (STFT.bins, frames)).astype(np.float32)


@settings(deadline=None)
@given(
    hnp.arrays(
        np.float32, st.tuples(st.integers(1, 40), st.integers(1, 5)), elements=st.floats(0, 9, width=32)
    ),
    st.integers(1, 12),
    st.integers(0, 1),
)
def test_the_highest_of_neighbours(x, reach, axis):
    expected = scipy.ndimage.maximum_filter1d(x, 2 * reach + 1, axis=axis, mode="constant", cval=0)
    np.testing.assert_array_equal(module._highest(x, reach, axis), expected)


@settings(deadline=None, max_examples=10)
@given(st.sets(st.integers(1, 299), max_size=6))
def test_landmarks_do_not_depend_on_the_blocks(cuts):
    magnitude = noise_spectrogram(300)
    prints = []
    for edges in ([], sorted(cuts)):
        landmarks = Landmarks()
        for block in np.split(magnitude, edges, axis=1):
            landmarks.push(block)
        prints.append(landmarks.finish())
    whole, parts = prints
    assert whole.frames == parts.frames == 300
    np.testing.assert_array_equal(whole.hashes, parts.hashes)
    np.testing.assert_array_equal(whole.times, parts.times)


def test_what_is_held_does_not_grow():
    landmarks = Landmarks()
    for seed in range(20):
        landmarks.push(noise_spectrogram(50, seed))
    assert landmarks._held.shape[1] < 50 + 3 * module._REACH


def test_a_gain_changes_nothing():
    x = tune(0, rate=RATE).mean(axis=1)
    loud, soft = fingerprint(x), fingerprint(x * np.float32(2**-2))
    np.testing.assert_array_equal(loud.hashes, soft.hashes)
    assert len(loud.hashes) > 50 * loud.seconds
    assert np.all(np.diff(loud.times) >= 0)
    assert loud.hashes.max() < 2**24


@pytest.mark.parametrize("level", [0.0, 1e-6])
def test_silence_has_no_hashes(level, rng):
    x = level * rng.standard_normal(20_000)
    assert len(fingerprint(x).hashes) == 0


def test_two_tones_make_the_hash_of_their_bins_and_times():
    magnitude = np.full((STFT.bins, 100), 1e-6, np.float32)
    magnitude[100, 20] = magnitude[130, 32] = 100
    landmarks = Landmarks()
    landmarks.push(magnitude)
    result = landmarks.finish()
    assert result.times.tolist() == [20]
    assert result.hashes.tolist() == [(100 << 13) | ((30 + 64) << 6) | 12]
