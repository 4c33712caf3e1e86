"""Processes that are started in a session of their own, so that they end with all they started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from typing import Any


def end_group(process: subprocess.Popen[Any]) -> None:
    """Kill what is left of a process that leads its session, and of its children; wait for it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
