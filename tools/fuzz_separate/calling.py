"""Calling the command in this process: what it left is caught, time and disk are limited."""

from __future__ import annotations

import contextlib
import faulthandler
import io
import logging
import resource
import signal
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import vocalsep_jax
from tools.fuzz_separate.cases import Case
from vocalsep_jax import separate

TIME_LIMIT = 30
"""Seconds that a call may take."""


class TimeLimit(BaseException):
    """A call took too long; nothing may take it for an error of its own."""


@dataclass
class Called:
    """What a call left, besides files.

    Attributes:
      code: the exit code.
      stdout: what was printed.
      errors: messages.
    """

    code: int
    stdout: str
    errors: list[str]


def call(case: Case) -> Called | None:
    """Run the command; None if it did not come back as it should."""
    songs = [str(case.shown(song.path)) for song in case.songs]
    arguments = ["--checkpoint", str(case.run), "-o", str(case.out), *case.options, "--", *songs]
    if case.report is not None and case.report.is_file():  # of the call before
        case.report.unlink()
    printed = io.BytesIO()
    stdout = io.TextIOWrapper(printed, encoding="utf-8", newline="\n")  # strict, as a terminal's is
    code: int | None = None
    try:
        with (
            _errors() as errors,
            _warnings(case),
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(io.StringIO()),
            contextlib.chdir(case.inputs),
            _limits(TIME_LIMIT, case.file_limit),
        ):
            try:
                code = separate.main(arguments)
            except SystemExit as stop:  # argparse's
                code = stop.code if isinstance(stop.code, int) else -1
                errors.append("error: usage")
    except TimeLimit:
        case.problems.append(f"took more than {TIME_LIMIT} s")
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        case.problems.append(f"escaped: {type(error).__name__}: {error} ({where})")
    if code is None:
        return None
    stdout.flush()
    return Called(code, printed.getvalue().decode("utf-8", "surrogateescape"), errors)


@contextlib.contextmanager
def one_network() -> Iterator[None]:
    """Networks are loaded and compiled once for all calls that use the same options."""
    load = separate.Separator
    loaded: dict[Any, separate.Separator] = {}
    programs: dict[str, Any] = {}

    def separator(checkpoint: str, **settings: Any) -> separate.Separator:
        key = checkpoint, *settings.items()
        if key not in loaded:
            loaded[key] = load(checkpoint, **settings)
            loaded[key]._apply = programs.setdefault(settings["dtype"] or "float32", loaded[key]._apply)
        return loaded[key]

    with mock.patch.object(separate, "Separator", separator):
        yield


class _Records(logging.Handler):
    """Collects messages of errors."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextlib.contextmanager
def _errors() -> Iterator[list[str]]:
    """The list that the project's messages of errors come to within."""
    logger, records = logging.getLogger(vocalsep_jax.__name__), _Records()
    logger.addHandler(records)
    try:
        yield records.messages
    finally:
        logger.removeHandler(records)


@contextlib.contextmanager
def _warnings(case: Case) -> Iterator[None]:
    """Warnings within are problems of the case."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        yield
    for warning in warned:
        if "compilation cache" in str(warning.message):  # its files meet the limit on files, too
            continue
        if not issubclass(warning.category, (DeprecationWarning, ResourceWarning, FutureWarning)):
            case.problems.append(f"warning: {warning.category.__name__}: {warning.message}")


@contextlib.contextmanager
def _limits(seconds: int, file_size: int | None) -> Iterator[None]:
    """Bounds on time and on the size of a file; a write beyond it fails as on a full disk."""

    def stop(*_: object) -> None:
        raise TimeLimit

    before = signal.signal(signal.SIGALRM, stop)
    size = resource.getrlimit(resource.RLIMIT_FSIZE)
    faulthandler.dump_traceback_later(seconds + 60, exit=True, file=2)  # for what no signal interrupts
    signal.alarm(seconds)
    if file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, size[1]))
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_FSIZE, size)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)
