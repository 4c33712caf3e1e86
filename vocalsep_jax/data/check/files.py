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
from vocalsep_jax.data.songs import (
    ACCOMPANIMENT_STEMS,
    SPLITS,
    STEM_FILE_ORDER,
    Library,
    SongError,
    find_library,
)

STEMS = ("vocals", "accompaniment", *ACCOMPANIMENT_STEMS, "mixture")


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
        except (SongError, OSError) as error:
            refusal = str(error)
        splits = {s: root / s for s in SPLITS if (root / s).is_dir()} or {SPLITS[0]: root}
        entries = [(s, entry) for s, folder in splits.items() for entry in _entries(folder, skipped)]
        found = [song for s, entry in entries if (song := _song(entry, s, broken, skipped))]
        if root not in splits.values():
            for entry in _entries(root, skipped):
                if entry.name not in SPLITS and _song(entry, "", {}, {}):
                    skipped[entry] = "lies beside train/, valid/ and test/ instead of in one of them"
        if instrumentals:
            found += _instrumentals(instrumentals, broken, skipped)
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


def _entries(folder: Path, lost: dict[Path, str]) -> list[Path]:
    """The files and folders in a folder, sorted, without hidden ones.

    Links to what is not there are noted in `lost`; a pipe or a device is nothing.
    """
    shown = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    lost |= {x: f"is a link to {x.readlink()}, which is not there" for x in shown if _dangling(x)}
    return [entry for entry in shown if entry.is_file() or entry.is_dir()]


def _dangling(entry: Path) -> bool:
    return entry.is_symlink() and not entry.exists()


def _song(entry: Path, split: str, broken: dict[Path, str], skipped: dict[Path, str]) -> SongFiles | None:
    """The song that an entry is; if it is none though it looks like one, why is noted."""
    lost: dict[Path, str] = {}
    try:
        song = next(filter(None, (layout(entry) for layout in songs.LAYOUTS)), None)
        stems = _stems(entry, lost)
    except (SongError, OSError) as error:
        broken[entry] = str(error).removeprefix(f"{entry}: ")
        return None
    reasons = [f"its {path.name} {why}" for path, why in lost.items() if _stem(path) in STEMS]
    if song is None and stems:
        reasons.append(
            "is skipped: it needs vocals.* and one of accompaniment.*, mixture.* or drums/bass/other.*; "
            f"it has {', '.join(sorted(source.path.name for source in stems.values()))}"
        )
    if reasons:
        skipped[entry] = "; ".join(reasons)
    return SongFiles(song.name, split, entry, stems) if song else None


def _instrumentals(folder: Path, broken: dict[Path, str], skipped: dict[Path, str]) -> list[SongFiles]:
    """The music without a voice in such a folder, as `data.songs.find_instrumentals` has it."""
    found = [
        SongFiles(path.stem, "train", path, {"accompaniment": StemSource(path)})
        for path in songs.instrumental_files(folder)
    ]
    inside = [_song(entry, "train", broken, skipped) for entry in _entries(folder, skipped)]
    return found + [song for song in inside if song and song.stems.keys() == {"accompaniment"}]


def _stems(entry: Path, lost: dict[Path, str]) -> dict[str, StemSource]:
    """The stems of an entry; links in it to what is not there are noted in `lost`."""
    if entry.is_file():
        if not entry.name.endswith(STEM_FILE_SUFFIX):
            return {}
        return {name: StemSource(entry, number) for number, name in enumerate(STEM_FILE_ORDER)}
    found = {_stem(path): path for path in _entries(entry, lost) if path.is_file()}
    return {name: StemSource(found[name]) for name in STEMS if name in found}


def _stem(path: Path) -> str:
    """The stem that a file is named for; empty if it is no audio file."""
    return path.stem.lower() if path.suffix.lower() in SUFFIXES else ""


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
