"""Train in small, over and over, disturbed at random moments, and compare each end with an undisturbed one.

    python tools/chaos_train.py OUT --kills 100 --layouts 1x4,2x2,4x1,elastic --seed 0

A layout is processes x devices of each; `elastic` starts every attempt on another one. A run is disturbed
`--faults` times, each attempt once: by one of the faults in `chaos/faults.py`, at a moment drawn from the
seed; then it is started again, until it is done. Of each end, every array of the latest and the best
checkpoint and every line of the history, but for times, must equal those of a run that nothing disturbed
on the same layout, bit for bit; where the layout changed, the losses must within `chaos.ends.ROUNDING`. New
runs are started until `--kills` faults were injected, or `--minutes` have passed; called again, it goes on.
OUT/chaos.json and OUT/table.md say what was injected, and what came of it; the folder of a run that ended
otherwise stays, with the logs of all processes. The exit code is 1 if there is one.

A disk is filled where this may mount one (as root on Linux), and is left out elsewhere.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.chaos.ends import ends_as
from tools.chaos.faults import FAULTS, disturb, fill_disk
from tools.chaos.runs import Run, WrongError, check, finish
from tools.write_builtin_songs import write_songs
from vocalsep_jax.runs.folder import RunError
from vocalsep_jax.runtime import disk
from vocalsep_jax.runtime.console import duration

ELASTIC = "elastic"
_DISK_MEGABYTES = 24
_LONG = ("--config.epochs=20", "--config.checkpoint.every_steps=100")
_SHORT = ("--config.epochs=2", "--config.checkpoint.every_steps=20")
"""Several processes on one machine take far longer for a step."""


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """A small disk, mounted at a folder; None where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MEGABYTES}m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _layout(text: str) -> tuple[int, int]:
    processes, _, devices = text.partition("x")
    return int(processes), int(devices)


@dataclass
class Results:
    """What came of all runs so far, kept in OUT/chaos.json, and as OUT/table.md.

    Attributes:
      runs: how many there were.
      seconds: what an undisturbed one takes, by layout.
      told: layout, what was injected, and what came of it; how often.
      ends: how many ended as an undisturbed one, by layout.
      failures: what went wrong in the others.
    """

    runs: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    told: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    @property
    def faults(self) -> int:
        """How many were injected."""
        return self.told.total()

    @classmethod
    def read(cls, out: Path) -> Results:
        """Those of an earlier call, or none."""
        path = out / "chaos.json"
        if not path.exists():
            return cls()
        x = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            x["runs"],
            x["seconds"],
            Counter({(layout, what, came): n for layout, what, came, n in x["injected"]}),
            Counter(x["ends"]),
            x["failures"],
        )

    def write(self, out: Path) -> None:
        """Keep them."""
        content = {
            "runs": self.runs,
            "seconds": self.seconds,
            "injected": [[*what, n] for what, n in sorted(self.told.items())],
            "ends": dict(self.ends),
            "failures": self.failures,
        }
        disk.write_text(out / "chaos.json", json.dumps(content, indent=2) + "\n")
        disk.write_text(out / "table.md", self.table())

    def table(self) -> str:
        """What was injected, as text."""
        lines = ["| layout | injected | what came of it | times |", "|---|---|---|---|"]
        lines += [
            f"| {layout} | {what} | {came} | {n} |" for (layout, what, came), n in sorted(self.told.items())
        ]
        return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for runs and results")
    parser.add_argument("--kills", type=int, default=100, help="faults in all (default: 100)")
    parser.add_argument("--faults", type=int, default=4, help="faults of a run (default: 4)")
    parser.add_argument("--layouts", default=f"1x4,2x2,4x1,{ELASTIC}", help="default: %(default)s")
    parser.add_argument("--only", default="", help="names of faults, by commas (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--minutes", type=float, default=120.0, help="start no run after that (default: 120)"
    )
    options = parser.parse_args(arguments)

    names = options.only.split(",") if options.only else [fault.__name__ for fault in FAULTS]
    if unknown := set(names) - {fault.__name__ for fault in FAULTS}:
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    layouts = options.layouts.split(",")
    fixed = list(dict.fromkeys(_layout(x) for x in layouts if x != ELASTIC)) or [(1, 4)]

    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "songs").exists():
        write_songs(out / "songs", "train", 3, 4.0, 0)
        write_songs(out / "songs", "valid", 1, 4.0, 1)
    results = Results.read(out)
    begin, before = time.monotonic(), results.faults
    with small_disk(out / "disk") as small:
        faults = [f for f in FAULTS if f.__name__ in names and (small or f is not fill_disk)]
        for name in dict.fromkeys(layouts):
            if name not in results.seconds:
                results.seconds[name] = _undisturbed(out, name)
                results.write(out)
                print(f"{name}, undisturbed: {results.seconds[name]:.0f} s", flush=True)
        while results.faults < options.kills and time.monotonic() - begin < 60 * options.minutes:
            name = layouts[results.runs % len(layouts)]
            run = _new_run(
                out, f"run{results.runs:03d}", name, seed=options.seed + results.runs, small=small
            )
            try:
                for _ in range(min(options.faults, options.kills - results.faults)):
                    if name == ELASTIC:
                        run.layout = run.rng.choice(fixed)
                    if disturb(run, faults, results.seconds[name]):
                        break
                _check_end(run, _reference(out, name), exactly=name != ELASTIC)
                results.ends[name] += 1
                shutil.rmtree(run.folder)
            except (WrongError, RunError, TimeoutError) as error:
                results.failures.append(f"{run.folder.name} ({name}): {error}")
                print(results.failures[-1], flush=True)
                if small and run.place.exists():
                    shutil.copytree(run.place, run.folder / "run")
            if small:
                shutil.rmtree(run.place, ignore_errors=True)
            results.told.update((name, *x) for x in run.told)
            results.runs += 1
            results.write(out)
            each = (time.monotonic() - begin) / max(results.faults - before, 1)
            left = duration(each * (options.kills - results.faults))
            print(f"{results.faults} of {options.kills} faults, {left} left", flush=True)
    print(results.table())
    print(
        f"{results.faults} faults in {results.runs} runs: {results.ends.total()} ends as undisturbed, "
        f"{len(results.failures)} not"
    )
    return 1 if results.failures else 0


def _check_end(run: Run, reference: Path, *, exactly: bool) -> None:
    """Let a run come to its end, and raise WrongError unless it is that of the reference."""
    finish(run)
    different = ends_as(run.place, reference, exactly=exactly)
    check(not different, "; ".join(different[:3]))


def _new_run(out: Path, folder: str, name: str, *, seed: int, small: Path | None) -> Run:
    """A run in a folder of OUT, of a layout by its name; an elastic one begins on one process."""
    place = out / folder
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    shutil.copytree(out / "songs", place / "songs")
    layout = (1, 4) if name == ELASTIC else _layout(name)
    flags = _LONG if layout[0] == 1 and name != ELASTIC else _SHORT
    return Run(place, layout, flags, out / "cache", random.Random(seed), (small or place) / "run")


def _reference(out: Path, name: str) -> Path:
    """The folder of the run that nothing disturbs."""
    return out / f"undisturbed_{name}" / "run"


def _undisturbed(out: Path, name: str) -> float:
    """Make the run that nothing disturbs; the seconds that it takes once its programs are compiled."""
    run = _new_run(out, _reference(out, name).parent.name, name, seed=0, small=None)
    finish(run)
    shutil.rmtree(run.place)
    begin = time.monotonic()
    finish(run)
    return time.monotonic() - begin


if __name__ == "__main__":
    sys.exit(main())
