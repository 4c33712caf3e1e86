"""What is due when in a run, how long things take, and being asked to stop."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any, NamedTuple

from vocalsep_jax.data.feed import Work

log = logging.getLogger(__name__)


class Due(NamedTuple):
    """What is to be done after a step."""

    log: bool
    validate: bool
    checkpoint: bool


@dataclass(frozen=True)
class Schedule:
    """When things are due, in steps.

    Attributes:
      steps_per_epoch, epochs: of training.
      log_every: steps between log lines; an epoch's end is always logged.
      validate_every: epochs between validations; the last epoch is always validated.
      checkpoint_every: steps between checkpoints, besides those by time and after validation; 0 for none.
    """

    steps_per_epoch: int
    epochs: int
    log_every: int
    validate_every: int
    checkpoint_every: int

    @property
    def last_step(self) -> int:
        """Steps in all."""
        return self.steps_per_epoch * self.epochs

    def due(self, step: int) -> Due:
        """What is due when `step` steps have been taken."""
        epoch, within = divmod(step, self.steps_per_epoch)
        validate = within == 0 and (epoch % self.validate_every == 0 or step == self.last_step)
        return Due(
            log=step % self.log_every == 0 or within == 0,
            validate=validate,
            checkpoint=validate or (self.checkpoint_every > 0 and step % self.checkpoint_every == 0),
        )

    def next_due(self, step: int) -> int:
        """The first step after `step` with which something is due."""
        intervals = [self.log_every, self.steps_per_epoch, self.checkpoint_every]
        return min((step // n + 1) * n for n in intervals if n > 0)


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


class Interruption:
    """Turns SIGTERM and Ctrl-C into a request to stop; a second Ctrl-C stops at once.

    Attributes:
      signal: number of the signal received, or 0.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._previous: dict[int, Any] = {}

    @property
    def name(self) -> str:
        """Name of the signal, or an empty string."""
        return signal.Signals(self.signal).name if self.signal else ""

    def __enter__(self) -> Interruption:
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._receive)
        except ValueError:  # not in the main thread, where signals are not ours to handle
            pass
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
        log.info("%s: stopping after the steps under way", self.name)
