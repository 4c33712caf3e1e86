"""Digests of the files in a folder: by them one sees that some are lost, or are not what they were."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from vocalsep_jax.runtime import disk, places
from vocalsep_jax.runtime.console import one_line

DIGESTS = "digests.json"


def seal(folder: Path, parts: Sequence[str]) -> None:
    """Write the digests of all files in some folders of a folder into it; raises OSError."""
    files = sorted(path for part in parts for path in places.below(folder / part) if path.is_file())
    digests = {path.relative_to(folder).as_posix(): _digest(path) for path in files}
    disk.write_text(folder / DIGESTS, json.dumps(digests, indent=1) + "\n")


def damaged_file(folder: Path, part: str = "") -> str | None:
    """The first file that is not as it was when the folder was sealed; None if all are, or it never was.

    A pipe, or a link to nothing, is damage in any folder.

    Args:
      folder: what `seal` was given.
      part: one of its folders, as `model/`; all if empty.
    """
    if odd := places.irregular(folder / part):
        return one_line(odd.relative_to(folder).as_posix())
    path = folder / DIGESTS
    if not (os.path.lexists(path) or path.exists()):
        return None
    if not path.is_file():
        return DIGESTS
    try:
        digests = json.loads(path.read_text(encoding="utf-8"))
        wanted = {name: digest for name, digest in digests.items() if name.startswith(part)}
    except (OSError, ValueError, AttributeError, RecursionError):
        return DIGESTS
    for name, digest in wanted.items():
        if not _is_inside(name):
            return DIGESTS
        try:
            if _digest(folder / name) != digest:
                return name
        except OSError:
            return name
    return None


def _is_inside(name: str) -> bool:
    """Whether `seal` may have written a name; others may lead out of the folder."""
    path = PurePosixPath(name)
    return name.isprintable() and not path.is_absolute() and ".." not in path.parts


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, hashlib.blake2b).hexdigest()
