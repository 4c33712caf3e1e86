"""Digests of the files in a folder: by them one sees that some are lost, or are not what they were."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from vocalsep_jax.runtime import disk

DIGESTS = "digests.json"


def seal(folder: Path, parts: Sequence[str]) -> None:
    """Write the digests of all files in some folders of a folder into it; raises OSError."""
    files = sorted(path for part in parts for path in (folder / part).rglob("*") if path.is_file())
    digests = {path.relative_to(folder).as_posix(): _digest(path) for path in files}
    disk.write_text(folder / DIGESTS, json.dumps(digests, indent=1) + "\n")


def damaged_file(folder: Path, part: str = "") -> str | None:
    """The first file that is not as it was when the folder was sealed; None if all are, or it never was.

    Args:
      folder: what `seal` was given.
      part: one of its folders, as `model/`; all if empty.
    """
    try:
        digests = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
        wanted = {name: digest for name, digest in digests.items() if name.startswith(part)}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError):
        return DIGESTS
    for name, digest in wanted.items():
        try:
            if _digest(folder / name) != digest:
                return name
        except OSError:
            return name
    return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, hashlib.blake2b).hexdigest()
