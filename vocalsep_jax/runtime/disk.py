"""Writing files whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path

from vocalsep_jax.runtime.places import is_local


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it if the block succeeds, removed if it does not.

    The block may make a file there or a folder; a folder replaces nothing but an empty one. Folders above
    are made as needed. Raises OSError as the file system does.
    """
    if not is_local(path):  # in a bucket there are no halves: a file is there once it is closed
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{_prefix(path)}{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink(missing_ok=True)
        raise


def remove_abandoned(path: Path) -> None:
    """Remove the temporary files for `path` that killed processes of this machine left."""
    prefix = _prefix(path)
    for partial in path.parent.glob(f"{glob.escape(prefix)}*.partial"):
        process = partial.name.removeprefix(prefix).removesuffix(".partial")
        if process.isdecimal() and not _runs(int(process)):
            partial.unlink(missing_ok=True)


def _prefix(path: Path) -> str:
    """How the names of the temporary files for `path` begin; the process that writes follows."""
    # A name may have 255 bytes, and a character of it four.
    return f".{path.name[:40]}.{zlib.crc32(os.fsencode(path.name)):08x}."


def _runs(process: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of a file, the same under all its names; None if there is no such file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None
