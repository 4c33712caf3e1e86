"""Train a config once for each song, without that song, and score the song with it.

    python tools/leave_one_out.py configs/ship.py --songs FOLDER --out runs/folds -- --config.epochs=2

All songs of FOLDER take part, whatever split they lie in. OUT/folds/<song> links to the songs that one
training sees, and to the one it is scored on; OUT/<config>/<song> is its run. What follows `--` goes to
every run. Each trains on all other songs: it is validated on built-in songs, which are generated, and its
last weights are taken. Its song is scored as `vocalsep evaluate --report` does, into `scores` in the run;
OUT/<config>/scores.json and OUT/<config>/table.md have all songs together. Started again, it goes on where
it stopped. With --only, several processes can share the songs; a call without it puts all together.
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

from tools.gather_songs import VALID_SONGS, link, song_folders
from tools.model_card import MODEL, as_model
from tools.run_experiment import ExperimentError, Run, run_python, split_arguments, train
from tools.write_builtin_songs import write_songs
from vocalsep_jax.data.songs import SongError
from vocalsep_jax.evaluation.bootstrap import median_interval
from vocalsep_jax.evaluation.tables import plain
from vocalsep_jax.runtime import disk
from vocalsep_jax.runtime.console import start_logging

log = logging.getLogger(__name__)

COLUMNS = ("vocals_usdr", "accompaniment_usdr", "vocals_sdr", "vocals_sir", "leakage")
"""What is printed; scores.json has all."""


def make_fold(folder: Path, songs: dict[str, Path], left_out: str, builtin: Path) -> None:
    """A folder of songs in splits, as links: all but one to train on, that one as the test."""
    for old in folder.glob("*/*"):  # songs may have been renamed, or taken away
        old.unlink()
    for name, place in songs.items():
        link(folder / ("test" if name == left_out else "train") / name, place)
    for place in sorted((builtin / "valid").iterdir()):
        link(folder / "valid" / place.name, place)


def score(run: Run, data: Path, sample_rate: int) -> dict[str, Any]:
    """Score the song that a run has not heard by all measures, beside all methods.

    Returns:
      What `vocalsep evaluate --report` writes as `scores.json`, in which the checkpoint is called `MODEL`.
      The report is in the run's folder, under `scores`.

    Raises:
      ExperimentError: if that fails.
    """
    report = run.folder / "scores"
    command = ["-m", "vocalsep_jax.evaluate", "--checkpoint", str(run.folder), "--data", str(data)]
    command += ["--sample-rate", str(sample_rate), "--report", str(report)]
    run_python(command, run.log_file)
    content = json.loads((report / "scores.json").read_text(encoding="utf-8"))
    return as_model(content)


def together(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The scores of all songs, each by a model that has not heard it, as `vocalsep evaluate` has them."""
    methods = {
        name: {key: x[key] for key in ("description", "checkpoint")}
        for name, x in parts[0]["methods"].items()
    }
    songs = {song: by_method for part in parts for song, by_method in part["songs"].items()}
    columns = next(iter(songs.values()))[MODEL]
    medians = {
        m: {c: median_interval([song[m][c] for song in songs.values()]) for c in columns} for m in methods
    }
    return {
        "sample_rate": parts[0]["sample_rate"],
        "methods": methods,
        "songs": songs,
        "medians": plain(medians),
    }


def table(scores: dict[str, Any]) -> str:
    """Markdown: for each of `COLUMNS`, a row a song and the medians, a column a method."""
    sections = []
    for column in COLUMNS:
        methods = [m for m, row in scores["medians"].items() if row[column] is not None]
        lines = [f"| {column}, dB | " + " | ".join(methods) + " |", "|---|" + "---|" * len(methods)]
        rows = [
            (song, {m: by_method[m][column] for m in methods})
            for song, by_method in scores["songs"].items()
        ]
        rows.append(("median", {m: scores["medians"][m][column]["median"] for m in methods}))
        for name, row in rows:
            cells = ("" if row[m] is None else f"{row[m]:.2f}" for m in methods)
            lines.append("| " + " | ".join([name, *cells]) + " |")
        sections.append("\n".join(lines))
    return "\n\n".join(sections) + "\n"


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
    if not options.only and failed < len(songs):
        print((options.out / options.config.stem / "table.md").read_text(encoding="utf-8"))
    return 1 if failed else 0


def _leave_out_each(options: argparse.Namespace, songs: dict[str, Path], flags: Sequence[str]) -> int:
    """Train and score without each song, reporting after each; returns how many failed."""
    builtin = options.out / "builtin"
    if not builtin.is_dir():
        try:
            with disk.replacing(builtin) as partial:
                write_songs(partial, *VALID_SONGS)
        except OSError:
            if not builtin.is_dir():  # else another process was faster
                raise
    # By name: songs of MUSDB18's published list would be validated on, too.
    validated = tuple(sorted(place.name for place in (builtin / "valid").iterdir()))
    failed, parts, out = 0, [], options.out / options.config.stem
    for name in options.only or songs:
        fold = options.out / "folds" / name
        make_fold(fold, songs, name, builtin)
        run = Run(options.config, options.seed, out / name)
        given = [f"--config.data.root={fold.resolve()}", f"--config.data.valid_names={validated!r}"]
        given += ["--config.valid.best_by=last", *flags]
        try:
            train(run, given)
            parts.append(score(run, fold, options.sample_rate))
        except ExperimentError as error:
            failed += 1
            log.error("error: without %s: %s", name, error)
            continue
        log.info("without %s: done", name)
        if not options.only:
            scores = together(parts)
            disk.write_text(out / "scores.json", json.dumps(scores, indent=2) + "\n")
            disk.write_text(out / "table.md", table(scores))
    return failed


if __name__ == "__main__":
    sys.exit(main())
