"""Being asked to stop: SIGTERM and Ctrl-C."""

from __future__ import annotations

import logging
import signal
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils

log = logging.getLogger(__name__)


class Interruption:
    """Turns SIGTERM and Ctrl-C into a request to stop; a second Ctrl-C stops at once.

    One of several processes that is asked makes all stop, after the same step: that is agreed on by JAX'
    preemption service, in the background, without a collective for each step. It has SIGTERM there, and is
    told of Ctrl-C by it.

    Attributes:
      signal: number of the signal received, here or by another process, or 0.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._asked = 0  # how often: the service wants numbers without gaps, which those of steps are not
        self._previous: dict[int, Any] = {}

    @property
    def name(self) -> str:
        """Name of the signal, or an empty string."""
        return signal.Signals(self.signal).name if self.signal else ""

    def stops_here(self) -> bool:
        """Whether to stop now: the same on all processes. Each has to ask after every call of a step."""
        if jax.process_count() == 1:
            return bool(self.signal)
        self._asked += 1
        if not multihost_utils.reached_preemption_sync_point(self._asked):
            return False
        self.signal = self.signal or signal.SIGTERM
        return True

    def __enter__(self) -> Interruption:
        numbers = [signal.SIGINT] if jax.process_count() > 1 else [signal.SIGTERM, signal.SIGINT]
        try:
            for number in numbers:
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
        if jax.process_count() > 1:
            signal.raise_signal(signal.SIGTERM)
