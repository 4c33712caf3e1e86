"""Train several configs with several seeds, and compare them in a table and a plot.

    python tools/run_experiment.py configs/a.py configs/b.py --seeds 0 1 2 --out runs/experiment \
        --test FOLDER -- --config.data.root=FOLDER

trains OUT/<config>/seed<n> for each, one after the other, all configs with the first seed before any with
the next. What follows `--` goes to every run. With --test, each run's best checkpoint is scored on the test
songs there, all at one sample rate. OUT/results.json, OUT/table.md and OUT/curves.png are written anew
after each run. Started again, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np

from vocalsep_jax.config import Config
from vocalsep_jax.runs.folder import RunError, config_path
from vocalsep_jax.runs.history import read_history
from vocalsep_jax.runs.record import RunRecord, read_record
from vocalsep_jax.runtime import disk
from vocalsep_jax.runtime.console import duration, start_logging
from vocalsep_jax.training import figures

log = logging.getLogger(__name__)

COLUMNS = {
    "loss": "validation loss",
    "dice": "validation DICE",
    "soft_dice": "validation soft DICE",
    "sdr": "validation uSDR, dB",
    "test_sdr": "test uSDR, dB",
}
_NOTE = """
Mean over seeds, and range. Validation values are those of the last epoch, at the config's own sample rate
and STFT: loss, DICE and validation uSDR compare only within one domain. Test uSDR is of the best checkpoint
(by validation loss), {where}.
"""


class ExperimentError(Exception):
    """A run failed; the message says which and why."""


@dataclass(frozen=True)
class Run:
    """One config trained with one seed.

    Attributes:
      config: the config's file.
      seed: its seed.
      folder: where the run is.
    """

    config: Path
    seed: int
    folder: Path

    @property
    def log_file(self) -> Path:
        """What training and scoring say."""
        return self.folder.with_name(f"{self.folder.name}.log")


def train(run: Run, flags: Sequence[str]) -> None:
    """Train one run, or go on with it.

    Raises:
      ExperimentError: if it fails, or ends before its last epoch.
    """
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    command = ["-m", "vocalsep_jax.main", "--config", str(run.config), "--workdir", str(run.folder)]
    run_python([*command, f"--config.seed={run.seed}", *flags], run.log_file)
    if finished(run.folder) is None:
        raise ExperimentError("stopped before its last epoch; start the experiment again to go on")


class Record(NamedTuple):
    """What a run tells of itself.

    Attributes:
      content: its `config.json`.
      history: its lines.
    """

    content: RunRecord
    history: list[dict[str, Any]]


def finished(folder: Path) -> Record | None:
    """What a run tells once it has been validated after its last epoch; None before."""
    if not config_path(folder).exists():
        return None
    record = Record(read_record(folder), read_history(folder))
    epochs = record.content.config.epochs
    done = any(line["kind"] == "valid" and line["epoch"] == epochs for line in record.history)
    return record if done else None


def score(run: Run, data: Path, sample_rate: int) -> None:
    """Score the test songs with one run, into its `test.json`, unless these scores are there.

    Raises:
      ExperimentError: if that fails.
    """
    path, wanted = run.folder / "test.json", {"data": str(data), "sample_rate": sample_rate}
    if path.exists():
        there = json.loads(path.read_text(encoding="utf-8"))
        if {name: there.get(name) for name in wanted} == wanted:
            return
    with tempfile.TemporaryDirectory() as folder:
        scores = Path(folder) / "scores.json"
        command = ["-m", "vocalsep_jax.evaluate", "--checkpoint", str(run.folder), "--data", str(data)]
        command += ["--sample-rate", str(sample_rate), "--json", str(scores)]
        run_python(command, run.log_file)
        songs = json.loads(scores.read_text(encoding="utf-8"))
    disk.write_text(path, json.dumps(wanted | {"songs": songs}, indent=2) + "\n")


def run_python(arguments: Sequence[str], log_file: Path) -> None:
    """Run Python, with this code base in reach, in the caller's folder."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    }
    with log_file.open("a", encoding="utf-8") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments], env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGTERM)  # it saves, and stops
            process.wait()
            raise
    if code:
        lines = log_file.read_text(encoding="utf-8").splitlines() or ["(it said nothing)"]
        raise ExperimentError(f"exit code {code}: {lines[-1]} (see {log_file})")


def measure(folder: Path, history: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Qualities of a finished run at its last validation, and its median test score."""
    last = [line for line in history if line["kind"] == "valid"][-1]
    values = {name: last[name] for name in COLUMNS if name in last}
    path = folder / "test.json"
    if path.exists():
        songs = json.loads(path.read_text(encoding="utf-8"))["songs"]
        # A song whose vocals are silent has no score.
        if scores := [x for song in songs.values() if (x := song["estimate"]) is not None]:
            values["test_sdr"] = float(np.median(scores))
    return values


def domain(config: Config) -> str:
    """What the numbers of a run are comparable within: sample rate and STFT."""
    return f"{config.audio.sample_rate} Hz, {config.audio.n_fft}/{config.audio.hop}"


def table(results: dict[str, dict[str, Any]]) -> str:
    """Markdown: a row a config, with mean and range over its seeds of each of `COLUMNS`.

    Args:
      results: for each config its `domain` and, under `runs`, the values of each seed.
    """
    used = [c for c in COLUMNS if any(c in v for r in results.values() for v in r["runs"].values())]
    lines = ["| config | domain | seeds | " + " | ".join(COLUMNS[c] for c in used) + " |"]
    lines.append("|---|---|---|" + "---|" * len(used))
    for config, result in results.items():
        cells = [config, result["domain"], str(len(result["runs"]))]
        for column in used:
            values = [v[column] for v in result["runs"].values() if column in v]
            cells.append(
                f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})" if values else ""
            )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def report(out: Path, planned: Sequence[Run], test: str) -> None:
    """Write what is finished so far: `results.json`, `table.md`, `curves.png`."""
    results: dict[str, dict[str, Any]] = {}
    histories: dict[str, list[Any]] = {}
    songs = set()
    for run in planned:
        record = finished(run.folder)
        if record is None:
            continue
        entry = results.setdefault(run.config.stem, {"domain": domain(record.content.config), "runs": {}})
        entry["runs"][str(run.seed)] = measure(run.folder, record.history)
        histories.setdefault(f"{run.config.stem} ({entry['domain']})", []).append(record.history)
        split = record.content.songs
        songs.add(json.dumps({name: [song for song, _ in split[name]] for name in ("train", "valid")}))
    if len(songs) > 1:
        log.warning(
            "the runs were not all trained and validated on the same songs, so that seeds do not compare; "
            "name the validation songs: -- --config.data.valid_names=\"('Artist - Title',)\""
        )
    seeds = sorted({run.seed for run in planned})
    title = f"{out.name}: mean and range over seeds {', '.join(map(str, seeds))}"
    disk.write_text(out / "results.json", json.dumps(results, indent=2) + "\n")
    disk.write_text(out / "table.md", table(results) + _NOTE.format(where=test))
    figures.save(figures.draw(figures.comparison(histories, title)), out / "curves.png")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0 all done, 1 some failed, 2 wrong usage, 130 interrupted."""
    parser = argparse.ArgumentParser(
        prog="python tools/run_experiment.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("configs", nargs="+", type=Path, metavar="CONFIG")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--test", type=Path, metavar="FOLDER", help="songs to score the runs on")
    parser.add_argument(
        "--sample-rate", type=int, default=44_100, metavar="HZ", help="of these scores (%(default)s)"
    )
    own, flags = split_arguments(sys.argv[1:] if argv is None else argv)
    options = parser.parse_args(own)
    start_logging("%(asctime)s %(message)s")
    names = [path.stem for path in options.configs]
    if missing := [str(path) for path in options.configs if not path.is_file()]:
        parser.error(f"no such config: {', '.join(missing)}")
    if len(set(names)) < len(names):
        parser.error("two configs have the same file name")
    planned = [
        Run(path, seed, options.out / path.stem / f"seed{seed}")
        for seed in options.seeds
        for path in options.configs
    ]
    test = (
        f"of the songs in {options.test}, at {options.sample_rate} Hz" if options.test else "not asked for"
    )
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # stopping is one thing, however it is asked for
    try:
        failed = _run_all(planned, options, flags, test)
    except (OSError, RunError) as error:
        log.error("error: %s", error)
        return 1
    except KeyboardInterrupt:
        log.error("interrupted; the same command goes on from there")
        return 130
    print((options.out / "table.md").read_text(encoding="utf-8"))
    return 1 if failed else 0


def _run_all(planned: Sequence[Run], options: argparse.Namespace, flags: Sequence[str], test: str) -> int:
    """Train and score all runs, reporting after each; returns how many failed."""
    failed, begin = 0, time.monotonic()
    for number, run in enumerate(planned, start=1):
        try:
            train(run, flags)
            if options.test:
                score(run, options.test, options.sample_rate)
        except ExperimentError as error:
            failed += 1
            log.error("error: %s, seed %d: %s", run.config.stem, run.seed, error)
        report(options.out, planned, test)
        left = (time.monotonic() - begin) / number * (len(planned) - number)
        log.info(
            "[%d/%d] %s, seed %d; %s left", number, len(planned), run.config.stem, run.seed, duration(left)
        )
    return failed


def split_arguments(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our own arguments, and those after `--` for the runs."""
    place = list(argv).index("--") if "--" in argv else len(argv)
    return list(argv[:place]), list(argv[place + 1 :])


if __name__ == "__main__":
    sys.exit(main())
