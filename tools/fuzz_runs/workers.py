"""Processes that run cases one after the other: if a case ends one, it is known, and the next goes on."""

from __future__ import annotations

import collections
import logging
import multiprocessing
import os
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from tools.fuzzing import Counts


def fuzz(
    areas: Sequence[str], count: int, seed: int, folder: Path, report: Callable[[str], None] = print
) -> tuple[Counts, list[str]]:
    """Run `count` cases of each area from `seed` on.

    Args:
      areas: of `running.AREAS`.
      count: of cases of each.
      seed: of the first; that of the next is one more.
      folder: for their files.
      report: told of each broken promise.

    Returns:
      How many cases there were of each kind and of each outcome, and what was broken.
    """
    counts: dict[str, collections.Counter[str]] = {}
    broken: list[str] = []
    waiting = [(area, number) for area in areas for number in range(seed, seed + count)]
    while waiting:
        waiting = waiting[_work_off(waiting, folder, counts, broken, report) :]
    return counts, broken


def _work_off(
    waiting: Sequence[tuple[str, int]],
    folder: Path,
    counts: dict[str, collections.Counter[str]],
    broken: list[str],
    report: Callable[[str], None],
) -> int:
    """Have a process run cases until it has no more, or ends; gives how many are done."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    worker = context.Process(target=_work, args=(waiting, folder, theirs))
    worker.start()
    theirs.close()
    done = 0
    for area, number in waiting:
        try:
            kinds, outcome, problems = ours.recv()
        except EOFError:
            worker.join()
            kinds, outcome = [], "the process ended"
            problems = [f"the process ended with exit code {worker.exitcode}"]
        counts.setdefault(f"{area}, what", collections.Counter()).update(kinds)
        counts.setdefault(f"{area}, outcome", collections.Counter()).update([outcome])
        for problem in problems:
            broken.append(f"{area}, seed {number} ({', '.join(kinds)}): {problem}")
            report(broken[-1])
        done += 1
        if outcome == "the process ended":
            break
    worker.join()
    return done


def _work(waiting: Sequence[tuple[str, int]], folder: Path, parent: Connection) -> None:
    """Run cases; what came of each is sent to the parent."""
    import jax

    from tools.fuzz_runs.running import run_case
    from tools.fuzz_runs.templates import make_templates

    logging.getLogger().addHandler(logging.NullHandler())  # messages are looked at, not shown
    jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    templates = folder / "templates"
    if not templates.is_dir():
        make_templates(templates)
    for area, number in waiting:
        case = run_case(area, number, templates, folder / f"case {os.getpid()}")
        parent.send((case.kinds, case.outcome, case.problems))
