import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalsep_jax.data import sampling
from vocalsep_jax.data.augmentation import Augmentation, Draw, stem_gains
from vocalsep_jax.data.random_numbers import random_words
from vocalsep_jax.data.sampling import SongTable

TABLE = SongTable.of(
    np.array([1000, 50_000, 300_000]),
    (np.zeros(0, np.int64), np.array([0, 11_025, 22_050]), np.array([100_000])),
)
EVERYTHING = Augmentation("random", 0.5, 6.0, 0.5, 0.5)
CROP = 10_000


def plan(index, seed=1, augmentation=EVERYTHING, songs=TABLE):
    return sampling.training_plan(seed, np.asarray(index, np.uint32), songs, CROP, augmentation)


def test_a_table_holds_the_blocks_of_all_songs_in_one_array():
    assert TABLE.voiced.tolist() == [0, 11_025, 22_050, 100_000, 0]
    assert (TABLE.first_voiced.tolist(), TABLE.voiced_count.tolist()) == ([0, 0, 3], [0, 3, 1])
    assert {x.dtype for x in TABLE} == {np.dtype(np.int32)}


def test_plans_on_the_device_are_those_of_the_host():
    index = np.arange(5000, dtype=np.uint32) + np.uint32(2**32 - 6000)
    make = jax.jit(lambda i, songs: sampling.training_plan(3, i, songs, CROP, EVERYTHING, jnp))
    ours, expected = make(index, TABLE), plan(index, 3)
    for name, a, b in zip(expected._fields, ours, expected, strict=True):
        assert a.dtype == b.dtype, name
        if "gains" in name:
            np.testing.assert_allclose(a, b, rtol=1e-6)
        else:
            np.testing.assert_array_equal(a, b, err_msg=name)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 9), st.integers(0, 2**32 - 1))
def test_a_sample_does_not_depend_on_its_company(first, seed):
    together = plan(first + np.arange(8), seed)
    alone = [plan([first + n], seed) for n in (0, 5)]
    for field, a, b in zip(together, *alone, strict=True):
        np.testing.assert_array_equal(field[0], a[0])
        np.testing.assert_array_equal(field[5], b[0])


def test_seeds_and_indices_give_different_streams():
    a, b = plan(np.arange(1000)), plan(np.arange(1000), seed=2)
    assert (a.voice_start == b.voice_start).mean() < 0.5  # song 0 has only one place
    assert len(np.unique(a.voice_gains.max(axis=1))) > 990


def test_crops_lie_within_their_songs():
    p = plan(np.arange(5000))
    for song, start in ((p.voice_song, p.voice_start), (p.other_song, p.other_start)):
        assert start.min() >= 0
        assert (start <= np.maximum(TABLE.samples[song] - CROP, 0)).all()
        assert np.bincount(song, minlength=3).min() > 1400


def test_the_voiced_share_of_crops_holds_a_voiced_block():
    long_song = SongTable.of([10_000_000], [np.array([4_000_000, 9_999_000])])
    p = plan(np.arange(4000), augmentation=Augmentation(voiced_share=0.7), songs=long_song)
    holds = [any(s <= b < s + CROP for b in (4_000_000, 9_999_000)) for s in p.voice_start]
    assert np.mean(holds) == pytest.approx(0.7, abs=0.03)


def test_without_augmentation_nothing_is_changed():
    p = plan(np.arange(100), augmentation=Augmentation())
    np.testing.assert_array_equal(p.voice_song, p.other_song)
    np.testing.assert_array_equal(p.voice_start, p.other_start)
    np.testing.assert_array_equal(p.voice_gains, np.full((100, 2), 0.5))
    np.testing.assert_array_equal(p.other_gains, np.full((100, 2), 0.5))


def test_the_gains_of_a_plan_are_those_of_the_augmentation():
    p, words = plan(np.arange(100)), random_words(1, np.arange(100, dtype=np.uint32), Draw.COUNT)
    voice, other = stem_gains(EVERYTHING, words, np)
    np.testing.assert_array_equal(p.voice_gains, voice)
    np.testing.assert_array_equal(p.other_gains, other)


def test_each_switch_leaves_the_other_draws_alone():
    plain, remixed = (
        plan(np.arange(200), augmentation=Augmentation()),
        plan(np.arange(200), augmentation=Augmentation(remix=1.0, gain_db=6.0, swap_channels=0.5)),
    )
    np.testing.assert_array_equal(plain.voice_song, remixed.voice_song)
    np.testing.assert_array_equal(plain.voice_start, remixed.voice_start)
    assert (remixed.other_song != remixed.voice_song).mean() > 0.5


def test_the_accompaniment_comes_from_elsewhere_in_its_share_of_the_samples():
    p = plan(np.arange(4000), augmentation=Augmentation(remix=0.3))
    same = (p.voice_song == p.other_song) & (p.voice_start == p.other_start)
    # Elsewhere may be the same place: song 0 has only one.
    assert np.mean(same) == pytest.approx(0.7 + 0.3 / 9, abs=0.03)


def test_validation_patches_are_spread_over_songs_and_time():
    p = sampling.validation_plan(10, TABLE, CROP)
    assert np.bincount(p.voice_song).tolist() == [4, 3, 3]
    np.testing.assert_array_equal(p.voice_start, p.other_start)
    starts = p.voice_start[p.voice_song == 2]
    np.testing.assert_allclose(starts, [290_000 * k / 6 for k in (1, 3, 5)], atol=1)
    np.testing.assert_array_equal(p.voice_gains, np.full((10, 2), 0.5))


def test_validation_batches_are_the_plan_and_the_last_is_filled_up_with_weight_0():
    whole = sampling.validation_plan(10, TABLE, CROP)
    make, steps = sampling.validation_batches(10, TABLE, CROP, batch_size=4)
    assert steps == 3
    parts = [make(step, first, 2) for step in range(3) for first in (0, 2)]  # as two processes share them
    weights = np.concatenate([weight for _, weight in parts])
    np.testing.assert_array_equal(weights, [1] * 10 + [0] * 2)
    for field, *shares in zip(whole, *[p for p, _ in parts], strict=True):
        np.testing.assert_array_equal(np.concatenate(shares)[:10], field)


def test_voiced_blocks_are_where_the_voice_is():
    vocals = np.zeros((10 * 8000, 2), np.float32)
    vocals[3 * 8000 : 4 * 8000] = 0.5
    vocals[6 * 8000 : 7 * 8000] = 0.001  # 54 dB below
    np.testing.assert_array_equal(sampling.voiced_blocks(vocals, 8000), np.array([12, 13, 14, 15]) * 2000)
    assert sampling.voiced_blocks(0 * vocals, 8000).size == 0
    assert sampling.voiced_blocks(vocals[:10], 8000).size == 0
