"""Running cases: making them, calling the command, checking what it left."""

from __future__ import annotations

import collections
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np

from tools.fuzz_separate.calling import call, one_network
from tools.fuzz_separate.cases import Case
from tools.fuzz_separate.checks import check
from tools.fuzz_separate.options import add_options
from tools.fuzz_separate.songs import add_song, arrange
from tools.fuzz_separate.tiny_run import make_run
from vocalsep_jax.audio import files
from vocalsep_jax.separation import streaming


def fuzz(
    count: int, seed: int, folder: Path, report: Callable[[int, Case], None] | None = None
) -> tuple[collections.Counter[str], list[str]]:
    """Run `count` cases from `seed` on.

    Args:
      count: of cases.
      seed: of the first; that of the next is one more.
      folder: for their files.
      report: told of each case, and its seed.

    Returns:
      How many cases there were of each kind, and what was broken.
    """
    run = make_run(folder / "runs" / "tiny")
    kinds: collections.Counter[str] = collections.Counter()
    broken = []
    with one_network():
        for number in range(seed, seed + count):
            case = run_case(number, run, folder / f"case {number}")
            kinds.update(case.kinds)
            broken += [f"seed {number} ({', '.join(case.kinds)}): {problem}" for problem in case.problems]
            if report:
                report(number, case)
    return kinds, broken


def run_case(seed: int, run: Path, folder: Path) -> Case:
    """Make, run and check one case; `folder` is not there yet."""
    folder.mkdir()
    case = Case(np.random.default_rng(seed), folder, run)
    add_song(case)
    add_options(case)
    arrange(case)
    blocks = files._BLOCK, streaming._BLOCK
    read, transformed = case.pick((blocks, blocks, (1000, 1000), (333, 64), (21, 65_536)))
    try:
        with mock.patch.object(files, "_BLOCK", read), mock.patch.object(streaming, "_BLOCK", transformed):
            came_back = _call_and_check(case, {})
            if came_back and case.out.is_dir() and case.chance(0.2):
                _call_again(case)
    finally:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                path.chmod(0o600)
        shutil.rmtree(folder)
    return case


def _call_and_check(case: Case, before: dict[Path, int]) -> bool:
    """Whether a call came back; `before` as `check` has it."""
    called = call(case)
    if called is not None:
        check(case, called, before)
    return called is not None


def _call_again(case: Case) -> None:
    """The same call again, on what is there; a song may be gone."""
    case.kinds.append("again")
    if case.chance(0.3) and not case.usage_error:
        gone = case.pick(case.songs)
        is_file = gone.path.is_file() or gone.path.is_symlink()
        if is_file and "[" not in gone.path.name:  # which would be a pattern then, of another file
            gone.path.unlink()
            gone.usable = False
    _call_and_check(case, {p: p.stat().st_mtime_ns for p in case.out.rglob("*") if p.is_file()})
