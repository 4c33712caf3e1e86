"""How long training takes, and how much of that is waiting for data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

from vocalsep_jax.data.feed import Work


class Interval(NamedTuple):
    """A stretch of training.

    Attributes:
      seconds: its length.
      waited: seconds of it spent waiting for data.
      steps: how many were taken in it.
    """

    seconds: float
    waited: float
    steps: int


class Clock:
    """Time spent, and time spent waiting for data, since the last interval."""

    def __init__(self) -> None:
        self._start()

    def waiting(self, work: Iterator[Work]) -> Iterator[Work]:
        """The same work, timing how long each takes to come."""
        while True:
            begin = time.monotonic()
            item = next(work, None)
            self._waited += time.monotonic() - begin
            if item is None:
                return
            self._steps += item.steps
            yield item

    def interval(self) -> Interval:
        """The interval that ends now; starts the next."""
        seconds = max(time.monotonic() - self._mark, 1e-9)
        interval = Interval(seconds, self._waited, self._steps)
        self._start()
        return interval

    def _start(self) -> None:
        self._mark, self._waited, self._steps = time.monotonic(), 0.0, 0
