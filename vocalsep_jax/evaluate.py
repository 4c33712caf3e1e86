"""Scores of a checkpoint on songs whose stems are known.

    python -m vocalsep_jax.evaluate --checkpoint RUN --data ROOT

prints, for each song, the vocals' uSDR (whole song, all channels) of the mixture taken as the voice, of
silence (0 dB), of the checkpoint, and of the ideal ratio mask at the checkpoint's STFT.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from vocalsep_jax.runtime.huge_pages import restart_with_huge_pages

if __name__ == "__main__":
    restart_with_huge_pages()  # before anything that takes time to import

import numpy as np

from vocalsep_jax.data import songs as song_files
from vocalsep_jax.models import DTYPES
from vocalsep_jax.runs.folder import RunError, find_run
from vocalsep_jax.runtime import disk
from vocalsep_jax.runtime.console import start_logging
from vocalsep_jax.separation.separator import OVERLAP, Separator

log = logging.getLogger(__name__)

COLUMNS = ("mixture", "silence", "estimate", "ideal")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vocalsep_jax.evaluate",
        description="Vocals uSDR in dB of a checkpoint on songs with known stems.",
        epilog="Exit code: 0 all songs scored, 1 some failed, 2 wrong usage.",
    )
    parser.add_argument("--checkpoint", required=True, metavar="RUN")
    parser.add_argument("--data", required=True, metavar="ROOT", help="folder of songs")
    parser.add_argument(
        "--split", default="test", choices=song_files.SPLITS, help="which songs (%(default)s)"
    )
    parser.add_argument("--overlap", type=float, default=OVERLAP, help="(%(default)s)")
    parser.add_argument("--shifts", type=int, default=1, help="(%(default)s)")
    parser.add_argument("--dtype", choices=DTYPES, help="of the network's activations (as it was trained)")
    parser.add_argument(
        "--leakage",
        action="store_true",
        help="also separate the accompaniment alone: what is then taken for voice, in dB relative to it",
    )
    parser.add_argument(
        "--sample-rate",
        type=int,
        metavar="HZ",
        help="rate the scores are taken at; the same for models that are compared (the model's)",
    )
    parser.add_argument("--json", metavar="FILE", help="write the scores there too")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = _parser().parse_args(argv)
    start_logging()

    from vocalsep_jax.evaluation.scores import score_song
    from vocalsep_jax.runs.record import read_record
    from vocalsep_jax.runtime.compile_cache import use_compile_cache

    use_compile_cache()
    try:
        if options.sample_rate is not None and options.sample_rate < 1:
            raise ValueError(f"--sample-rate must be at least 1, got {options.sample_rate}")
        songs = read_record(find_run(options.checkpoint)).songs
        trained, validated = ([name for name, _ in songs.get(s, [])] for s in ("train", "valid"))
        chosen = _songs(options.data, options.split, validated)
        separator = Separator(
            options.checkpoint, overlap=options.overlap, shifts=options.shifts, dtype=options.dtype
        )
    except (RunError, song_files.SongError, ValueError) as error:
        log.error("error: %s", error)
        return 2
    if seen := [s.name for s in chosen if s.name in trained]:
        log.warning("the checkpoint was trained on %d of these songs: %s", len(seen), ", ".join(seen))

    rate = options.sample_rate or separator.sample_rate
    scores: dict[str, dict[str, float]] = {}
    width = max(len("vocals uSDR, dB"), *(len(s.name) for s in chosen))
    columns = (*COLUMNS, "leakage") if options.leakage else COLUMNS
    print(f"{'vocals uSDR, dB':{width}}" + "".join(f"{c:>10}" for c in columns))
    for song in chosen:
        try:
            stems = song.load(rate)
        except song_files.SongError as error:
            log.error("error: %s", error)
            continue
        scores[song.name] = score_song(stems, rate, separator, leakage=options.leakage)
        print(_row(song.name, scores[song.name], columns, width), flush=True)
    if len(scores) > 1:
        median = {c: float(np.median([s[c] for s in scores.values()])) for c in columns}
        print(_row("median", median, columns, width))
    if options.json:
        try:
            disk.write_text(Path(options.json), json.dumps(scores, indent=2) + "\n")
        except OSError as error:
            log.error("error: %s: cannot be written (%s)", options.json, error.strerror)
            return 1
    return 0 if len(scores) == len(chosen) else 1


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


def _row(name: str, scores: dict[str, float], columns: Sequence[str], width: int) -> str:
    return f"{name:{width}}" + "".join(f"{scores[column]:10.2f}" for column in columns)


if __name__ == "__main__":
    sys.exit(main())
