"""Several processes wait for each other: ends one that waits in vain."""

from __future__ import annotations

import logging
import os
import threading
from typing import Any

log = logging.getLogger(__name__)


class Watchdog:
    """Ends the process, with an error, if it shows no progress for too long.

    A collective has no time limit, and cannot be left: if another process hangs, or its machine is lost
    without a word, this one would wait for ever. Seconds are counted while this process runs: not while it
    is stopped, or the machine asleep.
    """

    def __init__(self, seconds: float):
        """Allow so many seconds without a call of the step; 0 for any."""
        self._allowed = seconds
        self._left = seconds
        self._done = threading.Event()

    def called(self, result: Any) -> None:
        """Begin to count anew: there was a call of the step."""
        del result
        self._left = self._allowed

    def __enter__(self) -> Watchdog:
        if self._allowed:
            threading.Thread(target=self._watch, daemon=True, name="watchdog").start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()

    def _watch(self) -> None:
        tick = min(1.0, self._allowed / 10)
        while not self._done.wait(tick):
            self._left -= tick
            if self._left <= 0:
                log.error(
                    "error: no step was finished for %.0f s: another process hangs, or is gone. Start all "
                    "processes again: they go on from the latest checkpoint",
                    self._allowed,
                )
                os._exit(1)  # the main thread cannot be reached where it waits
