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
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np

from vocalsep_jax import files, plots
from vocalsep_jax.console import start_logging
from vocalsep_jax.monitoring import duration, read_history

log = logging.getLogger(__name__)

COLUMNS = {
    "loss": "validation loss",
    "dice": "validation DICE",
    "soft_dice": "validation soft DICE",
    "sdr": "validation uSDR, dB",
    "test_sdr": "test uSDR, dB",
}


class ExperimentError(Exception):
    """A run failed; the message says which and why."""


def train(config: Path, seed: int, run: Path, flags: Sequence[str]) -> None:
    """Train one run, or go on with it; what it says goes to `run.log` beside its folder.

    Raises:
      ExperimentError: if it fails.
    """
    command = ["-m", "vocalsep_jax.main", "--config", str(config), "--workdir", str(run)]
    _python([*command, f"--config.seed={seed}", *flags], run.with_suffix(".log"))


def score(run: Path, data: str, sample_rate: int) -> None:
    """Score the test songs with one run, into its `test.json`, unless that is there.

    Raises:
      ExperimentError: if that fails.
    """
    path = run / "test.json"
    if not path.exists():
        command = ["-m", "vocalsep_jax.evaluate", "--checkpoint", str(run), "--data", data]
        command += ["--sample-rate", str(sample_rate), "--json", str(path)]
        _python(command, run.with_suffix(".log"))


def _python(arguments: Sequence[str], log_file: Path) -> None:
    with log_file.open("a", encoding="utf-8") as output:
        result = subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, check=False
        )
    if result.returncode:
        lines = log_file.read_text(encoding="utf-8").splitlines() or ["(it said nothing)"]
        raise ExperimentError(f"exit code {result.returncode}: {lines[-1]} (see {log_file})")


def measure(run: Path) -> dict[str, float] | None:
    """The last validation's qualities of a run, and its median test score; None before the first."""
    valid = [line for line in read_history(run) if line["kind"] == "valid"]
    if not valid:
        return None
    values = {name: valid[-1][name] for name in COLUMNS if name in valid[-1]}
    path = run / "test.json"
    if path.exists():
        songs = json.loads(path.read_text(encoding="utf-8"))
        values["test_sdr"] = float(np.median([song["estimate"] for song in songs.values()]))
    return values


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """Markdown: a row a config, with mean and range over its seeds of each of `COLUMNS`."""
    used = [c for c in COLUMNS if any(c in v for runs in results.values() for v in runs.values())]
    lines = ["| config | seeds | " + " | ".join(COLUMNS[c] for c in used) + " |"]
    lines.append("|---|---|" + "---|" * len(used))
    for config, runs in results.items():
        cells = [config, str(len(runs))]
        for column in used:
            values = [v[column] for v in runs.values() if column in v]
            cells.append(
                f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})" if values else ""
            )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def report(out: Path, configs: Sequence[str], seeds: Sequence[int], title: str) -> None:
    """Write what there is so far: `results.json`, `table.md`, `curves.png`."""
    results: dict[str, dict[str, Any]] = {}
    histories: dict[str, list[Any]] = {}
    for config in configs:
        for seed in seeds:
            run = out / config / f"seed{seed}"
            if values := measure(run):
                results.setdefault(config, {})[str(seed)] = values
                histories.setdefault(config, []).append(read_history(run))
    files.write_text(out / "results.json", json.dumps(results, indent=2) + "\n")
    files.write_text(out / "table.md", table(results))
    plots.save(plots.draw(plots.comparison(histories, title)), out / "curves.png")


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
    parser.add_argument("--test", metavar="FOLDER", help="songs to score the runs on")
    parser.add_argument(
        "--sample-rate", type=int, default=44_100, metavar="HZ", help="of these scores (%(default)s)"
    )
    own, flags = _split(sys.argv[1:] if argv is None else argv)
    options = parser.parse_args(own)
    start_logging("%(asctime)s %(message)s")
    names = [path.stem for path in options.configs]
    if missing := [str(path) for path in options.configs if not path.is_file()]:
        parser.error(f"no such config: {', '.join(missing)}")
    if len(set(names)) < len(names):
        parser.error("two configs have the same file name")

    title = f"{options.out.name}: mean and range over seeds {', '.join(map(str, options.seeds))}"
    jobs = [(path, seed) for seed in options.seeds for path in options.configs]
    failed, begin = 0, time.monotonic()
    try:
        for number, (config, seed) in enumerate(jobs, start=1):
            run = options.out / config.stem / f"seed{seed}"
            run.parent.mkdir(parents=True, exist_ok=True)
            try:
                train(config, seed, run, flags)
                if options.test:
                    score(run, options.test, options.sample_rate)
            except ExperimentError as error:
                failed += 1
                log.error("error: %s, seed %d: %s", config.stem, seed, error)
            report(options.out, names, options.seeds, title)
            left = (time.monotonic() - begin) / number * (len(jobs) - number)
            log.info("[%d/%d] %s, seed %d; %s left", number, len(jobs), config.stem, seed, duration(left))
    except OSError as error:
        log.error("error: %s: %s", error.filename or options.out, error.strerror)
        return 1
    except KeyboardInterrupt:
        log.error("interrupted; the same command goes on from there")
        return 130
    print((options.out / "table.md").read_text(encoding="utf-8"))
    return 1 if failed else 0


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our own arguments, and those after `--` for the runs."""
    place = list(argv).index("--") if "--" in argv else len(argv)
    return list(argv[:place]), list(argv[place + 1 :])


if __name__ == "__main__":
    sys.exit(main())
