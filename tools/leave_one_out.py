"""Train a config once for each song, without that song, and score the song with it.

    python tools/leave_one_out.py configs/ship.py --songs FOLDER --out runs/folds -- --config.epochs=2

All songs of FOLDER take part, whatever split they lie in. OUT/folds/<song> links to the songs that one
training sees, and to the one it is scored on; OUT/<config>/<song> is its run. What follows `--` goes to
every run. Each trains on all other songs: it is validated on built-in songs, which are generated, and its
last weights are taken. OUT/<config>/scores.json and OUT/<config>/table.md are written anew after each song.
Started again, it goes on where it stopped; with --only, several processes can share the songs.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np

from tools.gather_songs import VALID_SONGS, link, song_folders
from tools.run_experiment import ExperimentError, Run, score, split_arguments, train
from tools.write_builtin_songs import write_songs
from vocalsep_jax.data.songs import SongError
from vocalsep_jax.runtime import disk
from vocalsep_jax.runtime.console import start_logging

log = logging.getLogger(__name__)

COLUMNS = ("mixture", "estimate", "ideal", "leakage")


def make_fold(folder: Path, songs: dict[str, Path], left_out: str, builtin: Path) -> None:
    """A folder of songs in splits, as links: all but one to train on, that one as the test."""
    for name, place in songs.items():
        link(folder / ("test" if name == left_out else "train") / name, place)
    for place in sorted((builtin / "valid").iterdir()):
        link(folder / "valid" / place.name, place)


def table(scores: dict[str, dict[str, float | None]]) -> str:
    """Markdown: a row a song, and the medians."""
    lines = ["| song | " + " | ".join(COLUMNS) + " |", "|---|" + "---|" * len(COLUMNS)]
    median = {c: _median([s.get(c) for s in scores.values()]) for c in COLUMNS}
    for name, row in [*scores.items(), ("median", median)]:
        cells = ["" if row.get(c) is None else f"{row[c]:.2f}" for c in COLUMNS]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines) + "\n"


def _median(values: Sequence[Any]) -> float | None:
    known = [x for x in values if x is not None]
    return float(np.median(known)) if known else None


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0 all done, 1 some failed, 2 wrong usage, 130 interrupted."""
    parser = argparse.ArgumentParser(
        prog="python tools/leave_one_out.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=Path, metavar="CONFIG")
    parser.add_argument("--songs", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=[], metavar="SONG", help="leave out only these")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    parser.add_argument("--sample-rate", type=int, default=44_100, metavar="HZ", help="(%(default)s)")
    own, flags = split_arguments(sys.argv[1:] if argv is None else argv)
    options = parser.parse_args(own)
    start_logging("%(asctime)s %(message)s")
    if not options.config.is_file():
        parser.error(f"no such config: {options.config}")
    try:
        songs = song_folders(options.songs)
    except SongError as error:
        parser.error(str(error))
    if unknown := [name for name in options.only if name not in songs]:
        parser.error(f"no song called {unknown[0]!r}; there are {', '.join(songs)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        failed = _leave_out_each(options, songs, flags)
    except (OSError, SongError) as error:
        log.error("error: %s", error)
        return 1
    except KeyboardInterrupt:
        log.error("interrupted; the same command goes on from there")
        return 130
    print((options.out / options.config.stem / "table.md").read_text(encoding="utf-8"))
    return 1 if failed else 0


def _leave_out_each(options: argparse.Namespace, songs: dict[str, Path], flags: Sequence[str]) -> int:
    """Train and score without each song, reporting after each; returns how many failed."""
    builtin = options.out / "builtin"
    if not (builtin / "valid").is_dir():
        with disk.replacing(builtin) as partial:
            write_songs(partial, *VALID_SONGS)
    failed = 0
    for name in options.only or songs:
        fold = options.out / "folds" / name
        make_fold(fold, songs, name, builtin)
        run = Run(options.config, options.seed, options.out / options.config.stem / name)
        given = [f"--config.data.root={fold.resolve()}", "--config.valid.best_by=last", *flags]
        try:
            train(run, given)
            score(run, fold, options.sample_rate, ["--leakage"])
        except ExperimentError as error:
            failed += 1
            log.error("error: without %s: %s", name, error)
        report(options.out / options.config.stem, songs)
        log.info("without %s: done", name)
    return failed


def report(out: Path, songs: Sequence[str] | dict[str, Path]) -> None:
    """Write what is scored so far: `scores.json` and `table.md`."""
    scores: dict[str, dict[str, float | None]] = {}
    for name in songs:
        path = out / name / "test.json"
        if path.exists():
            scores |= json.loads(path.read_text(encoding="utf-8"))["songs"]
    disk.write_text(out / "scores.json", json.dumps(scores, indent=2) + "\n")
    disk.write_text(out / "table.md", table(scores))


if __name__ == "__main__":
    sys.exit(main())
