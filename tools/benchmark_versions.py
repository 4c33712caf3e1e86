"""Compare the speed of this working tree with that of an earlier version, in turns on the same machine.

    python tools/benchmark_versions.py HEAD~20
    python tools/benchmark_versions.py HEAD~20 --what separate start --rounds 9 --json versions.json

The earlier version is taken from git into a folder of its own, and has its own processes; with
--environment it is installed, with the packages it asks for, into a virtual environment of its own, else
it uses the packages that are here. Both do the same by what every version has: `Separator`,
`train_and_evaluate`, and the command; with the model that comes with this tree. Prints a table; ratios
above 1 mean that this tree is faster.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import select
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.processes import end_group
from vocalsep_jax.runtime import disk
from vocalsep_jax.runtime.console import start_logging

log = logging.getLogger(__name__)

MODEL = ROOT / "vocalsep_jax" / "shipped" / "vocals"
WORKER = Path(__file__).with_name("version_worker.py")
WHAT = ("separate", "separate-wide", "train", "train-wide", "start")
"""What `version_worker.py` can do."""
_PATIENCE = 600
"""Seconds that a worker may take to answer: once, and before it is ready."""


class VersionError(Exception):
    """A version that cannot be had, or does not do what it should; the message says why."""


class Worker:
    """A version of the package that does one thing over and over when it is told to."""

    def __init__(self, name: str, python: str, tree: Path, what: str, stack: contextlib.ExitStack):
        """Start it, and wait until it is ready; the stack ends it."""
        self.name, self.what = name, what
        self._errors = stack.enter_context(tempfile.TemporaryFile("w+"))  # noqa: SIM115, the stack closes it
        # As the commands set it themselves; here both have it.
        variables = {"PYTHONPATH": str(tree), "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
        self._process = subprocess.Popen(
            [python, str(WORKER), what, str(MODEL)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=tree,
            env=os.environ | variables,
            start_new_session=True,
        )
        stack.callback(self._end)
        if self._answer() != "ready":
            raise VersionError(f"{name} cannot {what}: {self._last_error()}")

    def seconds(self) -> float:
        """Do it once: how long it took."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            print("go", file=self._process.stdin, flush=True)
        try:
            return float(self._answer())
        except ValueError:
            raise VersionError(
                f"{self.name} ended while it should {self.what}: {self._last_error()}"
            ) from None

    def _answer(self) -> str:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], _PATIENCE)
        return self._process.stdout.readline().strip() if ready else ""

    def _last_error(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return lines[-1] if lines else f"no answer within {_PATIENCE} s"

    def _end(self) -> None:
        """Let it end by itself, which it does when nothing more comes in; then kill what is left of it."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        end_group(self._process)


@contextlib.contextmanager
def version(ref: str, *, environment: bool) -> Iterator[tuple[str, Path]]:
    """An earlier version: its Python and its tree.

    Raises:
      VersionError: if there is no such version, or it cannot be installed.
    """
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        archive = Path(folder) / "tree.tar"
        _call(["git", "-C", str(ROOT), "archive", "--output", str(archive), ref])
        with tarfile.open(archive) as content:
            content.extractall(tree, filter="data")
        python = sys.executable
        if environment:
            home = Path(folder) / "environment"
            _call([sys.executable, "-m", "venv", str(home)])
            python = str(home / "bin" / "python")
            _call([python, "-m", "pip", "install", "--quiet", str(tree)])
        yield python, tree


def _call(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise VersionError(f"there is no {command[0]}") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise VersionError(f"{command[0]}: {lines[-1]}")


def compare(ref: str, python: str, tree: Path, what: str, rounds: int) -> dict[str, Any]:
    """Both versions doing `what`, in turns: seconds of each, and how many times as fast this one is.

    Raises:
      VersionError: if one of them cannot do it.
    """
    with contextlib.ExitStack() as stack:
        ours = Worker("this tree", sys.executable, ROOT, what, stack)
        theirs = Worker(ref, python, tree, what, stack)
        times = np.array([[ours.seconds(), theirs.seconds()] for _ in range(rounds)])
    ratios = times[:, 1] / times[:, 0]
    return {
        "what": what,
        "seconds": float(np.median(times[:, 0])),
        "seconds_before": float(np.median(times[:, 1])),
        "ratio": float(np.median(ratios)),
        "ratios": [float(ratio) for ratio in ratios],
    }


def table(ref: str, results: Sequence[dict[str, Any]]) -> str:
    """The results as Markdown."""
    lines = [
        f"| what | s | s, {ref} | times as fast | from round to round |",
        "|---|---|---|---|---|",
    ]
    for r in results:
        lines.append(
            f"| {r['what']} | {r['seconds']:.3g} | {r['seconds_before']:.3g} | {r['ratio']:.2f} "
            f"| {min(r['ratios']):.2f} to {max(r['ratios']):.2f} |"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("ref", metavar="REF", help="commit, tag or branch to compare with")
    parser.add_argument("--what", nargs="+", choices=WHAT, default=WHAT, help="(all)")
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    parser.add_argument(
        "--environment", action="store_true", help="install the earlier version into its own environment"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(argv)
    start_logging()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    results, failed = [], False
    try:
        with version(options.ref, environment=options.environment) as (python, tree):
            for what in options.what:
                log.info("%s", what)
                try:
                    results.append(compare(options.ref, python, tree, what, options.rounds))
                except VersionError as error:
                    log.error("%s: left out (%s)", what, error)
                    failed = True
    except VersionError as error:
        log.error("error: %s", error)
        return 1
    print(table(options.ref, results))
    if options.json:
        disk.write_text(options.json, json.dumps({"ref": options.ref, "results": results}) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
