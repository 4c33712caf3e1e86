"""How sure a median over songs is, by the bootstrap.

B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13: the songs are drawn anew, as
many, with replacement; the median of each draw is taken; the interval has the middle 95 % of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LEVEL = 0.95
DRAWS = 10_000
ENOUGH = 6
"""Songs from which on the interval means something.

The least and the greatest of n songs have the median of all songs between them with probability
1 - 2^(1 - n), whatever the distribution: below 6, less than 95 %. The bootstrap cannot know more.
"""


class Interval(NamedTuple):
    """A median over songs, and where the median of all such songs may lie.

    Attributes:
      median: in the unit of the values.
      low, high: ends of the interval; the least and the greatest value if there are fewer than `ENOUGH`.
      songs: n, those that have a value.
    """

    median: float
    low: float
    high: float
    songs: int

    @property
    def is_sure(self) -> bool:
        """Whether there are enough songs for the interval to have its level."""
        return self.songs >= ENOUGH


def median_interval(
    values: Sequence[float | None], *, draws: int = DRAWS, level: float = LEVEL, seed: int = 0
) -> Interval | None:
    """The median of the values that there are, with its percentile interval.

    Args:
      values: one a song; None where a song has none.
      draws: number of times that the songs are drawn anew.
      level: share of the medians drawn that lies in the interval.
      seed: of the draws; the same values always have the same interval.

    Returns:
      None if there are no values.
    """
    there = np.array([value for value in values if value is not None], np.float64)
    if not len(there):
        return None
    low, high = float(there.min()), float(there.max())
    if len(there) >= ENOUGH:
        chosen = np.random.default_rng(seed).integers(len(there), size=(draws, len(there)))
        medians = np.median(there[chosen], axis=1)
        low, high = map(float, np.quantile(medians, [(1 - level) / 2, (1 + level) / 2]))
    return Interval(float(np.median(there)), low, high, len(there))


def paired_interval(
    first: Sequence[float | None], second: Sequence[float | None], *, seed: int = 0
) -> Interval | None:
    """`median_interval` of `second - first`, song by song.

    Songs differ more than methods do: differences within songs say more than two intervals side by side.

    Args:
      first, second: of the same songs in the same order; songs that lack one value are left out.
      seed: of the draws.
    """
    pairs = zip(first, second, strict=True)
    differences = [b - a for a, b in pairs if a is not None and b is not None]
    return median_interval(differences, seed=seed)
