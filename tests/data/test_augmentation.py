import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vocalsep_jax.data import augmentation
from vocalsep_jax.data.augmentation import Augmentation, Draw, stem_gains
from vocalsep_jax.data.random_numbers import random_words

WORDS = random_words(1, np.arange(4000, dtype=np.uint32), Draw.COUNT)
EVERYTHING = Augmentation("random", 0.5, 6.0, 0.5, 0.5)


def test_all_switches_are_off_by_default():
    assert dataclasses.asdict(Augmentation()) == {
        "channels": "mono", "voiced_share": 0, "gain_db": 0, "swap_channels": 0, "remix": 0,
    }  # fmt: skip
    for gains in stem_gains(Augmentation(), WORDS, np):
        assert gains.dtype == np.float32
        np.testing.assert_array_equal(gains, np.full((4000, 2), 0.5))


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
    vocals, accompaniment = stem_gains(Augmentation(channels), WORDS, np)
    assert {tuple(pair) for pair in vocals.tolist()} == pairs
    np.testing.assert_array_equal(vocals, accompaniment)
    for pair in pairs:
        assert np.mean((vocals == pair).all(axis=1)) == pytest.approx(1 / len(pairs), abs=0.03)


def test_the_channel_is_chosen_after_the_exchange():
    for channels, exchanged in (("mono", [0.5, 0.5]), ("left", [0, 1]), ("right", [1, 0])):
        vocals, _ = stem_gains(Augmentation(channels, swap_channels=1.0), WORDS, np)
        np.testing.assert_array_equal(vocals, np.broadcast_to(np.float32(exchanged), (4000, 2)))


def test_each_stem_is_exchanged_in_its_share_of_the_samples_on_its_own():
    gains = stem_gains(Augmentation("left", swap_channels=0.3), WORDS, np)
    swaps = [x[:, 0] == 0 for x in gains]
    assert [np.mean(swap) for swap in swaps] == pytest.approx([0.3, 0.3], abs=0.03)
    assert np.mean(swaps[0] & swaps[1]) == pytest.approx(0.09, abs=0.02)


def test_each_stem_is_louder_or_softer_on_its_own_within_the_limits():
    decibels = [20 * np.log10(2 * x[:, 0]) for x in stem_gains(Augmentation(gain_db=6.0), WORDS, np)]
    for stem in decibels:
        assert -6.001 <= stem.min() < -5.9
        assert 5.9 < stem.max() <= 6.001
        assert np.abs(np.histogram(stem, 10)[0] - 400).max() < 5 * np.sqrt(400)
    assert abs(np.corrcoef(*decibels)[0, 1]) < 0.05


def test_a_gain_is_that_of_both_channels():
    gains, _ = stem_gains(Augmentation(gain_db=6.0), WORDS, np)
    np.testing.assert_array_equal(gains[:, 0], gains[:, 1])


def test_switches_together_do_what_each_does_alone():
    """None disturbs the random numbers of another."""

    def both(*switches):
        return stem_gains(Augmentation(*switches), WORDS, np)

    together = both("random", 0.0, 6.0, 0.5)
    alone = both("random"), both("left", 0.0, 0.0, 0.5), both("mono", 0.0, 6.0)
    for ours, channel, exchange, gain in zip(together, *alone, strict=True):
        exchanged = np.where(exchange[:, :1] == 0, channel[:, ::-1], channel)
        np.testing.assert_allclose(ours, exchanged * gain.sum(axis=1, keepdims=True), rtol=1e-6)


def test_another_change_of_gains_is_a_function_in_the_table(monkeypatch):
    def louder(switches, words, gains, xp):
        return gains * (2 + (words(Draw.GAIN) > 2**31))[:, None]

    monkeypatch.setattr(augmentation, "GAIN_CHANGES", (*augmentation.GAIN_CHANGES, louder))
    for stem, gains in enumerate(stem_gains(Augmentation(), WORDS, np)):
        np.testing.assert_array_equal(gains[:, 0], 0.5 * (2 + (WORDS[Draw.GAIN + stem] > 2**31)))


def test_no_two_changes_share_a_draw():
    draws = [
        Draw.SONG, Draw.VOICED, Draw.BLOCK, Draw.START, Draw.REMIX, Draw.OTHER_SONG, Draw.OTHER_START,
        Draw.GAIN, Draw.GAIN + 1, Draw.SWAP, Draw.SWAP + 1, Draw.CHANNEL,
    ]  # fmt: skip
    assert draws == list(range(Draw.COUNT))  # the numbers are part of what a seed means


def test_gains_on_the_device_are_those_of_the_host():
    ours = jax.jit(lambda words: stem_gains(EVERYTHING, words, jnp))(WORDS)
    for a, b in zip(ours, stem_gains(EVERYTHING, WORDS, np), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-6)
