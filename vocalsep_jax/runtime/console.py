"""What the commands write to the terminal: messages to standard error, results to standard output."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import unicodedata
from collections.abc import Iterator


def start_logging(format: str = "%(message)s") -> None:
    """Show messages of level INFO and above on standard error."""
    logging.basicConfig(
        level=logging.INFO,
        format=format,
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    logging.getLogger("jax").setLevel(logging.WARNING)  # it tells of every platform that is absent


def one_line(text: str) -> str:
    """`text` with escapes for what ends a line or commands a terminal, as file names may."""
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        else character
        for character in text
    )


def duration(seconds: float) -> str:
    """Seconds in words: `3 h 05 min`, `12 min 30 s`, `45 s`."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


def say(text: str) -> None:
    """Write a result to standard output at once; if nobody reads it any more, go on without."""
    try:
        print(f"{text}\n", end="", flush=True)  # in one piece: others may write, too
    except BrokenPipeError:
        # What is left in its buffer would be written, and fail, again at the end of the process.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that nothing half written is left."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
