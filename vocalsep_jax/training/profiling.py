"""A trace of a few steps, by JAX' profiler."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import jax

log = logging.getLogger(__name__)

_SETTLED = 10
"""Calls of the step before the trace: the first compile, and those after it fill the queue."""


class Profile:
    """Traces some calls of the step, once they are as they will be from then on."""

    def __init__(self, folder: Path, calls: int):
        """Trace so many calls into a folder; none if `calls` is 0."""
        self._folder, self._calls, self._seen = folder, calls, 0

    def called(self, result: Any) -> None:
        """Tell it of a call of the step, and give it what the call returns."""
        self._seen += 1
        if not self._calls or self._seen not in (_SETTLED, _SETTLED + self._calls):
            return
        jax.block_until_ready(result)  # no call should be in the trace by half
        if self._seen == _SETTLED:
            jax.profiler.start_trace(self._folder)
        else:
            self._end()

    def __enter__(self) -> Profile:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        if self._calls and self._seen >= _SETTLED:
            jax.profiler.stop_trace()
            log.info("a trace of %d calls of the step: %s", self._seen - _SETTLED, self._folder)
            self._calls = 0
