"""What the fuzzers share: random choices, damage to files, limits, and their command."""

from __future__ import annotations

import argparse
import collections
import contextlib
import faulthandler
import logging
import signal
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

import vocalsep_jax

_Item = TypeVar("_Item")

Counts = Mapping[str, "collections.Counter[str]"]
"""How many cases there were of each kind, by what the kinds are of."""


class TimeLimit(BaseException):
    """A call took too long; nothing may take it for an error of its own."""


class Chances:
    """Random choices of a case.

    Attributes:
      rng: all its random numbers; their order makes the case.
    """

    rng: np.random.Generator

    def pick(self, choices: Sequence[_Item]) -> _Item:
        """One of them."""
        return choices[int(self.rng.integers(len(choices)))]

    def chance(self, share: float) -> bool:
        """True in so many cases."""
        return bool(self.rng.random() < share)


def damage(case: Chances, path: Path) -> str:
    """Damage a file; gives how."""
    content = bytearray(path.read_bytes())
    how = case.pick(
        ("truncated", "bit flips", "zeroed", "header", "header", "tail", "inserted", "appended")
    )
    if not content:
        return how
    if how == "truncated":
        del content[case.rng.integers(len(content)) :]
    elif how == "bit flips":
        for place in case.rng.integers(len(content), size=case.rng.integers(1, 50)):
            content[place] ^= 1 << int(case.rng.integers(8))
    elif how == "zeroed":
        start = int(case.rng.integers(len(content)))
        count = min(int(case.rng.integers(1, 4000)), len(content) - start)
        content[start : start + count] = bytes(count)
    elif how in ("header", "tail"):  # MP4's index is at the end
        most = min(len(content), 64 if how == "header" else 800)
        for place in case.rng.integers(most, size=case.rng.integers(1, 5)):
            content[place if how == "header" else len(content) - 1 - place] = case.pick(
                (0, 1, 127, 128, 255, int(case.rng.integers(256)))
            )
    else:
        start = len(content) if how == "appended" else int(case.rng.integers(len(content)))
        content[start:start] = case.rng.bytes(int(case.rng.integers(1, 3000)))
    path.write_bytes(content)
    return how


@contextlib.contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise TimeLimit if the block takes longer; end the process if no signal interrupts it."""

    def stop(*_: object) -> None:
        raise TimeLimit

    before = signal.signal(signal.SIGALRM, stop)
    faulthandler.dump_traceback_later(seconds + 60, exit=True, file=2)  # for what no signal interrupts
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def logged_errors() -> Iterator[list[str]]:
    """The list that the project's messages of errors come to within."""
    logger, records = logging.getLogger(vocalsep_jax.__name__), _Records()
    logger.addHandler(records)
    try:
        yield records.messages
    finally:
        logger.removeHandler(records)


class _Records(logging.Handler):
    """Collects messages of errors."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def escaped(error: BaseException) -> str:
    """What to say of an error that should not have come out: what it is, and from where."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    return f"escaped: {type(error).__name__}: {str(error)[:500]} ({where})"


def is_one_line(message: str) -> bool:
    """Whether a message is one line, of a length that can be read."""
    return len(message.splitlines()) == 1 and len(message) <= 3000


def parser(prog: str, doc: str | None, count: int) -> argparse.ArgumentParser:
    """The options that all fuzzers have: `--count`, by default as given, and `--seed`."""
    options = argparse.ArgumentParser(prog=prog, description=(doc or "").splitlines()[0])
    options.add_argument("--count", type=int, default=count, help="cases (%(default)s)")
    options.add_argument("--seed", type=int, default=0, help="of the first case (%(default)s)")
    return options


def finish(counts: Counts, cases: int, broken: Sequence[str]) -> int:
    """Print the counts; gives the exit code."""
    for of, counter in counts.items():
        print(f"{of}:")
        for kind, number in sorted(counter.items()):
            print(f"{number:6}  {kind}")
    print(f"{cases} cases, {len(broken)} violations")
    return 1 if broken else 0
