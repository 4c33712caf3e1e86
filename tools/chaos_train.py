"""Train in small, over and over, disturbed at random moments, and compare each end with an undisturbed one.

    python tools/chaos_train.py OUT --kills 100 --layouts 1x4,2x2,4x1,elastic --seed 0

A layout is processes x devices of each; `elastic` starts every attempt on another one. A run is disturbed
`--faults` times, each attempt once: by one of `FAULTS`, at a moment drawn from the seed; then it is started
again, until it is done. Of each end, every array of the latest and the best checkpoint and every line of
the history, but for times, must equal those of a run that nothing disturbed on the same layout, bit for
bit; where the layout changed, the losses must within `ROUNDING`. New runs are started until `--kills`
faults were injected, or `--minutes` have passed; called again, it goes on. OUT/chaos.json and OUT/table.md
say what was injected, and what came of it; the folder of a run that ended otherwise stays, with the logs of
all processes. The exit code is 1 if there is one.

A disk is filled where this may mount one (as root on Linux), and is left out elsewhere.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import jax
import numpy as np

from tools.write_builtin_songs import write_songs
from vocalsep_jax.runs.checkpoints import KINDS, read_item
from vocalsep_jax.runs.folder import RunError, checkpoint_folder
from vocalsep_jax.runs.history import history_path, read_history
from vocalsep_jax.runtime import disk
from vocalsep_jax.runtime.console import duration

ELASTIC = "elastic"
PEER_TIMEOUT = 20
"""Seconds after which a process that does not answer is given up."""
ROUNDING = 2e-2
"""Relative, of losses, between runs on other numbers of devices. It grows from 1e-7: AdamW divides by the
size of gradients, of which some are near zero."""
_TIMES = ("patches_per_second", "data_wait_fraction", "seconds")
_HUNG = 240.0
_DISK_MEGABYTES = 24
_CONFIG = ("--config.patches_per_epoch=640", "--config.log_every_steps=5", f"--peer_timeout={PEER_TIMEOUT}")
_LONG = ("--config.epochs=20", "--config.checkpoint.every_steps=100")
_SHORT = ("--config.epochs=2", "--config.checkpoint.every_steps=20")
"""Several processes on one machine take far longer for a step."""


@dataclass
class Attempt:
    """The processes of one start of a run.

    Attributes:
      processes: they.
      logs: the file of each, with what it said.
    """

    processes: list[subprocess.Popen[bytes]]
    logs: list[Path]

    def running(self) -> bool:
        """Whether any process is."""
        return any(process.poll() is None for process in self.processes)

    def codes(self, within: float = _HUNG) -> list[int]:
        """Wait for all to end; their exit codes, a negative one for a signal. TimeoutError if they hang."""
        end = time.monotonic() + within
        try:
            return [process.wait(max(0.0, end - time.monotonic())) for process in self.processes]
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise TimeoutError(f"did not end within {within:.0f} s") from error

    def kill(self) -> None:
        """End all at once."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()

    def trains(self) -> bool:
        """Whether it takes steps already."""
        return "first step" in self.said()

    def said(self) -> str:
        """All that the processes said."""
        return "".join(path.read_text(encoding="utf-8", errors="replace") for path in self.logs)


@dataclass
class Run:
    """A run that is disturbed.

    Attributes:
      folder: of the run's own folder, its songs and its logs.
      layout: `(processes, devices of each)` of the next attempt.
      flags: how long it is.
      cache: folder of prepared songs.
      rng: draws what happens, and when.
      place: where the run's folder is; on a disk that can be filled, if there is one.
      told: what was injected, and what came of it.
    """

    folder: Path
    layout: tuple[int, int]
    flags: tuple[str, ...]
    cache: Path
    rng: random.Random
    place: Path
    told: list[tuple[str, str]] = field(default_factory=list)
    attempts: int = 0

    @property
    def songs(self) -> Path:
        """The folder of its songs."""
        return self.folder / "songs"

    @property
    def latest(self) -> list[Path]:
        """Its latest checkpoints, the last at the end."""
        found = (checkpoint_folder(self.place) / "latest").glob("[0-9]*")
        return sorted((p for p in found if p.name.isdigit()), key=lambda p: int(p.name))

    def start(self) -> Attempt:
        """Start it, or go on with it."""
        processes, devices = self.layout
        self.attempts += 1
        together = []
        if processes > 1:
            together = [f"--coordinator=localhost:{_free_port()}", f"--processes={processes}"]
        environment = os.environ | {
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
            "TF_CPP_MIN_LOG_LEVEL": "2",
        }
        attempt = Attempt([], [])
        for number in range(processes):
            log = self.folder / f"attempt{self.attempts:02d}_process{number}.log"
            command = [sys.executable, "-m", "vocalsep_jax.main", "--config=configs/smoke.py"]
            command += [*_CONFIG, *self.flags]
            command += [f"--workdir={self.place}", f"--config.data.root={self.songs}"]
            command += [f"--config.data.cache={self.cache}", *together]
            command += [f"--process_id={number}"] if together else []
            with log.open("wb") as file:
                attempt.processes.append(
                    subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file)
                )
            attempt.logs.append(log)
        return attempt


class WrongError(Exception):
    """Something did not go as promised; the message says what."""


def check(right: bool, what: str) -> None:
    """Raise WrongError, unless it is right."""
    if not right:
        raise WrongError(what)


def kill_one(run: Run, attempt: Attempt) -> str:
    """SIGKILL to one process: all end."""
    return _ended_by(run, attempt, signal.SIGKILL)


def kill_all(run: Run, attempt: Attempt) -> str:
    """SIGKILL to all processes."""
    del run
    attempt.kill()
    return "ended"


def terminate_one(run: Run, attempt: Attempt) -> str:
    """SIGTERM to one process: all save and stop at the same step."""
    return _asked_to_stop(run, attempt, signal.SIGTERM)


def interrupt_one(run: Run, attempt: Attempt) -> str:
    """Ctrl-C for one process: all save and stop at the same step."""
    return _asked_to_stop(run, attempt, signal.SIGINT)


def pause_one(run: Run, attempt: Attempt) -> str:
    """SIGSTOP to one process for a moment: all go on."""
    one = run.rng.choice(attempt.processes)
    one.send_signal(signal.SIGSTOP)
    time.sleep(run.rng.uniform(0.1, 0.3 * PEER_TIMEOUT))
    one.send_signal(signal.SIGCONT)
    check(set(attempt.codes()) == {0}, "a pause ended the run")
    return "went on"


def hang_one(run: Run, attempt: Attempt) -> str:
    """SIGSTOP to one process for long: the others end with an error; so does it when it goes on."""
    if len(attempt.processes) == 1:
        return pause_one(run, attempt)
    one = run.rng.choice(attempt.processes)
    one.send_signal(signal.SIGSTOP)
    others = Attempt([p for p in attempt.processes if p is not one], [])
    begin = time.monotonic()
    codes = others.codes(within=60 + 4 * PEER_TIMEOUT)
    waited = time.monotonic() - begin
    one.send_signal(signal.SIGCONT)
    if set(codes) == {0}:  # they were done
        attempt.kill()
        return "was done"
    check(0 not in attempt.codes(), "a process was done without the others")
    return f"the others ended within {10 * (1 + waited // 10):.0f} s"


def damage_latest(run: Run, attempt: Attempt) -> str:
    """SIGKILL, and a file of the latest checkpoint changed, cut or lost: the one before is taken."""
    attempt.kill()
    if len(run.latest) < 2:
        return "ended (there was no second checkpoint yet)"
    file = run.rng.choice(sorted(p for p in (run.latest[-1] / "model").rglob("*") if p.is_file()))
    content = bytearray(file.read_bytes())
    how = run.rng.choice(["changed", "cut", "lost"])
    if how == "lost" or not content:
        file.unlink()
    elif how == "cut":
        file.write_bytes(content[: run.rng.randrange(len(content))])
    else:
        content[run.rng.randrange(len(content))] ^= 1 << run.rng.randrange(8)
        file.write_bytes(content)
    step = run.latest[-2].name
    return _looked_for(run, f"resuming {run.place} at step {step}", "the checkpoint before was taken")


def tear_history(run: Run, attempt: Attempt) -> str:
    """SIGKILL, and a line of the history half written: it is left out."""
    attempt.kill()
    if not history_path(run.place).exists():
        return "ended (there was no history yet)"
    with history_path(run.place).open("a", encoding="utf-8") as file:
        file.write('{"kind": "train", "st')
    return "left out"


def start_twice(run: Run, attempt: Attempt) -> str:
    """A second start in the same folder: it is refused, and the first goes on."""
    if not attempt.trains():  # before that, either may be the first
        return pause_one(run, attempt)
    second = run.start()
    codes = second.codes()
    if attempt.running():
        check(set(codes) == {1} or 0 not in codes, f"a second start ended with {codes}")
        check("another training is running there" in second.said(), "a second start was not told why")
        came = "refused"
    else:
        came = "was done"
    check(set(attempt.codes()) == {0}, "a second start ended the first")
    return came


def fill_disk(run: Run, attempt: Attempt) -> str:
    """Fill the disk: the run ends with one line, and loses no checkpoint."""
    before = {p.name for p in run.latest[:-1]}
    filler = run.place.parent / "filler"
    try:
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        codes = attempt.codes()
        said = attempt.said()
    finally:
        filler.unlink()
    if set(codes) == {0}:
        return "was done"
    check(0 not in codes, f"a full disk ended with {codes}")
    check("o space left" in said or "RESOURCE_EXHAUSTED" in said, "a full disk was not named")
    check(bool(run.latest) or not before, "a full disk cost the checkpoints")
    return "ended with an error"


def take_songs_away(run: Run, attempt: Attempt) -> str:
    """Remove the songs under way: the run has them in memory, and goes on."""
    if not attempt.trains():
        return pause_one(run, attempt)
    away = run.folder / "songs_away"
    run.songs.rename(away)
    try:
        check(set(attempt.codes()) == {0}, "a run that had its songs in memory missed them")
    finally:
        away.rename(run.songs)
    return "went on"


FAULTS: tuple[Callable[[Run, Attempt], str], ...] = (
    kill_one,
    kill_all,
    terminate_one,
    interrupt_one,
    pause_one,
    hang_one,
    damage_latest,
    tear_history,
    start_twice,
    fill_disk,
    take_songs_away,
)
"""What can happen to a run. Each gets an attempt under way, sees it end, and says what came of it."""


def _ended_by(run: Run, attempt: Attempt, number: int) -> str:
    one = run.rng.choice(attempt.processes)
    one.send_signal(number)
    codes = attempt.codes()
    return "was done" if 0 in codes else "all ended"


def _asked_to_stop(run: Run, attempt: Attempt, number: int) -> str:
    ready = attempt.trains()
    run.rng.choice(attempt.processes).send_signal(number)
    codes = attempt.codes()
    if not ready or set(codes) == {0}:  # while it starts it may end at once
        return "ended" if 0 not in codes else "was done"
    check(set(codes) <= {128 + signal.SIGTERM, 128 + number}, f"asked to stop, it ended with {codes}")
    step = run.latest[-1].name
    check(f"at step {step}, saved" in attempt.said(), f"stopped at another step than {step}")
    return "saved, stopped together"


def _looked_for(run: Run, text: str, means: str) -> str:
    """Start the run, see that it says something, and kill it."""
    attempt = run.start()
    end = time.monotonic() + _HUNG
    while text not in attempt.said() and attempt.running() and time.monotonic() < end:
        time.sleep(0.1)
    said = attempt.said()
    attempt.kill()
    check(text in said, f"it did not say {text!r}")
    return means


def disturb(run: Run, faults: Sequence[Callable[[Run, Attempt], str]], seconds: float) -> bool:
    """Start the run and disturb it at a moment within so many seconds; whether it was done before."""
    attempt = run.start()
    fault = run.rng.choice(faults)
    moment = time.monotonic() + run.rng.uniform(0.0, seconds)
    try:
        while attempt.running() and time.monotonic() < moment:
            time.sleep(0.02)
        if all(process.poll() is None for process in attempt.processes):
            run.told.append((fault.__name__, fault(run, attempt)))
            return False
        check(set(attempt.codes()) == {0}, "it ended by itself, and not well")
        return True
    finally:
        for process in attempt.processes:
            if process.poll() is None:
                process.kill()


def finish(run: Run) -> None:
    """Start the run a last time, and let it come to its end."""
    check(set(run.start().codes()) == {0}, "undisturbed, it did not come to its end")


def ends_as(place: Path, reference: Path, *, exactly: bool) -> list[str]:
    """In what the end of a run differs from that of another."""
    different = []
    mine, other = read_history(place), read_history(reference)
    if [(x["kind"], x["step"]) for x in mine] != [(x["kind"], x["step"]) for x in other]:
        return ["the history has other lines"]
    for a, b in zip(mine, other, strict=True):
        names = (a.keys() | b.keys()) - set(_TIMES) if exactly else {"loss"}
        different += [
            f"{a['kind']} at step {a['step']}: {name} {a.get(name)}, not {b.get(name)}"
            for name in sorted(names)
            if not _same(a.get(name), b.get(name), exactly=exactly)
        ]
    if exactly:
        for kind in KINDS:
            arrays, wanted = (_arrays(checkpoint_folder(x) / kind) for x in (place, reference))
            different += [
                f"{kind}: {name}"
                for name in arrays.keys() | wanted.keys()
                if name not in arrays
                or name not in wanted
                or not np.array_equal(arrays[name], wanted[name])
            ]
    return different


def _arrays(folder: Path) -> dict[str, np.ndarray]:
    """All arrays of the last checkpoint in a folder of them, by name."""
    last = max((p for p in folder.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
    items = {item: read_item(last, item) for item in ("model", "training")}
    return {
        f"{last.name}{jax.tree_util.keystr(k)}": np.asarray(x) for k, x in jax.tree.leaves_with_path(items)
    }


def _same(a: Any, b: Any, *, exactly: bool) -> bool:
    if exactly:
        return bool(a == b)
    return isinstance(a, float) and isinstance(b, float) and abs(a - b) <= ROUNDING * abs(b)


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


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return int(free.getsockname()[1])


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
                finish(run)
                different = ends_as(run.place, _reference(out, name), exactly=name != ELASTIC)
                check(not different, "; ".join(different[:3]))
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
