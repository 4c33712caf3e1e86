"""One training at a time in a run's folder."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from vocalsep_jax.runs.folder import RunError
from vocalsep_jax.runtime.data_parallel import any_process
from vocalsep_jax.runtime.places import is_local

log = logging.getLogger(__name__)

_LOCK = ".lock"
_UNLOCKED = "%s: %s; nothing prevents a second training in this folder"


@contextlib.contextmanager
def held(run: Path, *, writes: bool) -> Iterator[None]:
    """Keep others from training in a run's folder meanwhile. Every process must do so.

    The lock is the operating system's, on a file that stays: it ends with the process, however it ends.

    Args:
      run: the folder.
      writes: whether this process is the one that takes the lock.

    Raises:
      RunError: if another training has it.
    """
    with contextlib.ExitStack() as stack:
        holder = _take(run / _LOCK, stack) if writes else None
        if any_process(holder is not None):
            raise RunError(
                f"{run}: another training is running there{holder or ''}; wait for it, or stop it"
            )
        yield


def _take(path: Path, stack: contextlib.ExitStack) -> str | None:
    """Take the lock until `stack` is closed; None if that was possible, else who has it."""
    if not is_local(path):
        log.warning(_UNLOCKED, path, "a bucket has no locks")
        return None
    try:
        file = stack.enter_context(path.open("a+", encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        return f" ({file.read().strip()})"
    except OSError as error:  # a file system that has no locks
        log.warning(_UNLOCKED, path, error.strerror)
        return None
    file.truncate(0)
    file.write(f"process {os.getpid()} of {socket.gethostname()}\n")
    file.flush()
    return None
