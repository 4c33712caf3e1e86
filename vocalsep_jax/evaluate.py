"""Scores of checkpoints on songs whose stems are known.

    vocalsep evaluate --checkpoint RUN --data ROOT
    python -m vocalsep_jax.evaluate --checkpoint RUN --data ROOT

prints, for each song, the vocals' uSDR (whole song, all channels) of the mixture taken as the voice, of
silence (0 dB), of the checkpoint, and of the ideal ratio mask at the checkpoint's STFT. With
`--metrics all` there are BSSEval v4 and more, for vocals and accompaniment, beside methods that need no
training; with `--report FOLDER`, a page to look at and to listen to.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import importlib.util
import json
import logging
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vocalsep_jax.runtime.huge_pages import restart_with_huge_pages

if __name__ == "__main__":
    restart_with_huge_pages()  # before anything that takes time to import

from vocalsep_jax.audio.files import AudioError
from vocalsep_jax.data import songs as song_files
from vocalsep_jax.runs.folder import RunError, find_checkpoint, find_run, package_versions
from vocalsep_jax.runtime import disk
from vocalsep_jax.runtime.console import one_line, say, start_logging, terminated_as_interrupted
from vocalsep_jax.separation.arguments import CHECKPOINT, add_separator_options, separator_options
from vocalsep_jax.separation.separator import Separator

log = logging.getLogger(__name__)

METRICS = ("usdr", "all")
_TITLE = "vocals uSDR, dB"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vocalsep evaluate",
        description="Scores in dB of checkpoints on songs with known stems.",
        epilog="Exit code: 0 all songs scored, 1 some failed, 2 wrong usage, 130 interrupted.",
    )
    parser.add_argument(
        "--checkpoint",
        action="append",
        metavar="RUN",
        help=f"{CHECKPOINT} (the default one of those); given several times, they are compared",
    )
    parser.add_argument("--data", required=True, metavar="ROOT", help="folder of songs")
    parser.add_argument(
        "--split", default="test", choices=song_files.SPLITS, help="which songs (%(default)s)"
    )
    parser.add_argument(
        "--metrics",
        choices=METRICS,
        help="usdr: a quick table of the vocals' uSDR, the default; all: BSSEval v4, PES and leakage, of "
        "both stems, beside REPET-SIM, HPSS and ideal masks, the default with --report",
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FOLDER",
        help="write FOLDER/index.html, scores.csv, frames.csv and scores.json; called again, it goes on",
    )
    parser.add_argument("-j", "--jobs", type=int, default=1, help="songs scored at once (%(default)s)")
    add_separator_options(parser)
    parser.add_argument(
        "--leakage",
        action="store_true",
        help="also separate the accompaniment alone: what is then taken for voice, in dB relative to it "
        "(always with --metrics all)",
    )
    parser.add_argument(
        "--sample-rate",
        type=int,
        metavar="HZ",
        help="rate the scores are taken at (the model's; of several models, the highest)",
    )
    parser.add_argument("--json", metavar="FILE", help="write the scores there too")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = _parser().parse_args(arguments)
    options.command = shlex.join(["vocalsep", "evaluate", *arguments])
    start_logging()
    with terminated_as_interrupted():
        try:
            return _run(options)
        except KeyboardInterrupt:
            log.error("interrupted%s", "; the same command goes on from there" if options.report else "")
            return 130


def _run(options: argparse.Namespace) -> int:
    from vocalsep_jax.evaluation.methods import distinct_names
    from vocalsep_jax.runs.record import read_record
    from vocalsep_jax.runtime.compile_cache import use_compile_cache

    use_compile_cache()
    try:
        _check(options)
        paths = [find_checkpoint(given) for given in options.checkpoint or [None]]
        names = distinct_names(paths)
        records = [read_record(find_run(path)).songs for path in paths]
        trained, validated = ([[n for n, _ in r.get(s, [])] for r in records] for s in ("train", "valid"))
        chosen = _songs(options.data, options.split, validated[0])
        separators = {
            name: Separator(path, **separator_options(options))
            for name, path in zip(names, paths, strict=True)
        }
    except (RunError, song_files.SongError, ValueError) as error:
        log.error("error: %s", one_line(str(error)))
        return 2
    for name, heard in zip(names, trained, strict=True):
        if seen := [s.name for s in chosen if s.name in heard]:
            which = "the checkpoint" if len(names) == 1 else name
            log.warning(
                "%s was trained on %d of these songs: %s", which, len(seen), one_line(", ".join(seen))
            )
    rate = options.sample_rate or max(s.sample_rate for s in separators.values())
    try:
        score = _everything if options.metrics == "all" else _quick_table
        return score(options, chosen, separators, rate)
    except OSError as error:
        # A full disk is told without a name; what has none is written into the report.
        where = error.filename or options.report or options.json or "scores"
        log.error("error: %s: cannot be written (%s)", one_line(str(where)), error.strerror or error)
        return 1
    except AudioError as error:
        log.error("error: %s", error)
        return 1


def _check(options: argparse.Namespace) -> None:
    """Raise ValueError for what does not go together; set what follows from other options."""
    if options.sample_rate is not None and options.sample_rate < 1:
        raise ValueError(f"--sample-rate must be at least 1, got {options.sample_rate}")
    if options.jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {options.jobs}")
    options.metrics = options.metrics or ("all" if options.report else "usdr")
    if options.report:
        if options.metrics != "all":
            raise ValueError("--report needs --metrics all")
        if options.report.exists() and not options.report.is_dir():
            raise ValueError(f"--report: {options.report} is no folder")
        if importlib.util.find_spec("matplotlib") is None:
            raise ValueError("--report needs matplotlib: pip install 'vocalsep_jax[eval]'")


def _songs(root: str, split: str, validated: list[str]) -> tuple[song_files.Song, ...]:
    """The songs of a split; for `valid`, those that the run validated on, if the folder has them."""
    library = song_files.find_library(root)
    everything = [s for songs in library.splits.values() for s in songs]
    chosen = library.splits[split]
    if split == "valid":
        chosen = tuple(s for s in everything if s.name in validated) or chosen
    if not chosen:
        raise song_files.SongError(f"{root}: no songs in the {split} split")
    return chosen


def _quick_table(
    options: argparse.Namespace,
    chosen: Sequence[song_files.Song],
    separators: Mapping[str, Separator],
    rate: int,
) -> int:
    """Print the vocals' uSDR of each song as it is found; returns the exit code."""
    from vocalsep_jax.evaluation.full_scores import median
    from vocalsep_jax.evaluation.scores import score_song

    if len(separators) == 1:
        separators = {"estimate": next(iter(separators.values()))}
    columns = ["mixture", "silence", *separators, "ideal"]
    if options.leakage:
        columns += ["leakage"] if len(separators) == 1 else [f"{name} leakage" for name in separators]
    width = max(len(_TITLE), *(len(one_line(s.name)) for s in chosen))
    say(f"{_TITLE:{width}}" + "".join(f"{c:>{max(10, 2 + len(c))}}" for c in columns))

    def scored(song: song_files.Song) -> dict[str, float | None] | None:
        try:
            stems = song.load(rate)
        except song_files.SongError as error:
            log.error("error: %s", one_line(str(error)))
            return None
        return score_song(stems, rate, separators, leakage=options.leakage)

    scores: dict[str, dict[str, float | None]] = {}
    # Threads: see evaluation.songs_run.
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        try:
            for song, row in zip(chosen, pool.map(scored, chosen), strict=True):
                if row is not None:
                    scores[song.name] = row
                    say(_row(one_line(song.name), row, columns, width))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if len(scores) > 1:
        medians = {c: median([row[c] for row in scores.values()]) for c in columns}
        say(_row("median", medians, columns, width))
    if silent := [name for name, row in scores.items() if row["mixture"] is None]:
        log.warning(
            "no scores, and not in the median: the vocals are silent in %s", one_line(", ".join(silent))
        )
    _write_json(options.json, scores)
    return 0 if len(scores) == len(chosen) else 1


def _row(name: str, scores: Mapping[str, float | None], columns: Sequence[str], width: int) -> str:
    cells = ("-" if (x := scores[c]) is None else f"{x:.2f}" for c in columns)
    return f"{name:{width}}" + "".join(
        f"{cell:>{max(10, 2 + len(c))}}" for cell, c in zip(cells, columns, strict=True)
    )


def _write_json(path: str | None, content: Any) -> None:
    """Write `content` if a file was named; raises OSError."""
    if path:
        try:
            disk.write_text(Path(path), json.dumps(content, indent=2, allow_nan=False) + "\n")
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from error


def _everything(
    options: argparse.Namespace,
    chosen: Sequence[song_files.Song],
    separators: Mapping[str, Separator],
    rate: int,
) -> int:
    """Score all methods by all measures, and write the report; returns the exit code."""
    from vocalsep_jax.evaluation.methods import all_methods, checkpoint_method
    from vocalsep_jax.evaluation.songs_run import SongRuns
    from vocalsep_jax.evaluation.store import Store
    from vocalsep_jax.evaluation.tables import Evaluation, scores_json, text_table

    settings = {name: getattr(options, name) for name in ("overlap", "shifts", "dtype", "wiener")}
    first = next(iter(separators.values()))
    checkpoints = [checkpoint_method(name, s, settings) for name, s in separators.items()]
    methods = all_methods(checkpoints, first.stft, first.sample_rate)
    store = Store(options.report / "results", rate) if options.report else None
    runs = SongRuns(methods, rate, store, len(chosen))
    scores = runs.score_all(chosen, options.jobs)
    failed = [song.name for song in chosen if song.name not in scores]
    if not scores:
        log.error("error: no song could be scored")
        return 1
    evaluation = Evaluation(methods, scores, rate, _facts(options, separators, rate), failed)
    say(text_table(evaluation))
    if store is not None:
        from vocalsep_jax.evaluation.report import write_report

        say(one_line(str(write_report(options.report, evaluation, chosen, store))))
    _write_json(options.json, scores_json(evaluation))
    return 1 if failed else 0


def _facts(options: argparse.Namespace, separators: Mapping[str, Separator], rate: int) -> dict[str, str]:
    """What was measured, and how, in words."""
    checkpoints = {
        f"checkpoint {name}": f"step {s.step}, {s.sample_rate} Hz, STFT {s.stft.n_fft}/{s.stft.hop}"
        for name, s in separators.items()
    }
    return {
        "command": options.command,
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        **checkpoints,
        "songs": f"{options.data}, split {options.split}",
        "sample rate of the scores": f"{rate} Hz",
        "overlap of patches": f"{options.overlap:g}",
        "shifts averaged": str(options.shifts),
        "dtype of activations": options.dtype or "as trained",
        "multichannel Wiener filter": "of stereo models" if options.wiener else "none",
        "versions": ", ".join(f"{name} {version}" for name, version in package_versions().items()),
    }


if __name__ == "__main__":
    sys.exit(main())
