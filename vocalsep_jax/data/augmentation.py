"""How training samples are changed at random: the switches, and what each does.

A sample is one channel: a sum of the left and the right channel of its vocals, and of its accompaniment,
each multiplied by a gain. A change of these gains is one function in `GAIN_CHANGES`, with its switch in
`Augmentation` and its random number in `Draw`. Changes of where a crop lies are in
`sampling.training_plan`.

Axis letters: `n` samples of a batch, `C` channels (left and right).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vocalsep_jax.data.random_numbers import below, uniform
from vocalsep_jax.runtime.options import option

CHANNELS = ("mono", "left", "right", "random")


class Draw:
    """Numbers of a sample's random draws. Each is part of the hash's key: no switch disturbs another.

    The number after `GAIN`, and that after `SWAP`, is the same draw for the accompaniment. New draws go to
    the end, and raise `COUNT`: the numbers of the others are part of what a seed means.
    """

    SONG, VOICED, BLOCK, START, REMIX, OTHER_SONG, OTHER_START = range(7)
    GAIN, SWAP, CHANNEL = 7, 9, 11
    COUNT = 12


@dataclass(frozen=True)
class Augmentation:
    """The switches that change training samples; all are off by default.

    Attributes:
      channels: which channel of a song a sample is: `mono` (mean of left and right), `left`, `right`, or
        `random` (any of the three).
      voiced_share: share of the crops that are placed where the voice sounds; the others lie anywhere.
      gain_db: vocals and accompaniment are each scaled by a gain uniform in ± this many dB.
      swap_channels: probability that left and right are exchanged, for each stem on its own.
      remix: probability that the accompaniment comes from another place of any song (Uhlich et al. 2017,
        "Improving music source separation based on deep neural networks through data augmentation").
    """

    channels: str = option("mono", choices=CHANNELS)
    voiced_share: float = option(0.0, least=0, most=1)
    gain_db: float = option(0.0, least=0)
    swap_channels: float = option(0.0, least=0, most=1)
    remix: float = option(0.0, least=0, most=1)


GainChange = Callable[[Augmentation, Callable[[int], Any], Any, Any], Any]
"""From the switches, this stem's random words, gains `[n, C]` and `xp` to new gains.

The words are a function of a draw, which gives uint32 `[n]`.
"""


def random_gain(switches: Augmentation, words: Callable[[int], Any], gains: Any, xp: Any) -> Any:
    """A stem louder or softer by up to `gain_db`."""
    decibels = np.float32(switches.gain_db) * (2 * uniform(words(Draw.GAIN)) - 1)
    return gains * xp.exp(np.float32(math.log(10) / 20) * decibels)[:, None]


def random_swap(switches: Augmentation, words: Callable[[int], Any], gains: Any, xp: Any) -> Any:
    """Left and right of a stem exchanged, in a share `swap_channels` of the samples."""
    swap = uniform(words(Draw.SWAP)) < np.float32(switches.swap_channels)
    return xp.where(swap[:, None], gains[:, ::-1], gains)


GAIN_CHANGES: tuple[GainChange, ...] = (random_swap, random_gain)
"""Applied in this order."""


def stem_gains(switches: Augmentation, words: Any, xp: Any) -> tuple[Any, Any]:
    """The gains of vocals and of accompaniment: float32 `[n, C]` each.

    Args:
      switches: what is changed.
      words: random words, uint32 `[Draw.COUNT, n]`.
      xp: the arrays' module, NumPy or jax.numpy.
    """
    if switches.channels == "random":
        channel = below(words[Draw.CHANNEL], xp.asarray(np.full(1, 3, np.int32)))
    else:
        channel = xp.full(words.shape[1], CHANNELS.index(switches.channels), np.int32)
    left = xp.where(channel == 0, np.float32(0.5), xp.where(channel == 1, np.float32(1), np.float32(0)))
    chosen = xp.stack([left, 1 - left], axis=1)

    def changed(stem: int) -> Any:
        gains = chosen
        for change in GAIN_CHANGES:
            gains = change(switches, lambda draw: words[draw + stem], gains, xp)
        return gains

    return changed(0), changed(1)
