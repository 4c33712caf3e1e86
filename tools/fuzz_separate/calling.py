"""Calling the command in this process: what it left is caught, time and disk are limited."""

from __future__ import annotations

import contextlib
import io
import resource
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

from tools.fuzz_separate.cases import Case
from tools.fuzzing import TimeLimit, escaped, logged_errors, time_limit
from vocalsep_jax import separate

TIME_LIMIT = 30
"""Seconds that a call may take."""


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
            logged_errors() as errors,
            _warnings(case),
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(io.StringIO()),
            contextlib.chdir(case.inputs),
            time_limit(TIME_LIMIT),
            _file_limit(case.file_limit),
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
        case.problems.append(escaped(error))
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
def _file_limit(file_size: int | None) -> Iterator[None]:
    """A bound on the size of a file; a write beyond it fails as on a full disk."""
    size = resource.getrlimit(resource.RLIMIT_FSIZE)
    if file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, size[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, size)
