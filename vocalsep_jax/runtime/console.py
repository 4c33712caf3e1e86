"""What the commands write to the terminal: messages to standard error, results to standard output."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import sys
import threading
import time
import unicodedata
from collections.abc import Iterator

log = logging.getLogger(__name__)


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


def reason_of(error: BaseException) -> str:
    """What an error says, in one line of at most 200 characters; its class if it says nothing."""
    return one_line((str(error).strip() or type(error).__name__).splitlines()[0][:200])


def duration(seconds: float) -> str:
    """Seconds in words: `3 h 05 min`, `12 min 30 s`, `45 s`."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


def how_far(done: float, total: float, seconds: float) -> str:
    """`37 %  12.3 x real time  45 s left`: how far the work on sound is, and how fast.

    Args:
      done: seconds of sound that are done.
      total: seconds of it in all; 0 if that is not known, and may be less than `done` if it was a guess.
      seconds: since it was begun.
    """
    speed = done / max(seconds, 1e-9)
    share = f"{min(100.0, 100 * done / total):3.0f} %" if total else duration(done)
    left = f"  {duration(max(0.0, total - done) / speed)} left" if total and speed else ""
    return f"{share}  {speed:.1f} x real time{left}"


def say(text: str) -> None:
    """Write a result to standard output at once; if nobody reads it any more, go on without."""
    try:
        print(f"{text}\n", end="", flush=True)  # in one piece: others may write, too
    except BrokenPipeError:
        # What is left in its buffer would be written, and fail, again at the end of the process.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class StatusLine:
    """How far something is: a line of the terminal that changes; elsewhere, a line of the log a minute."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._interval = 0.2 if self._terminal else 60.0
        self._shown = time.monotonic()

    def due(self) -> bool:
        """Whether it is time for another line; ask before showing one."""
        return time.monotonic() - self._shown >= self._interval

    def show(self, line: str) -> None:
        """Show a line in the place of the last one."""
        self._shown = time.monotonic()
        if self._terminal:
            self._write(line)
        else:
            log.info("%s", line)

    def clear(self) -> None:
        """Take the line off the terminal: before something else is written, and at the end."""
        if self._terminal:
            self._write("", end="\r")

    def _write(self, line: str, end: str = "") -> None:
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write(f"\r{line[:width]:{width}}{end}")
        sys.stderr.flush()


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
