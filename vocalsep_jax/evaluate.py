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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vocalsep_jax import files, runs, spectral
from vocalsep_jax.console import start_logging
from vocalsep_jax.data import songs as song_files

if TYPE_CHECKING:
    from vocalsep_jax.data.songs import Stems

log = logging.getLogger(__name__)

COLUMNS = ("mixture", "silence", "estimate", "ideal")


def baselines(song: Stems, stft: spectral.Stft) -> dict[str, float]:
    """uSDR in dB of what a separation is measured against: `mixture`, `silence`, `ideal`."""
    from vocalsep_jax.metrics import usdr

    ideal = spectral.apply_mask(
        song.mixture,
        stft,
        lambda _: spectral.ideal_ratio_mask(song.vocals, song.accompaniment, stft),
    )
    return {
        "mixture": usdr(song.vocals, song.mixture),
        "silence": usdr(song.vocals, np.zeros_like(song.vocals)),
        "ideal": usdr(song.vocals, ideal),
    }


def score_song(
    song: Stems, separate: Callable[[np.ndarray], np.ndarray], stft: spectral.Stft
) -> dict[str, float]:
    """uSDR in dB of each of `COLUMNS`; `separate` maps a mixture `[S, C]` to its vocals."""
    from vocalsep_jax.metrics import usdr

    return baselines(song, stft) | {"estimate": usdr(song.vocals, separate(song.mixture))}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m vocalsep_jax.evaluate",
        description="Vocals uSDR in dB of a checkpoint on songs with known stems.",
    )
    parser.add_argument("--checkpoint", required=True, metavar="RUN")
    parser.add_argument("--data", required=True, metavar="ROOT", help="folder of songs")
    parser.add_argument(
        "--split", default="test", choices=song_files.SPLITS, help="which songs (%(default)s)"
    )
    parser.add_argument("--overlap", type=float, default=0.5, help="(%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the scores there too")
    options = parser.parse_args(argv)
    start_logging()

    from vocalsep_jax.separate import Separator

    scores: dict[str, dict[str, float]] = {}
    try:
        library = song_files.find_library(options.data)
        chosen = library.splits[options.split]
        if not chosen:
            raise song_files.SongError(f"{options.data}: no songs in the {options.split} split")
        separator = Separator(options.checkpoint, overlap=options.overlap)
        width = max(len(s.name) for s in chosen)
        print(f"{'vocals uSDR, dB':{width}}" + "".join(f"{c:>10}" for c in COLUMNS))
        for song in chosen:
            stems = song.load(separator.sample_rate)
            scores[song.name] = score_song(
                stems,
                lambda x: separator.separate(x, separator.sample_rate)["vocals"],
                separator.stft,
            )
            print(_row(song.name, scores[song.name], width), flush=True)
        if len(chosen) > 1:
            median = {c: float(np.median([s[c] for s in scores.values()])) for c in COLUMNS}
            print(_row("median", median, width))
    except (runs.RunError, song_files.SongError, ValueError) as error:
        log.error("error: %s", error)
        return 2
    if options.json:
        files.write_text(Path(options.json), json.dumps(scores, indent=2) + "\n")
    return 0


def _row(name: str, scores: dict[str, float], width: int) -> str:
    return f"{name:{width}}" + "".join(f"{scores[c]:10.2f}" for c in COLUMNS)


if __name__ == "__main__":
    sys.exit(main())
