import itertools

import numpy as np
import pytest

from vocalsep_jax.audio.wiener import WINDOW, Spread, wiener_window
from vocalsep_jax.separation.spatial import SpatialFilter

BINS = 2
FRAMES = 2 * WINDOW + 100


@pytest.fixture
def song(rng):
    parts = rng.standard_normal((2, 2, 3, BINS, FRAMES)).astype(np.float32)
    mixture = parts[0, 0] + 1j * parts[0, 1]
    return mixture, mixture * rng.uniform(0, 1, mixture.shape).astype(np.float32)


def filtered(song, groups, cuts=()):
    mixture, voice = (np.moveaxis(x, -1, 0) for x in song)
    spatial = SpatialFilter(BINS, groups)
    edges = [0, *cuts, FRAMES]
    out = [spatial.push(mixture[a:b], voice[a:b], last=b == FRAMES) for a, b in itertools.pairwise(edges)]
    return np.moveaxis(np.concatenate(out), 0, -1)


def test_windows_follow_one_another_and_the_last_is_filled_up_with_silence(song):
    found = filtered(song, [(0, 1), (2, 2)])
    assert found.shape == song[0].shape
    spread = Spread.none(BINS)
    for start in range(0, FRAMES, WINDOW):
        mixture, voice = (x[:2, :, start : start + WINDOW] for x in song)
        missing = [(0, 0), (0, 0), (0, WINDOW - mixture.shape[-1])]
        expected, spread = wiener_window(np.pad(mixture, missing), np.pad(voice, missing), spread)
        np.testing.assert_allclose(
            found[:2, :, start : start + WINDOW], expected[..., : mixture.shape[-1]], rtol=1e-5, atol=1e-6
        )


def test_how_the_frames_come_does_not_matter(song):
    groups = [(0, 1), (2, 2)]
    np.testing.assert_array_equal(filtered(song, groups, (1, 300, 301, 511)), filtered(song, groups))


def test_a_channel_without_a_partner_stays_as_it_is(song):
    np.testing.assert_array_equal(filtered(song, [(0, 1), (2, 2)])[2], song[1][2])
    np.testing.assert_array_equal(filtered(song, [(0,), (1,), (2,)]), song[1])
