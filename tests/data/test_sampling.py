import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.small import EVERYTHING, STEREO
from vocalsep_jax.data import sampling
from vocalsep_jax.data.augmentation import Augmentation, Draw, random_bends, stem_gains
from vocalsep_jax.data.random_numbers import random_words
from vocalsep_jax.data.sampling import SongTable

TABLE = SongTable.of(
    np.array([1000, 50_000, 300_000]),
    (np.zeros(0, np.int64), np.array([0, 11_025, 22_050]), np.array([100_000])),
)
CROP = 10_000


def plan(index, seed=1, augmentation=EVERYTHING, songs=TABLE):
    return sampling.training_plan(seed, np.asarray(index, np.uint32), songs, CROP, augmentation)


def test_a_table_holds_the_blocks_of_all_songs_in_one_array():
    assert TABLE.voiced.tolist() == [0, 11_025, 22_050, 100_000, 0]
    assert (TABLE.first_voiced.tolist(), TABLE.voiced_count.tolist()) == ([0, 0, 3], [0, 3, 1])
    assert TABLE.sung.tolist() == [1, 2]
    assert {x.dtype for x in TABLE} == {np.dtype(np.int32)}


@pytest.mark.parametrize("switches", [EVERYTHING, STEREO], ids=["one channel", "stereo"])
def test_plans_on_the_device_are_those_of_the_host(switches):
    index = np.arange(5000, dtype=np.uint32) + np.uint32(2**32 - 6000)
    make = jax.jit(lambda i, songs: sampling.training_plan(3, i, songs, CROP, switches, jnp))
    ours, expected = make(index, TABLE), plan(index, 3, switches)
    for name, a, b in zip(expected._fields, ours, expected, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), name
        if "gains" in name or "bends" in name:
            # A width makes differences of numbers that are almost the same.
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6 if switches is STEREO else 0)
        else:
            np.testing.assert_array_equal(a, b, err_msg=name)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 9), st.integers(0, 2**32 - 1), st.sampled_from([EVERYTHING, STEREO]))
def test_a_sample_does_not_depend_on_its_company(first, seed, switches):
    together = plan(first + np.arange(8), seed, switches)
    alone = [plan([first + n], seed, switches) for n in (0, 5)]
    for field, a, b in zip(together, *alone, strict=True):
        np.testing.assert_array_equal(field[0], a[0])
        np.testing.assert_array_equal(field[5], b[0])


def test_seeds_and_indices_give_different_streams():
    a, b = plan(np.arange(1000)), plan(np.arange(1000), seed=2)
    assert (a.voice_start == b.voice_start).mean() < 0.1
    assert (a.other_start == b.other_start).mean() < 0.5  # song 0 has only one place
    assert len(np.unique(a.voice_gains.max(axis=(1, 2)))) > 990


def test_crops_lie_within_their_songs():
    p = plan(np.arange(5000))
    for song, start in ((p.voice_song, p.voice_start), (p.other_song, p.other_start)):
        assert start.min() >= 0
        assert (start <= np.maximum(TABLE.samples[song] - CROP, 0)).all()


def test_every_song_is_as_likely_and_voices_come_from_those_that_have_one():
    p = plan(np.arange(5000), augmentation=Augmentation(remix=1.0))
    assert np.bincount(p.other_song, minlength=3).min() > 1550
    assert p.voice_song.min() == 1
    assert np.bincount(p.voice_song)[1:].min() > 2350


def test_without_remixing_the_accompaniment_is_that_of_the_voice():
    p = plan(np.arange(500), augmentation=Augmentation())
    assert set(p.other_song.tolist()) == {1, 2}


def test_where_no_song_has_a_voice_all_are_drawn_from():
    silent = SongTable.of([20_000, 30_000], (np.zeros(0, np.int64), np.zeros(0, np.int64)))
    assert silent.sung.tolist() == [0, 1]
    p = plan(np.arange(1000), augmentation=Augmentation(voiced_share=0.5), songs=silent)
    assert np.bincount(p.voice_song, minlength=2).min() > 400
    assert p.voice_start.max() <= 20_000


def test_the_voiced_share_of_crops_holds_a_voiced_block():
    long_song = SongTable.of([10_000_000], [np.array([4_000_000, 9_999_000])])
    p = plan(np.arange(4000), augmentation=Augmentation(voiced_share=0.7), songs=long_song)
    holds = [any(s <= b < s + CROP for b in (4_000_000, 9_999_000)) for s in p.voice_start]
    assert np.mean(holds) == pytest.approx(0.7, abs=0.03)


def test_without_augmentation_nothing_is_changed():
    p = plan(np.arange(100), augmentation=Augmentation())
    np.testing.assert_array_equal(p.voice_song, p.other_song)
    np.testing.assert_array_equal(p.voice_start, p.other_start)
    np.testing.assert_array_equal(p.voice_gains, np.full((100, 1, 2), 0.5))
    np.testing.assert_array_equal(p.other_gains, np.full((100, 1, 2), 0.5))
    assert p.voice_bends.shape == p.other_bends.shape == (100, 0)


@pytest.mark.parametrize("switches", [EVERYTHING, STEREO], ids=["one channel", "stereo"])
def test_the_gains_and_bends_of_a_plan_are_those_of_the_augmentation(switches):
    words = random_words(1, np.arange(100, dtype=np.uint32), Draw.COUNT)
    p = plan(np.arange(100), augmentation=switches)
    expected = *stem_gains(switches, words, np), *random_bends(switches, words, np)
    for ours, reference in zip(
        (p.voice_gains, p.other_gains, p.voice_bends, p.other_bends), expected, strict=True
    ):
        np.testing.assert_array_equal(ours, reference)


def test_each_switch_leaves_the_other_draws_alone():
    plain, remixed = (
        plan(np.arange(200), augmentation=Augmentation()),
        plan(np.arange(200), augmentation=dataclasses.replace(STEREO, voiced_share=0.0, remix=1.0)),
    )
    np.testing.assert_array_equal(plain.voice_song, remixed.voice_song)
    np.testing.assert_array_equal(plain.voice_start, remixed.voice_start)
    assert (remixed.other_song != remixed.voice_song).mean() > 0.5


def test_the_accompaniment_comes_from_elsewhere_in_its_share_of_the_samples():
    p = plan(np.arange(4000), augmentation=Augmentation(remix=0.3))
    same = (p.voice_song == p.other_song) & (p.voice_start == p.other_start)
    assert np.mean(same) == pytest.approx(0.7, abs=0.03)
    # Songs 1 and 2 have as many voices, and every song as many accompaniments.
    assert np.mean(p.other_song == 0) == pytest.approx(0.3 / 3, abs=0.02)


@pytest.mark.parametrize(
    ("switches", "gains"), [(EVERYTHING, [[0.5, 0.5]]), (STEREO, np.eye(2))], ids=["one channel", "stereo"]
)
def test_validation_patches_are_spread_over_songs_and_time_and_unchanged(switches, gains):
    p = sampling.validation_plan(10, TABLE, CROP, switches)
    assert np.bincount(p.voice_song).tolist() == [4, 3, 3]
    np.testing.assert_array_equal(p.voice_start, p.other_start)
    starts = p.voice_start[p.voice_song == 2]
    np.testing.assert_allclose(starts, [290_000 * k / 6 for k in (1, 3, 5)], atol=1)
    for ours in (p.voice_gains, p.other_gains):
        assert ours.dtype == np.float32
        np.testing.assert_array_equal(ours, np.broadcast_to(gains, (10, *np.shape(gains))))
    trained = plan(np.arange(10), augmentation=switches)
    for ours, theirs in ((p.voice_bends, trained.voice_bends), (p.other_bends, trained.other_bends)):
        assert not ours.any()
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)


@pytest.mark.parametrize("switches", [EVERYTHING, STEREO], ids=["one channel", "stereo"])
def test_validation_batches_are_the_plan_and_the_last_is_filled_up_with_weight_0(switches):
    whole = sampling.validation_plan(10, TABLE, CROP, switches)
    make, steps = sampling.validation_batches(10, TABLE, CROP, switches, batch_size=4)
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
