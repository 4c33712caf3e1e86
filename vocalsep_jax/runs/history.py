"""`history.jsonl` of a run.

It has a line for each interval of training (`kind: "train"`) and for each validation (`kind: "valid"`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from vocalsep_jax.runs.folder import RunError
from vocalsep_jax.runtime import disk
from vocalsep_jax.runtime.console import reason_of
from vocalsep_jax.runtime.places import is_local

Line = dict[str, Any]
"""What one line holds: `kind`, `step`, `epoch`, and numbers by name."""


def history_path(run: Path) -> Path:
    """The path of a run's history."""
    return run / "history.jsonl"


def read_history(run: Path) -> list[Line]:
    """The lines of `history.jsonl`; a last line cut off by a crash is left out.

    Raises:
      RunError: if another line is damaged, or it is no file.
    """
    path = history_path(run)
    if not path.exists():
        return []
    try:
        if not path.is_file():  # reading a pipe would wait for ever
            raise ValueError("it is no file")
        lines = path.read_text(encoding="utf-8").split("\n")
        return [_line(line) for line in lines[:-1] if line]
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: damaged ({reason_of(error)}); repair it, or move it away") from error


class History:
    """The history of a run under way: what it holds, and the file.

    Attributes:
      lines: all so far.
    """

    def __init__(self, run: Path, lines: Sequence[Line], *, writes: bool):
        """Begin with some lines; the file is only touched if this process `writes`; raises OSError."""
        self.lines = list(lines)
        self._path, self._writes = history_path(run), writes
        self._file: IO[str] | None = None
        if writes:
            self._write_all()
            if is_local(run):
                self._file = self._path.open("a", encoding="utf-8")

    def append(self, line: Line) -> None:
        """Add a line; raises OSError if it cannot be written."""
        self.lines.append(line)
        if self._file:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        elif self._writes:
            self._write_all()  # nothing can be added to a file in a bucket

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()

    def _write_all(self) -> None:
        disk.write_text(self._path, "".join(json.dumps(line) + "\n" for line in self.lines))


def _line(text: str) -> Line:
    """What a line holds; raises ValueError if it is none."""
    line = json.loads(text)
    if (
        not isinstance(line, dict)
        or not isinstance(line.get("kind"), str)
        or type(line.get("step")) is not int
    ):
        raise ValueError(f"a line without kind and step: {text}")
    return line
