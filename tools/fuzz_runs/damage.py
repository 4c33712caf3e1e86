"""Damage to folders: to their files, their links, their names."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tools.fuzz_runs.cases import Case
from tools.fuzzing import damage

_OF_FILES = (
    *("damaged",) * 6,
    *("emptied", "removed", "a folder", "a loop", "a dangling link", "a pipe", "swapped", "renamed"),
    "elsewhere",
)
_OF_FOLDERS = ("folder removed", "folder emptied", "a file", "renamed")


def damage_folder(case: Case, folder: Path, part: str = "**/*") -> None:
    """Damage something in a folder.

    Args:
      case: whose random numbers choose.
      folder: the folder.
      part: pattern of what may be damaged.
    """
    entries = sorted(p for p in folder.glob(part) if not p.is_symlink())
    files, folders = [p for p in entries if p.is_file()], [p for p in entries if p.is_dir()]
    if not files:  # by earlier damage
        return
    is_folder = bool(folders) and case.chance(0.2)
    how, chosen = (
        case.pick(_OF_FOLDERS if is_folder else _OF_FILES),
        case.pick(folders if is_folder else files),
    )
    detail = ""
    if how == "damaged":
        detail = f", {damage(case, chosen)}"
    elif how == "emptied":
        chosen.write_bytes(b"")
    elif how == "swapped":
        _swap(chosen, case.pick(files))
    elif how == "renamed":
        chosen.rename(chosen.with_name(case.pick(("x", "0", "9" * 30, "a\nb", ".hidden"))))
    elif how == "folder emptied":
        shutil.rmtree(chosen)
        chosen.mkdir()
    else:
        _replace(case, chosen, how)
    case.kinds.append(f"damage: {how}{detail}")


def _replace(case: Case, path: Path, how: str) -> None:
    """Put something else in the place of a file or folder, or nothing."""
    moved = case.folder / f"elsewhere {len(list(case.folder.iterdir()))}"
    path.rename(moved)
    if how == "a folder":
        path.mkdir()
    elif how == "a file":
        path.write_text("in the way")
    elif how == "a loop":
        path.symlink_to(path.name)
    elif how == "a dangling link":
        path.symlink_to("not there")
    elif how == "a pipe":
        os.mkfifo(path)
    elif how == "elsewhere":  # which is all the same
        path.symlink_to(moved)


def _swap(one: Path, other: Path) -> None:
    """Two files or folders in each other's place."""
    if one != other:
        between = one.with_name("between")
        one.rename(between)
        other.rename(one)
        between.rename(other)
