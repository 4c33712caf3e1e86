"""The songs of a folder as files, and the stems of a song read side by side.

`data.songs` finds songs to train on, and stops at the first that it cannot use. Here all are found, with
the files that they are made of.

Axis letters: `S` samples, `C` channels.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vocalsep_jax.audio.files import STEM_FILE_SUFFIX, SUFFIXES, AudioError, Reader
from vocalsep_jax.data import songs
from vocalsep_jax.data.songs import SPLITS, Library, SongError, find_library

ACCOMPANIMENT_PARTS = ("drums", "bass", "other")
"""The stems whose sum is the accompaniment where none is given."""

STEMS = ("vocals", "accompaniment", *ACCOMPANIMENT_PARTS, "mixture")

_STREAMS = ("mixture", *ACCOMPANIMENT_PARTS, "vocals")  # of a .stem.mp4


class StemSource(NamedTuple):
    """Where a stem is.

    Attributes:
      path: a file.
      stream: which of its audio streams.
    """

    path: Path
    stream: int = 0


@dataclass(frozen=True)
class SongFiles:
    """A song as the files that it is made of.

    Attributes:
      name: as `data.songs` has it.
      split: what it would be used for, one of `SPLITS`.
      path: its folder, or the one file that holds all of it.
      stems: stem name, of `STEMS`, to its place; empty if the files of its layout are not known here.
    """

    name: str
    split: str
    path: Path
    stems: dict[str, StemSource]


@dataclass(frozen=True)
class Folder:
    """What a folder of songs holds.

    Attributes:
      songs: all songs that could be told apart, train first.
      library: what training would use; None if it would refuse the folder.
      refusal: why it would; empty if it would not.
      broken: entries that are meant as songs but cannot be used, and why.
      skipped: entries with audio that training would not see, and why.
    """

    songs: tuple[SongFiles, ...]
    library: Library | None
    refusal: str
    broken: dict[Path, str]
    skipped: dict[Path, str]


def find_songs(root: Path, instrumentals: Path | None = None) -> Folder:
    """Find the songs in a folder, as files.

    Args:
      root: the folder.
      instrumentals: the folder of music without a voice that is trained on too, if there is one.

    Raises:
      SongError: if there is no such folder.
    """
    for place in filter(None, (root, instrumentals)):
        if not place.is_dir():
            raise SongError(f"{place}: no such folder; give the folder that holds the songs")
    library, refusal = None, ""
    broken: dict[Path, str] = {}
    skipped: dict[Path, str] = {}
    with _quiet():
        try:
            library = find_library(root, instrumentals=instrumentals or "")
        except SongError as error:
            refusal = str(error)
        splits = {s: root / s for s in SPLITS if (root / s).is_dir()} or {SPLITS[0]: root}
        entries = [(s, entry) for s, folder in splits.items() for entry in _entries(folder)]
        found = [song for s, entry in entries if (song := _song(entry, s, broken, skipped))]
        if root not in splits.values():
            for entry in _entries(root):
                if entry.name not in SPLITS and _song(entry, "", {}, {}):
                    skipped[entry] = "lies beside train/, valid/ and test/ instead of in one of them"
        if instrumentals:
            found += [x for entry in _entries(instrumentals) if (x := _instrumental(entry, broken))]
    chosen = {s.name for s in library.splits["valid"]} if library else set()
    used = [_used(song, chosen, bool(library)) for song in found]
    return Folder(
        tuple(sorted(used, key=lambda song: SPLITS.index(song.split))), library, refusal, broken, skipped
    )


def _used(song: SongFiles, validation: set[str], decided: bool) -> SongFiles:
    """The song with the split that it would be used in: training and validation songs are chosen anew."""
    if song.split == "test" or not decided:
        return song
    split = "valid" if song.name in validation else "train"
    return SongFiles(song.name, split, song.path, song.stems)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What `data.songs` warns of is in the result; it need not be logged."""
    level = songs.log.level
    songs.log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        songs.log.setLevel(level)


def _entries(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _song(entry: Path, split: str, broken: dict[Path, str], skipped: dict[Path, str]) -> SongFiles | None:
    """The song that an entry is; if it is none though it looks like one, why is noted."""
    try:
        song = next(filter(None, (layout(entry) for layout in songs.LAYOUTS)), None)
    except (SongError, OSError) as error:
        broken[entry] = str(error).removeprefix(f"{entry}: ")
        return None
    stems = _stems(entry)
    if song is not None:
        return SongFiles(song.name, split, entry, stems)
    if stems:
        skipped[entry] = (
            "is skipped: it needs vocals.* and one of accompaniment.*, mixture.* or drums/bass/other.*; "
            f"it has {', '.join(sorted(source.path.name for source in stems.values()))}"
        )
    return None


def _instrumental(entry: Path, broken: dict[Path, str]) -> SongFiles | None:
    """The music without a voice that an entry of such a folder is."""
    if entry.is_file():
        known = entry.suffix.lower() in SUFFIXES
        return (
            SongFiles(entry.stem, "train", entry, {"accompaniment": StemSource(entry)}) if known else None
        )
    song = _song(entry, "train", broken, {})
    return song if song and song.stems.keys() == {"accompaniment"} else None


def _stems(entry: Path) -> dict[str, StemSource]:
    if entry.is_file():
        if not entry.name.endswith(STEM_FILE_SUFFIX):
            return {}
        return {name: StemSource(entry, number) for number, name in enumerate(_STREAMS)}
    found = {p.stem.lower(): p for p in _entries(entry) if p.suffix.lower() in SUFFIXES and p.is_file()}
    return {name: StemSource(found[name]) for name in STEMS if name in found}


def seconds_of(song: SongFiles) -> float:
    """Length that the header of the first readable stem says; 0 if none does."""
    for source in song.stems.values():
        with contextlib.suppress(AudioError), Reader(*source) as reader:
            return reader.frames / reader.rate
    return 0.0


def side_by_side(streams: Mapping[str, Iterator[np.ndarray]], size: int) -> Iterator[dict[str, np.ndarray]]:
    """Take streams of blocks, float32 `[S, C]` of any S each, in steps of `size` samples.

    Yields:
      The next `size` samples of each; fewer, at last none, of one that has ended. It ends when all have.
    """
    held: dict[str, list[np.ndarray]] = {name: [] for name in streams}
    while True:
        step = {}
        for name, stream in streams.items():
            parts, count = held[name], sum(map(len, held[name]))
            while count < size and (block := next(stream, None)) is not None:
                parts.append(block)
                count += len(block)
            whole = np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)
            step[name], held[name] = whole[:size], [whole[size:]]
        if not any(map(len, step.values())):
            return
        yield step
