"""`history.jsonl` of a run.

It has a line for each interval of training (`kind: "train"`) and for each validation (`kind: "valid"`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vocalsep_jax.runs.folder import RunError

Line = dict[str, Any]
"""What one line holds: `kind`, `step`, `epoch`, and numbers by name."""


def history_path(run: Path) -> Path:
    """The path of a run's history."""
    return run / "history.jsonl"


def read_history(run: Path) -> list[Line]:
    """The lines of `history.jsonl`; a last line cut off by a crash is left out.

    Raises:
      RunError: if another line is damaged.
    """
    path = history_path(run)
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines[:-1] if line]
    except ValueError as error:
        raise RunError(f"{path}: damaged ({error}); repair it, or move it away") from error
