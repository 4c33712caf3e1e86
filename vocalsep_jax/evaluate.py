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
from typing import TYPE_CHECKING

from vocalsep_jax.huge_pages import restart_with_huge_pages

if __name__ == "__main__":
    restart_with_huge_pages()  # before anything that takes time to import

import numpy as np

from vocalsep_jax import audio, files, runs, spectral
from vocalsep_jax.console import start_logging
from vocalsep_jax.data import songs as song_files
from vocalsep_jax.separator import DTYPES, OVERLAP, Separator, apply_resampled_mask

if TYPE_CHECKING:
    from vocalsep_jax.data.songs import Stems

log = logging.getLogger(__name__)

COLUMNS = ("mixture", "silence", "estimate", "ideal")
LEAKAGE = "leakage"


def baselines(song: Stems, stft: spectral.Stft, *, sample_rate: int, mask_rate: int) -> dict[str, float]:
    """uSDR in dB of what a separation is measured against: `mixture`, `silence`, `ideal`.

    Args:
      song: at `sample_rate`.
      stft: the transform of the ideal ratio mask.
      sample_rate: Hz, at which the scores are taken.
      mask_rate: Hz, at which the mask works.
    """
    from vocalsep_jax.metrics import usdr

    vocals, accompaniment = (
        audio.resample(x, sample_rate, mask_rate) for x in (song.vocals, song.accompaniment)
    )
    ideal = apply_resampled_mask(
        song.mixture,
        stft,
        lambda _: spectral.ideal_ratio_mask(vocals, accompaniment, stft),
        sample_rate=sample_rate,
        mask_rate=mask_rate,
    )
    return {
        "mixture": usdr(song.vocals, song.mixture),
        "silence": usdr(song.vocals, np.zeros_like(song.vocals)),
        "ideal": usdr(song.vocals, ideal),
    }


def score_song(
    song: Stems, sample_rate: int, separator: Separator, *, leakage: bool = False
) -> dict[str, float]:
    """uSDR in dB of each of `COLUMNS` for a song at `sample_rate` Hz; and `LEAKAGE`, if wanted."""
    from vocalsep_jax import metrics

    estimate = separator.separate(song.mixture, sample_rate)["vocals"]
    scores = baselines(song, separator.stft, sample_rate=sample_rate, mask_rate=separator.sample_rate)
    scores["estimate"] = metrics.usdr(song.vocals, estimate)
    if leakage:
        estimate = separator.separate(song.accompaniment, sample_rate)["vocals"]
        scores[LEAKAGE] = metrics.leakage(song.accompaniment, estimate)
    return scores


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
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
    options = parser.parse_args(argv)
    start_logging()

    from vocalsep_jax.compile_cache import use_compile_cache

    use_compile_cache()
    try:
        if options.sample_rate is not None and options.sample_rate < 1:
            raise ValueError(f"--sample-rate must be at least 1, got {options.sample_rate}")
        songs = runs.read_config(runs.find_run(options.checkpoint)).get("songs", {})
        trained, validated = ([name for name, _ in songs.get(s, [])] for s in ("train", "valid"))
        chosen = _songs(options.data, options.split, validated)
        separator = Separator(
            options.checkpoint, overlap=options.overlap, shifts=options.shifts, dtype=options.dtype
        )
    except (runs.RunError, song_files.SongError, ValueError) as error:
        log.error("error: %s", error)
        return 2
    if seen := [s.name for s in chosen if s.name in trained]:
        log.warning("the checkpoint was trained on %d of these songs: %s", len(seen), ", ".join(seen))

    rate = options.sample_rate or separator.sample_rate
    scores: dict[str, dict[str, float]] = {}
    width = max(len("vocals uSDR, dB"), *(len(s.name) for s in chosen))
    columns = (*COLUMNS, LEAKAGE) if options.leakage else COLUMNS
    print(f"{'vocals uSDR, dB':{width}}" + "".join(f"{c:>10}" for c in columns))
    for song in chosen:
        try:
            stems = song.load(rate)
        except song_files.SongError as error:
            log.error("error: %s", error)
            continue
        scores[song.name] = score_song(stems, rate, separator, leakage=options.leakage)
        print(_row(song.name, scores[song.name], width), flush=True)
    if len(scores) > 1:
        median = {c: float(np.median([s[c] for s in scores.values()])) for c in columns}
        print(_row("median", median, width))
    if options.json:
        try:
            files.write_text(Path(options.json), json.dumps(scores, indent=2) + "\n")
        except OSError as error:
            log.error("error: %s: cannot be written (%s)", options.json, error.strerror)
            return 1
    return 0 if len(scores) == len(chosen) else 1


def _songs(root: str, split: str, validated: list[str]) -> tuple[song_files.Song, ...]:
    """The songs of a split; for `valid`, those that the run validated on, where they are there."""
    library = song_files.find_library(root)
    everything = [s for songs in library.splits.values() for s in songs]
    chosen = library.splits[split]
    if split == "valid":
        chosen = tuple(s for s in everything if s.name in validated) or chosen
    if not chosen:
        raise song_files.SongError(f"{root}: no songs in the {split} split")
    return chosen


def _row(name: str, scores: dict[str, float], width: int) -> str:
    return f"{name:{width}}" + "".join(f"{scores[c]:10.2f}" for c in (*COLUMNS, LEAKAGE) if c in scores)


if __name__ == "__main__":
    sys.exit(main())
