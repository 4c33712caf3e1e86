"""Where files are: on this machine, or in a bucket, by addresses as `gs://bucket/runs/first`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast


def place(path: str | os.PathLike[str]) -> Path:
    """A path of this machine, or one in a bucket that has its methods (`etils.epath`).

    Buckets need what reads them: TensorFlow, or `gcsfs` for `gs://` and `s3fs` for `s3://`.

    Raises:
      RuntimeError: if it begins with `~` and there is no such user.
    """
    text = os.fspath(path)
    if "://" not in text:
        return Path(text).expanduser()
    from etils import epath  # what Orbax takes

    return cast(Path, epath.Path(text))


def is_local(path: Path) -> bool:
    """Whether a path is of this machine."""
    return isinstance(path, Path)


def resolved(path: Path) -> Path:
    """A path of this machine with links followed, and from the root on; one in a bucket as it is."""
    return path.resolve() if is_local(path) else path


def size(path: Path) -> int:
    """Bytes of a file."""
    status = path.stat()
    return status.st_size if is_local(path) else int(cast(Any, status).length)


def irregular(folder: Path) -> Path | None:
    """What is first found below a folder that is neither file nor folder; None if there is nothing such.

    A pipe, of which reading has no end, or a link to nothing.
    """
    return next((path for path in below(folder) if not (path.is_file() or path.is_dir())), None)


def below(folder: Path) -> Iterator[Path]:
    """All files and folders in a folder, and in those."""
    if is_local(folder):
        yield from folder.rglob("*")
    elif folder.exists():
        for path in folder.iterdir():
            yield path
            if path.is_dir():
                yield from below(path)
