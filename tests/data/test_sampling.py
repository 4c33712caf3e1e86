import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.extend.random import threefry_2x32

from vocalsep_jax.data import sampling
from vocalsep_jax.data.sampling import Augmentation, SongTable

TABLE = SongTable.of(
    np.array([1000, 50_000, 300_000]),
    (np.zeros(0, np.int64), np.array([0, 11_025, 22_050]), np.array([100_000])),
)
EVERYTHING = Augmentation("random", 0.5, 6.0, 0.5, 0.5)
CROP = 10_000


def plan(index, seed=1, augmentation=EVERYTHING, songs=TABLE):
    return sampling.training_plan(seed, np.asarray(index, np.uint32), songs, CROP, augmentation)


def test_the_generator_gives_its_known_answer():
    """The one of those published with Random123 whose counter has one word: all zeros."""
    assert sampling.random_words(0, np.zeros(1, np.uint32), 1)[0, 0] == 0x6B200159


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_random_words_are_those_of_jax(seed, index):
    """JAX's own Threefry, an independent implementation, under the same keys."""
    ours = sampling.random_words(seed, np.array([index], np.uint32), 12)
    for draw in (0, 1, 11):
        key = np.array([seed, draw], np.uint32)
        theirs = threefry_2x32(key, np.array([index, 0], np.uint32))
        assert ours[draw, 0] == np.asarray(theirs)[0]


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=9), st.integers(1, 2**31 - 1))
def test_integers_below_a_limit_are_the_upper_half_of_the_product(words, limit):
    ours = sampling.below(np.array(words, np.uint32), np.array([limit], np.int32))
    assert ours.tolist() == [word * limit >> 32 for word in words]


def test_plans_on_the_device_are_those_of_the_host():
    index = np.arange(5000, dtype=np.uint32) + np.uint32(2**32 - 6000)
    make = jax.jit(lambda i, songs: sampling.training_plan(3, i, songs, CROP, EVERYTHING, jnp))
    ours, expected = make(index, TABLE), plan(index, 3)
    for name, a, b in zip(expected._fields, ours, expected, strict=True):
        assert a.dtype == b.dtype, name
        if "gain" in name:
            np.testing.assert_allclose(a, b, rtol=1e-6)
        else:
            np.testing.assert_array_equal(a, b, err_msg=name)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 9), st.integers(0, 2**32 - 1))
def test_a_sample_does_not_depend_on_its_company(first, seed):
    together = plan(first + np.arange(8), seed)
    alone = [plan([first + n], seed) for n in (0, 5)]
    for field, a, b in zip(together, *alone, strict=True):
        assert field[0] == a[0]
        assert field[5] == b[0]


def test_seeds_and_indices_give_different_streams():
    a, b = plan(np.arange(1000)), plan(np.arange(1000), seed=2)
    assert (a.voice_start == b.voice_start).mean() < 0.5  # song 0 has only one place
    assert len(np.unique(a.voice_gain)) > 990


def test_crops_lie_within_their_songs():
    p = plan(np.arange(5000))
    for song, start in ((p.voice_song, p.voice_start), (p.other_song, p.other_start)):
        assert start.min() >= 0
        assert (start <= np.maximum(TABLE.samples[song] - CROP, 0)).all()
        assert np.bincount(song, minlength=3).min() > 1400


def test_numbers_are_uniform():
    u, other = sampling.uniform(sampling.random_words(3, np.arange(100_000, dtype=np.uint32), 7)[5:])
    assert u.min() >= 0
    assert u.max() < 1
    histogram = np.histogram(u, 20, (0, 1))[0]
    assert np.abs(histogram - 5000).max() < 5 * np.sqrt(5000)
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 0.02
    assert abs(np.corrcoef(u, other)[0, 1]) < 0.02


def test_the_voiced_share_of_crops_holds_a_voiced_block():
    long_song = SongTable.of([10_000_000], [np.array([4_000_000, 9_999_000])])
    p = plan(np.arange(4000), augmentation=Augmentation(voiced_share=0.7), songs=long_song)
    holds = [any(s <= b < s + CROP for b in (4_000_000, 9_999_000)) for s in p.voice_start]
    assert np.mean(holds) == pytest.approx(0.7, abs=0.03)


def test_without_augmentation_nothing_is_changed():
    p = plan(np.arange(100), augmentation=Augmentation())
    assert (p.voice_song == p.other_song).all()
    assert (p.voice_start == p.other_start).all()
    assert (p.voice_gain == 1).all()
    assert (p.other_gain == 1).all()
    assert not p.voice_swap.any()
    assert (p.channel == 0).all()


def test_each_switch_leaves_the_other_draws_alone():
    plain, paired = (
        plan(np.arange(200), augmentation=Augmentation()),
        plan(np.arange(200), augmentation=Augmentation(repair=1.0, gain_db=6.0)),
    )
    np.testing.assert_array_equal(plain.voice_song, paired.voice_song)
    np.testing.assert_array_equal(plain.voice_start, paired.voice_start)
    assert (paired.other_song != paired.voice_song).mean() > 0.5
    decibels = 20 * np.log10(paired.voice_gain)
    assert -6 <= decibels.min() < -5
    assert 5 < decibels.max() <= 6


def test_channels():
    assert set(plan(np.arange(100)).channel) == {0, 1, 2}
    assert set(plan(np.arange(9), augmentation=Augmentation("right")).channel) == {2}


@pytest.mark.parametrize(
    ("field", "value"),
    [("channels", "both"), ("voiced_share", 2), ("repair", -1), ("gain_db", -3.0)],
)
def test_impossible_augmentation_is_refused(field, value):
    with pytest.raises(ValueError, match=f"data.{field}"):
        Augmentation(**{field: value})


def test_validation_patches_are_spread_over_songs_and_time():
    p = sampling.validation_plan(10, TABLE, CROP)
    assert np.bincount(p.voice_song).tolist() == [4, 3, 3]
    assert (p.voice_start == p.other_start).all()
    starts = p.voice_start[p.voice_song == 2]
    np.testing.assert_allclose(starts, [290_000 * k / 6 for k in (1, 3, 5)], atol=1)


def test_voiced_blocks_are_where_the_voice_is():
    vocals = np.zeros((10 * 8000, 2), np.float32)
    vocals[3 * 8000 : 4 * 8000] = 0.5
    vocals[6 * 8000 : 7 * 8000] = 0.001  # 54 dB below
    np.testing.assert_array_equal(sampling.voiced_blocks(vocals, 8000), np.array([12, 13, 14, 15]) * 2000)
    assert sampling.voiced_blocks(0 * vocals, 8000).size == 0
    assert sampling.voiced_blocks(vocals[:10], 8000).size == 0


def test_channel_gains_choose_the_channel_after_the_exchange():
    gain = np.array([2, 2, 2, 2, 2, 2], np.float32)
    swap = np.array([False, True] * 3)
    ours = sampling.channel_gains(gain, swap, np.array([0, 0, 1, 1, 2, 2]))
    np.testing.assert_array_equal(ours, [[1, 1], [1, 1], [2, 0], [0, 2], [0, 2], [2, 0]])
