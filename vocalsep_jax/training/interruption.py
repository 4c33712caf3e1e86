"""Being asked to stop: SIGTERM and Ctrl-C."""

from __future__ import annotations

import logging
import signal
from types import FrameType
from typing import Any

log = logging.getLogger(__name__)


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
