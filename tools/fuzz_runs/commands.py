"""Commands called in this process."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence

from tools.fuzzing import is_one_line, logged_errors


class CommandError(Exception):
    """A command failed; the message is what it said last."""


def run_command(main: Callable[[list[str]], int], arguments: list[str], codes: Sequence[int]) -> None:
    """Run a command.

    Args:
      main: the command.
      arguments: of the command line.
      codes: exit codes that it may fail with.

    Raises:
      CommandError: if it failed as it should, with one line for each error.
      AssertionError: if it failed otherwise.
    """
    with (
        logged_errors() as errors,
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        code = main(arguments)
    if code == 0:
        return
    assert code in codes, f"exit code {code}"
    assert all(map(is_one_line, errors)), errors
    raise CommandError(errors[-1] if errors else "no message")
