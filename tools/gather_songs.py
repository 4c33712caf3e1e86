"""Gather all that a model which ships is trained on, and tested with, in one folder.

    python tools/gather_songs.py SONGS INSTRUMENTALS OUT

All songs of SONGS, whatever split they lie in there, go to `OUT/train/`. `OUT/valid/` and `OUT/test/` hold
built-in songs, which are generated. INSTRUMENTALS holds audio files without a voice: they go to
`OUT/instrumentals/train/`, but for the last by name, which is kept in `OUT/instrumentals/test/`. What is
not generated is a link. OUT must not be there yet.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.write_builtin_songs import write_songs
from vocalsep_jax.audio.files import AudioError
from vocalsep_jax.data.songs import SPLITS, SongError, find_library, instrumental_files
from vocalsep_jax.runtime import disk
from vocalsep_jax.runtime.console import one_line, start_logging

log = logging.getLogger(__name__)

VALID_SONGS = ("valid", 2, 20.0, 7)
"""Split, number, seconds and seed of the built-in songs to validate on: to see that all is well, since all
real songs are trained on."""

TEST_SONGS = ("test", 20, 30.0, 20)
"""Those that the model is scored on."""


def song_folders(songs: Path) -> dict[str, Path]:
    """The folders of the songs that have a voice, by name.

    Raises:
      SongError: if there are fewer than two, or two with one name, or one that is no folder.
    """
    library = find_library(songs)
    places = [songs / split for split in SPLITS if (songs / split).is_dir()] or [songs]
    found: dict[str, Path] = {}
    for song in (s for split in SPLITS for s in library.splits[split] if not s.voiceless):
        entries = [place / song.name for place in places if (place / song.name).is_dir()]
        if len(entries) != 1 or song.name in found:
            raise SongError(f"{songs}: {song.name!r} must be the name of one folder of stems")
        found[song.name] = entries[0]
    if len(found) < 2:
        raise SongError(f"{songs}: holds fewer than two songs with a voice")
    return found


def link(place: Path, target: Path) -> None:
    """A link at `place` to a song or a file, in place of one that is there."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(target.resolve())


def gather(songs: Path, instrumentals: Path, out: Path) -> None:
    """Make the folder, whole or not at all; arguments as the command has them.

    Raises:
      SongError: if there are not two songs and two instrumentals, or the folder is there already.
      OSError, AudioError: if the folder cannot be made.
    """
    found, music = song_folders(songs), instrumental_files(instrumentals)
    if len(music) < 2:
        raise SongError(f"{instrumentals}: no two audio files, one to train on and one to test with")
    if out.exists():
        raise SongError(f"{out}: is there already; give another name or delete it")
    with disk.replacing(out) as partial:
        for name, place in found.items():
            link(partial / "train" / name, place)
        for path in music:
            link(partial / "instrumentals" / ("test" if path == music[-1] else "train") / path.name, path)
        write_songs(partial, *VALID_SONGS)
        write_songs(partial, *TEST_SONGS)


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
    except (SongError, AudioError, OSError) as error:
        log.error("error: %s", one_line(str(error)))
        return 2
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
