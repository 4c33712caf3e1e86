import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.data.small import EVERYTHING, STEREO
from vocalsep_jax.data import augmentation
from vocalsep_jax.data.augmentation import (
    EQUALIZER_BENDS,
    Augmentation,
    Draw,
    channels_of,
    equalizer_basis,
    plain_gains,
    random_bends,
    stem_gains,
)
from vocalsep_jax.data.random_numbers import random_words, uniform

WORDS = random_words(1, np.arange(4000, dtype=np.uint32), Draw.COUNT)


def changed(*channels, **switches):
    """The gains of vocals and of accompaniment of 4000 samples."""
    return stem_gains(Augmentation(*channels, **switches), WORDS, np)


def decibels(factors):
    return 20 * np.log10(factors)


def assert_even(x, low, high):
    """Whether 4000 numbers are spread evenly from `low` to `high`."""
    room = (high - low) / 100
    assert low - 1e-3 <= x.min() < low + room
    assert high - room < x.max() <= high + 1e-3
    assert np.abs(np.histogram(x, 10)[0] - 400).max() < 5 * np.sqrt(400)


def test_all_switches_are_off_by_default():
    assert dataclasses.asdict(Augmentation()) == {
        "channels": "mono", "voiced_share": 0, "gain_db": 0, "level_db": 0, "swap_channels": 0, "invert": 0,
        "balance_db": 0, "width": 1, "voice_absent": 0, "accompaniment_absent": 0, "equalizer_db": 0,
        "remix": 0,
    }  # fmt: skip
    for gains in stem_gains(Augmentation(), WORDS, np):
        assert gains.dtype == np.float32
        np.testing.assert_array_equal(gains, np.full((4000, 1, 2), 0.5))


@pytest.mark.parametrize(
    ("channels", "pairs"),
    [
        ("mono", {(0.5, 0.5)}),
        ("left", {(1, 0)}),
        ("right", {(0, 1)}),
        ("random", {(0.5, 0.5), (1, 0), (0, 1)}),
    ],
)
def test_channels(channels, pairs):
    vocals, accompaniment = changed(channels)
    assert vocals.shape == (4000, 1, 2)
    assert {tuple(pair) for pair in vocals[:, 0].tolist()} == pairs
    np.testing.assert_array_equal(vocals, accompaniment)
    for pair in pairs:
        assert np.mean((vocals[:, 0] == pair).all(axis=1)) == pytest.approx(1 / len(pairs), abs=0.03)


def test_a_stereo_sample_is_left_and_right():
    for gains in changed("stereo"):
        assert gains.dtype == np.float32
        np.testing.assert_array_equal(gains, np.broadcast_to(np.eye(2), (4000, 2, 2)))


@pytest.mark.parametrize("channels", ["mono", "left", "right", "random", "stereo"])
def test_plain_gains_are_unchanged_and_have_the_channels_of_the_others(channels):
    gains = plain_gains(7, dataclasses.replace(STEREO, channels=channels))
    assert gains.dtype == np.float32
    kind = "stereo" if channels == "stereo" else "mono"  # validation is of the mean
    np.testing.assert_array_equal(gains, changed(kind)[0][:7])
    assert gains.shape[1] == channels_of(Augmentation(channels)) == (2 if channels == "stereo" else 1)


def test_the_channel_is_chosen_after_the_exchange():
    for channels, exchanged in (("mono", [0.5, 0.5]), ("left", [0, 1]), ("right", [1, 0])):
        vocals, _ = changed(channels, swap_channels=1.0)
        np.testing.assert_array_equal(vocals, np.broadcast_to(np.float32(exchanged), (4000, 1, 2)))
    both, _ = changed("stereo", swap_channels=1.0)
    np.testing.assert_array_equal(both, np.broadcast_to(np.eye(2)[::-1], (4000, 2, 2)))


@pytest.mark.parametrize("channels", ["left", "stereo"])
def test_each_stem_is_exchanged_in_its_share_of_the_samples_on_its_own(channels):
    swaps = [x[:, 0, 0] == 0 for x in changed(channels, swap_channels=0.3)]
    assert [np.mean(swap) for swap in swaps] == pytest.approx([0.3, 0.3], abs=0.03)
    assert np.mean(swaps[0] & swaps[1]) == pytest.approx(0.09, abs=0.02)


def test_each_stem_is_louder_or_softer_on_its_own_within_the_limits():
    loudness = [decibels(2 * x[:, 0, 0]) for x in changed(gain_db=6.0)]
    for stem in loudness:
        assert_even(stem, -6.0, 6.0)
    assert abs(np.corrcoef(*loudness)[0, 1]) < 0.05


@pytest.mark.parametrize("switch", ["gain_db", "level_db"])
def test_a_gain_is_that_of_both_channels(switch):
    gains, _ = changed(**{switch: 6.0})
    np.testing.assert_array_equal(gains[..., 0], gains[..., 1])
    stereo, _ = changed("stereo", **{switch: 6.0})
    np.testing.assert_allclose(stereo, 2 * gains[..., :1] * np.eye(2, dtype=np.float32), rtol=1e-6)


def test_the_level_is_that_of_both_stems():
    vocals, accompaniment = changed(level_db=6.0)
    np.testing.assert_array_equal(vocals, accompaniment)
    assert_even(decibels(2 * vocals[:, 0, 0]), -6.0, 6.0)


@pytest.mark.parametrize("channels", ["mono", "stereo"])
def test_each_stem_is_inverted_in_its_share_of_the_samples_on_its_own(channels):
    plain, _ = changed(channels)
    signs = []
    for gains in changed(channels, invert=0.3):
        np.testing.assert_array_equal(np.abs(gains), plain)
        signs.append(gains[:, 0, 0] < 0)
        np.testing.assert_array_equal(gains, np.where(signs[-1], -1, 1)[:, None, None] * plain)
    assert [np.mean(sign) for sign in signs] == pytest.approx([0.3, 0.3], abs=0.03)
    assert np.mean(signs[0] & signs[1]) == pytest.approx(0.09, abs=0.02)


def test_the_balance_sets_left_and_right_apart_and_keeps_their_geometric_mean():
    apart = []
    for gains in changed("stereo", balance_db=6.0):
        assert not gains[:, [0, 1], [1, 0]].any()
        np.testing.assert_allclose(gains[:, 0, 0] * gains[:, 1, 1], 1, rtol=1e-5)
        apart.append(decibels(gains[:, 0, 0] / gains[:, 1, 1]))
        assert_even(apart[-1], -6.0, 6.0)
    assert abs(np.corrcoef(*apart)[0, 1]) < 0.05


@pytest.mark.parametrize("channels", ["mono", "left", "random"])
def test_one_channel_has_no_balance(channels):
    for ours, plain in zip(changed(channels, balance_db=6.0), changed(channels), strict=True):
        np.testing.assert_array_equal(ours, plain)


def middle_and_side(gains):
    """The factors of a stem's sum of left and right, and of their difference: `[n]` each."""
    ours = gains @ np.array([[1, 1], [1, -1]], np.float32)  # of a sum, and of a difference
    middle, side = (ours[..., 0].sum(axis=1) / 2, (ours[:, 0, 1] - ours[:, 1, 1]) / 2)
    # Nothing of the one comes into the other.
    np.testing.assert_allclose(ours[:, 0, 0], ours[:, 1, 0], atol=1e-6)
    np.testing.assert_allclose(ours[:, 0, 1], -ours[:, 1, 1], atol=1e-6)
    return middle, side


def test_the_width_is_as_often_multiplied_as_divided():
    widths = []
    for gains in changed("stereo", width=3.0):
        middle, side = middle_and_side(gains)
        widths.append(np.log(side / middle))
        assert_even(widths[-1], -np.log(3), np.log(3))
        np.testing.assert_allclose(middle**2 + side**2, 2, rtol=1e-5)
    assert abs(np.corrcoef(*widths)[0, 1]) < 0.05


def test_the_width_keeps_the_energy_of_a_sum_and_a_difference_that_are_equally_strong(rng):
    middle, side = np.linalg.qr(rng.standard_normal((500, 2)))[0].T  # orthogonal, of energy 1
    song = np.stack([middle + side, middle - side])
    energy = np.sum((changed("stereo", width=3.0)[0] @ song) ** 2, axis=(1, 2))
    np.testing.assert_allclose(energy, np.sum(song**2), rtol=1e-5)


def test_the_width_of_one_channel_is_heard_in_that_channel():
    """The mean of left and right has no difference; the left channel gets some of the right one."""
    both = changed("stereo", width=3.0)[0]
    np.testing.assert_allclose(changed("mono", width=3.0)[0][:, 0], both.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(changed("left", width=3.0)[0][:, 0], both[:, 0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(changed("right", width=3.0)[0][:, 0], both[:, 1], rtol=1e-5, atol=1e-6)


def test_the_samples_that_lack_a_stem_lack_no_more_than_that():
    vocals, accompaniment = changed("stereo", voice_absent=0.2, accompaniment_absent=0.3)
    no_voice, no_music = (~x.any(axis=(1, 2)) for x in (vocals, accompaniment))
    assert (np.mean(no_voice), np.mean(no_music)) == pytest.approx((0.2, 0.3), abs=0.03)
    assert not (no_voice & no_music).any()
    for gains, absent in ((vocals, no_voice), (accompaniment, no_music)):
        np.testing.assert_array_equal(gains[~absent], np.broadcast_to(np.eye(2), (np.sum(~absent), 2, 2)))


@pytest.mark.parametrize("share", [0.0, 0.1, 1 / 3, 0.7, 1.0])
def test_every_sample_holds_one_of_the_two_at_least(share):
    gains = changed(voice_absent=share, accompaniment_absent=1 - share)
    present = [x.any(axis=(1, 2)) for x in gains]
    np.testing.assert_array_equal(present[0], ~present[1])
    assert np.mean(present[1]) == pytest.approx(share, abs=0.03)


def test_switches_together_do_what_each_does_alone():
    """None disturbs the random numbers of another."""
    together = changed("random", gain_db=6.0, swap_channels=0.5)
    alone = changed("random"), changed("left", swap_channels=0.5), changed(gain_db=6.0)
    for ours, channel, exchange, gain in zip(together, *alone, strict=True):
        exchanged = np.where(exchange[..., :1] == 0, channel[..., ::-1], channel)
        np.testing.assert_allclose(ours, exchanged * gain.sum(axis=2, keepdims=True), rtol=1e-6)


def test_stereo_switches_together_are_the_product_of_what_each_does_alone():
    """Exchange and width mix what is read; the balance is of what comes out, after them."""
    switches = {"swap_channels": 0.5, "width": 3.0, "balance_db": 6.0, "invert": 0.5}
    switches |= {"gain_db": 6.0, "level_db": 3.0, "voice_absent": 0.2, "accompaniment_absent": 0.3}
    alone = {name: changed("stereo", **{name: value}) for name, value in switches.items()}
    for stem, ours in enumerate(changed("stereo", **switches)):
        expected = np.broadcast_to(np.eye(2), (4000, 2, 2))
        for name in ("swap_channels", "width", "balance_db"):
            expected = alone[name][stem] @ expected
        for name in ("invert", "gain_db", "level_db", "voice_absent", "accompaniment_absent"):
            expected = alone[name][stem] @ expected  # multiples of the identity
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def test_exchange_and_width_commute_and_exchange_and_balance_do_not():
    swap, width, balance = (
        changed("stereo", **{name: value})[0]
        for name, value in (("swap_channels", 1.0), ("width", 3.0), ("balance_db", 6.0))
    )
    np.testing.assert_allclose(swap @ width, width @ swap, rtol=1e-6)
    first, then = balance @ swap, swap @ balance
    assert np.abs(first - then).max() > 0.5
    np.testing.assert_allclose(changed("stereo", swap_channels=1.0, balance_db=6.0)[0], first, rtol=1e-6)


@pytest.mark.parametrize(
    "switches",
    [{"level_db": 6.0}, {"invert": 0.5}, {"balance_db": 6.0}, {"width": 3.0}, {"equalizer_db": 4.0}],
    ids=lambda switches: next(iter(switches)),
)
def test_a_switch_draws_what_no_other_does(switches):
    """With other words for all draws but its own it does the same; with another for its own it does not."""
    (name,) = switches
    first, count = {
        "level_db": (Draw.LEVEL, 1),
        "invert": (Draw.INVERT, 2),
        "balance_db": (Draw.BALANCE, 2),
        "width": (Draw.WIDTH, 2),
        "equalizer_db": (Draw.EQUALIZER, 2 * EQUALIZER_BENDS),
    }[name]
    own = np.isin(np.arange(Draw.COUNT), np.arange(first, first + count))[:, None]
    other = random_words(2, np.arange(4000, dtype=np.uint32), Draw.COUNT)

    def made(words):
        both = Augmentation("stereo", **switches)
        return np.concatenate([x.ravel() for f in (stem_gains, random_bends) for x in f(both, words, np)])

    np.testing.assert_array_equal(made(np.where(own, WORDS, other)), made(WORDS))
    assert not np.array_equal(made(np.where(own, other, WORDS)), made(WORDS))


def test_another_change_of_gains_is_a_function_in_the_table(monkeypatch):
    def louder(switches, words, gains, xp):
        return gains * (2 + (words(Draw.GAIN) > 2**31))[:, None, None]

    monkeypatch.setattr(augmentation, "GAIN_CHANGES", (*augmentation.GAIN_CHANGES, louder))
    for stem, gains in enumerate(stem_gains(Augmentation(), WORDS, np)):
        np.testing.assert_array_equal(gains[:, 0, 0], 0.5 * (2 + (WORDS[Draw.GAIN + stem] > 2**31)))


def test_no_two_changes_share_a_draw():
    draws = [
        Draw.SONG, Draw.VOICED, Draw.BLOCK, Draw.START, Draw.REMIX, Draw.OTHER_SONG, Draw.OTHER_START,
        Draw.GAIN, Draw.GAIN + 1, Draw.SWAP, Draw.SWAP + 1, Draw.CHANNEL,
        Draw.INVERT, Draw.INVERT + 1, Draw.BALANCE, Draw.BALANCE + 1, Draw.WIDTH, Draw.WIDTH + 1,
        Draw.ABSENT, *(Draw.EQUALIZER + n for n in range(2 * EQUALIZER_BENDS)), Draw.LEVEL,
    ]  # fmt: skip
    assert draws == list(range(Draw.COUNT))  # the numbers are part of what a seed means


@pytest.mark.parametrize("switches", [EVERYTHING, STEREO], ids=["one channel", "stereo"])
def test_gains_and_bends_on_the_device_are_those_of_the_host(switches):
    def made(words, xp):
        return *stem_gains(switches, words, xp), *random_bends(switches, words, xp)

    ours = jax.jit(lambda words: made(words, jnp))(WORDS)
    for a, b in zip(ours, made(WORDS, np), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        # A width makes differences of numbers that are almost the same.
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6 if switches is STEREO else 0)


class TestEqualizer:
    """Bends, and the curves they are of."""

    def test_there_are_none_without_the_switch(self):
        for bends in random_bends(Augmentation(), WORDS, np):
            assert (bends.shape, bends.dtype) == ((4000, 0), np.float32)

    def test_each_bend_of_each_stem_is_drawn_on_its_own(self):
        both = random_bends(Augmentation(equalizer_db=4.0), WORDS, np)
        size = 4.0 * np.sqrt(6 / EQUALIZER_BENDS)
        for stem, bends in enumerate(both):
            assert (bends.shape, bends.dtype) == ((4000, EQUALIZER_BENDS), np.float32)
            words = WORDS[Draw.EQUALIZER + stem * EQUALIZER_BENDS :][:EQUALIZER_BENDS]
            np.testing.assert_allclose(bends, size * (2 * uniform(words).T - 1), atol=1e-5)
            for bend in bends.T:
                assert_even(bend, -size, size)
        correlation = np.corrcoef(np.concatenate(both, axis=1).T)
        assert np.abs(correlation - np.eye(2 * EQUALIZER_BENDS)).max() < 0.08

    @pytest.mark.parametrize("bins", [256, 1024])
    def test_the_curves_deviate_by_as_many_decibels_as_are_asked_for(self, bins):
        """Over samples, and over a frequency axis as hearing has it: the one the cosines are even on."""
        bends, _ = random_bends(Augmentation(equalizer_db=4.0), WORDS, np)
        curves = bends @ equalizer_basis(bins)
        place = np.log1p(np.linspace(0, 1, bins) / 0.05) / np.log(21)
        weight = np.gradient(place)
        assert np.sqrt(np.average(np.mean(curves**2, axis=0), weights=weight)) == pytest.approx(
            4.0, rel=0.1
        )
        assert np.abs(np.mean(curves, axis=0)).max() < 0.5  # neither louder nor softer on the whole

    def test_the_curves_are_cosines_on_a_scale_as_hearing_has_it(self):
        basis = equalizer_basis(1025)
        assert (basis.shape, basis.dtype) == ((EQUALIZER_BENDS, 1025), np.float32)
        np.testing.assert_allclose(basis[:, 0], 1, atol=1e-6)
        np.testing.assert_allclose(basis[:, -1], (-1.0) ** np.arange(1, EQUALIZER_BENDS + 1), atol=1e-5)
        # Half way, where the first cosine is nought, ln(1 + 20 f) is half of ln 21.
        middle = np.argmin(np.abs(basis[0]))
        assert middle / 1024 == pytest.approx((np.sqrt(21) - 1) / 20, abs=1e-3)
        assert np.abs(np.diff(basis, axis=1)).max() < 0.15  # smooth

    def test_of_one_bin(self):
        np.testing.assert_array_equal(equalizer_basis(1), np.ones((EQUALIZER_BENDS, 1)))
