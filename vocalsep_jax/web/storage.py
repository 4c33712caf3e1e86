"""A folder for the files of those who use the page: bounded, and gone afterwards, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
import time
from pathlib import Path

_PREFIX = "vocalsep-serve-"
_LOCK = "lock"
_YOUNG = 60.0
"""Seconds for which a folder without a lock may be one that is being made, and for which an upload that is
under way may bring nothing."""


class StorageFullError(Exception):
    """There is no room for more files; the message says so to the user."""


class Storage:
    """A folder of our own below the system's temporary one.

    A process that is killed leaves its folder behind; the next one to be started removes it: the lock on a
    file in it, which ends with a process, tells which are in use.

    Attributes:
      folder: it.
      uploads: the folder in it for files that come in.
      limit: bytes that it may hold.
    """

    def __init__(self, limit: int, parent: Path | None = None):
        """Make the folder, below `parent` if that is given, and remove those left behind there.

        Raises:
          OSError: if it cannot be made.
        """
        parent = parent or Path(tempfile.gettempdir())
        _remove_left_behind(parent)
        self.limit = limit
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent)).resolve()
        self._lock = os.open(self.folder / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.uploads = self.folder / "uploads"
        self.uploads.mkdir()

    def new_folder(self) -> Path:
        """An empty folder, whose name nobody can guess."""
        folder = self.folder / "songs" / secrets.token_urlsafe(16)
        folder.mkdir(parents=True)
        return folder

    def used(self) -> int:
        """Bytes that the files take; one that has several names counts once."""
        sizes: dict[int, int] = {}
        for place, _, names in os.walk(self.folder):
            for name in names:
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                    status = os.lstat(os.path.join(place, name))  # noqa: PTH118 (there may be many)
                    sizes[status.st_ino] = status.st_size
        return sum(sizes.values())

    def check(self, more: int = 0) -> None:
        """Raise StorageFullError unless there is room for `more` bytes."""
        if self.used() + more > self.limit:
            raise StorageFullError("there is no room for more songs at the moment; try again later")

    def holds(self, path: Path) -> bool:
        """Whether a path is that of a file that came in, links followed."""
        try:
            resolved = path.resolve(strict=True)
        except (OSError, ValueError):
            return False
        return resolved.is_file() and resolved.is_relative_to(self.uploads)

    def remove_upload(self, path: Path) -> None:
        """Remove a file that came in, if it is one."""
        if self.holds(path):
            path.unlink(missing_ok=True)

    def remove_old_uploads(self, seconds: float) -> None:
        """Remove files that came in longer ago than that, and those whose upload was broken off."""
        now = time.time()
        for path in self.uploads.glob("**/*"):
            with contextlib.suppress(OSError):  # gone, or a folder that is in use again
                # Gradio moves what has come in whole to a folder of its own.
                broken_off = path.parent == self.uploads and not path.is_dir()
                if now - path.lstat().st_mtime > (_YOUNG if broken_off else seconds):
                    path.rmdir() if path.is_dir() else path.unlink()

    def close(self) -> None:
        """Remove the folder and all in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.close(self._lock)


def _remove_left_behind(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            status = folder.lstat()
            # Others may make folders of such names there, and links; only our own are removed.
            if folder.is_symlink() or status.st_uid != os.getuid():
                continue
            try:
                lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
            except FileNotFoundError:
                if time.time() - status.st_mtime > _YOUNG:
                    shutil.rmtree(folder)
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: in use
                shutil.rmtree(folder)
            finally:
                os.close(lock)
