"""Gather songs, and music without a voice, into one folder to train on and to test with.

    python tools/gather_songs.py SONGS INSTRUMENTALS OUT

SONGS is a folder of songs as training reads it, with `train/`, `valid/` or `test/`; in OUT its songs keep
their splits. INSTRUMENTALS holds audio files: they go to `OUT/instrumentals/train/`, but for the last by
name, which is kept for testing in `OUT/instrumentals/test/`. OUT holds links; it must not be there yet.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vocalsep_jax.audio.files import SUFFIXES
from vocalsep_jax.data.songs import SPLITS, SongError
from vocalsep_jax.runtime import disk
from vocalsep_jax.runtime.console import one_line, start_logging

log = logging.getLogger(__name__)


def gather(songs: Path, instrumentals: Path, out: Path) -> None:
    """Make the folder, whole or not at all; arguments as the command has them.

    Raises:
      SongError: if there are no songs or not two instrumentals, or the folder is there already.
      OSError: if the folder cannot be made.
    """
    found = [
        (split, song)
        for split in SPLITS
        if (songs / split).is_dir()
        for song in sorted((songs / split).iterdir())
        if song.is_dir() or song.suffix == ".mp4"
    ]
    music = sorted(p for p in instrumentals.iterdir() if p.suffix.lower() in SUFFIXES)
    if not found:
        raise SongError(f"{songs}: no songs under train/, valid/ or test/")
    if len(music) < 2:
        raise SongError(f"{instrumentals}: no two audio files, one to train on and one to test with")
    if out.exists():
        raise SongError(f"{out}: is there already; give another name or delete it")
    with disk.replacing(out) as partial:
        for split, song in found:
            _link(partial / split / song.name, song)
        for path in music:
            _link(partial / "instrumentals" / ("test" if path == music[-1] else "train") / path.name, path)


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target.resolve())


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0 done, 2 wrong usage or something missing."""
    parser = argparse.ArgumentParser(
        prog="python tools/gather_songs.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("songs", type=Path, metavar="SONGS")
    parser.add_argument("instrumentals", type=Path, metavar="INSTRUMENTALS")
    parser.add_argument("out", type=Path, metavar="OUT")
    options = parser.parse_args(argv)
    start_logging()
    try:
        gather(options.songs, options.instrumentals, options.out)
    except (SongError, OSError) as error:
        log.error("error: %s", one_line(str(error)))
        return 2
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
