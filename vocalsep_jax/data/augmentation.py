"""How training samples are changed at random: the switches, and what each does.

A sample has one or two channels. Each is a sum of the left and the right channel of its vocals, and of
its accompaniment, each multiplied by a gain. A change of these gains is one function in `GAIN_CHANGES`,
with its switch in `Augmentation` and its random number in `Draw`. Changes of where a crop lies are in
`sampling.training_plan`; the equaliser works on the spectra.

Axis letters: `n` samples of a batch, `K` channels of a sample, `C` channels of a song (left and right), `E`
bends of an equaliser, `F` frequency bins.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vocalsep_jax.data.random_numbers import below, uniform
from vocalsep_jax.runtime.options import option

CHANNELS = ("mono", "left", "right", "random", "stereo")

EQUALIZER_BENDS = 6
"""E: cosines that a random equaliser's curve is made of."""

_EQUALIZER_HALF = 0.05
"""Share of the Nyquist frequency up to which an equaliser's axis is about linear: 1.1 kHz at 44.1 kHz."""


class Draw:
    """Numbers of a sample's random draws. Each is part of the hash's key: no switch disturbs another.

    The number after `GAIN`, `SWAP`, `INVERT`, `BALANCE` and `WIDTH` is the same draw for the accompaniment.
    New draws go to the end, and raise `COUNT`: the numbers of the others are part of what a seed means.
    """

    SONG, VOICED, BLOCK, START, REMIX, OTHER_SONG, OTHER_START = range(7)
    GAIN, SWAP, CHANNEL = 7, 9, 11
    INVERT, BALANCE, WIDTH, ABSENT = 12, 14, 16, 18
    EQUALIZER = 19  # EQUALIZER_BENDS for the vocals, then as many for the accompaniment
    LEVEL = EQUALIZER + 2 * EQUALIZER_BENDS
    COUNT = LEVEL + 1


@dataclass(frozen=True)
class Augmentation:
    """The switches that change training samples; all are off by default.

    Attributes:
      channels: which channel of a song a sample is: `mono` (mean of left and right), `left`, `right`,
        `random` (any of the three), or `stereo` (left and right, for a network of two channels).
      voiced_share: share of the crops that are placed where the voice sounds; the others lie anywhere.
      gain_db: vocals and accompaniment are each scaled by a gain uniform in ± this many dB.
      level_db: both are scaled by one gain uniform in ± this many dB.
      swap_channels: probability that left and right are exchanged, for each stem on its own.
      invert: probability that a stem's polarity is inverted, for each on its own.
      balance_db: left and right of a stem are set apart by up to ± this many dB, for each on its own.
      width: largest factor, or divisor, of a stem's difference of left and right against their sum, drawn
        evenly on a logarithmic scale for each stem on its own; 1 for none. It makes voices as often narrow
        as wide.
      voice_absent, accompaniment_absent: shares of samples that hold one of the two only.
      equalizer_db: each stem goes through a random smooth equaliser of about this many dB (standard
        deviation over frequency and samples).
      remix: probability that the accompaniment comes from another place of any song (Uhlich et al. 2017,
        "Improving music source separation based on deep neural networks through data augmentation").
    """

    channels: str = option("mono", choices=CHANNELS)
    voiced_share: float = option(0.0, least=0, most=1)
    gain_db: float = option(0.0, least=0)
    level_db: float = option(0.0, least=0)
    swap_channels: float = option(0.0, least=0, most=1)
    invert: float = option(0.0, least=0, most=1)
    balance_db: float = option(0.0, least=0)
    width: float = option(1.0, least=1)
    voice_absent: float = option(0.0, least=0, most=1)
    accompaniment_absent: float = option(0.0, least=0, most=1)
    equalizer_db: float = option(0.0, least=0)
    remix: float = option(0.0, least=0, most=1)


GainChange = Callable[[Augmentation, Callable[[int], Any], Any, Any], Any]
"""From the switches, this stem's random words, gains `[n, K, C]` and `xp` to new gains.

The words are a function of a draw, which gives uint32 `[n]`.
"""


def _from_decibels(decibels: Any, xp: Any) -> Any:
    return xp.exp(np.float32(math.log(10) / 20) * decibels)


def _around_zero(words: Any) -> Any:
    """Uniform in [-1, 1)."""
    return 2 * uniform(words) - 1


def random_gain(switches: Augmentation, words: Callable[[int], Any], gains: Any, xp: Any) -> Any:
    """A stem louder or softer by up to `gain_db`."""
    decibels = np.float32(switches.gain_db) * _around_zero(words(Draw.GAIN))
    return gains * _from_decibels(decibels, xp)[:, None, None]


def random_swap(switches: Augmentation, words: Callable[[int], Any], gains: Any, xp: Any) -> Any:
    """Left and right of a stem exchanged, in a share `swap_channels` of the samples."""
    swap = uniform(words(Draw.SWAP)) < np.float32(switches.swap_channels)
    return xp.where(swap[:, None, None], gains[..., ::-1], gains)


def random_polarity(switches: Augmentation, words: Callable[[int], Any], gains: Any, xp: Any) -> Any:
    """A stem inverted, in a share `invert` of the samples."""
    if not switches.invert:
        return gains
    inverted = uniform(words(Draw.INVERT)) < np.float32(switches.invert)
    return xp.where(inverted[:, None, None], -gains, gains)


def random_width(switches: Augmentation, words: Callable[[int], Any], gains: Any, xp: Any) -> Any:
    """A stem's difference of left and right multiplied by a factor up to `width`, or divided by it.

    The sum and the difference are scaled so that the sum of the squares of their factors is 2: a stem whose
    sum and difference are equally strong keeps its energy.
    """
    if switches.width == 1:
        return gains
    factor = xp.exp(np.float32(math.log(switches.width)) * _around_zero(words(Draw.WIDTH)))
    middle = xp.sqrt(2 / (1 + factor**2))[:, None, None]
    side = factor[:, None, None] * middle
    # Left becomes (m + s)/2 left + (m - s)/2 right, and right its mirror image.
    return gains * (middle + side) / 2 + gains[..., ::-1] * (middle - side) / 2


def random_balance(switches: Augmentation, words: Callable[[int], Any], gains: Any, xp: Any) -> Any:
    """The two channels of a stereo sample set apart by up to `balance_db`."""
    if not switches.balance_db or gains.shape[1] == 1:
        return gains
    half = np.float32(switches.balance_db / 2) * _around_zero(words(Draw.BALANCE))
    return gains * _from_decibels(xp.stack([half, -half], axis=1), xp)[:, :, None]


GAIN_CHANGES: tuple[GainChange, ...] = (
    random_swap,
    random_gain,
    random_polarity,
    random_width,
    random_balance,
)
"""Applied in this order."""


def stem_gains(switches: Augmentation, words: Any, xp: Any) -> tuple[Any, Any]:
    """The gains of vocals and of accompaniment: float32 `[n, K, C]` each.

    Args:
      switches: what is changed.
      words: random words, uint32 `[Draw.COUNT, n]`.
      xp: the arrays' module, NumPy or jax.numpy.
    """
    chosen = _chosen_channels(switches, words, xp)
    absent = uniform(words[Draw.ABSENT])
    no_voice = absent < np.float32(switches.voice_absent)
    no_music = absent >= np.float32(1 - switches.accompaniment_absent)

    def changed(stem: int, silent: Any) -> Any:
        gains = chosen
        for change in GAIN_CHANGES:
            gains = change(switches, lambda draw: words[draw + stem], gains, xp)
        if switches.level_db:
            level = np.float32(switches.level_db) * _around_zero(words[Draw.LEVEL])
            gains = gains * _from_decibels(level, xp)[:, None, None]
        return xp.where(silent[:, None, None], np.float32(0), gains)

    return changed(0, no_voice), changed(1, no_music)


def _chosen_channels(switches: Augmentation, words: Any, xp: Any) -> Any:
    """The gains that make a sample's channels of a song's, unchanged: float32 `[n, K, C]`."""
    if switches.channels == "stereo":
        return xp.broadcast_to(xp.asarray(np.eye(2, dtype=np.float32)), (words.shape[1], 2, 2))
    if switches.channels == "random":
        channel = below(words[Draw.CHANNEL], xp.asarray(np.full(1, 3, np.int32)))
    else:
        channel = xp.full(words.shape[1], CHANNELS.index(switches.channels), np.int32)
    left = xp.where(channel == 0, np.float32(0.5), xp.where(channel == 1, np.float32(1), np.float32(0)))
    return xp.stack([left, 1 - left], axis=1)[:, None]


def channels_of(switches: Augmentation) -> int:
    """K: the channels of a sample."""
    return 2 if switches.channels == "stereo" else 1


def plain_gains(count: int, switches: Augmentation) -> np.ndarray:
    """The gains of unchanged samples: float32 `[n, K, C]`; of one channel, the mean of left and right."""
    one = np.eye(2) if channels_of(switches) == 2 else np.full((1, 2), 0.5)
    return np.broadcast_to(one.astype(np.float32), (count, *one.shape))


def bends_of(switches: Augmentation) -> int:
    """E: the bends of a sample's equalisers; 0 where there are none."""
    return EQUALIZER_BENDS if switches.equalizer_db else 0


def random_bends(switches: Augmentation, words: Any, xp: Any) -> tuple[Any, Any]:
    """The equalisers of vocals and of accompaniment, dB of each bend: float32 `[n, E]`; E is 0 for none."""
    if not bends_of(switches):
        none = xp.zeros((words.shape[1], 0), np.float32)
        return none, none
    # A uniform number in [-1, 1) has variance 1/3, a cosine 1/2: together they have the variance wanted.
    size = np.float32(switches.equalizer_db * math.sqrt(6 / EQUALIZER_BENDS))
    bends = [
        xp.stack([size * _around_zero(words[first + n]) for n in range(EQUALIZER_BENDS)], axis=1)
        for first in (Draw.EQUALIZER, Draw.EQUALIZER + EQUALIZER_BENDS)
    ]
    return bends[0], bends[1]


def equalizer_basis(bins: int) -> np.ndarray:
    """The curve of each bend, at each bin: float32 `[E, F]` in [-1, 1].

    Cosines of half a turn, a whole turn and so on, on a frequency axis that is linear at low frequencies
    and logarithmic above, as hearing is.
    """
    share = np.arange(bins) / max(bins - 1, 1)
    place = np.log1p(share / _EQUALIZER_HALF) / np.log1p(1 / _EQUALIZER_HALF)
    turns = np.arange(1, EQUALIZER_BENDS + 1)
    return np.cos(np.pi * turns[:, None] * place).astype(np.float32)
