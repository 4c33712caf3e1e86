"""Prepared songs: int16 stems that can be read at any place, and what sampling needs to know of them.

Axis letters: `C` channels (left and right), `S` samples.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from vocalsep_jax.data.sampling import SongTable, voiced_blocks
from vocalsep_jax.data.songs import Library, Song, Stems

log = logging.getLogger(__name__)

STEMS = ("vocals", "accompaniment")
SPLITS = ("train", "valid")
"""The splits that training reads."""

_FULL_SCALE = 32_767.0
_STRETCH = 2**20
"""Samples copied at a time from one store to another."""


class PreparedSong(NamedTuple):
    """A song as training keeps it.

    Attributes:
      name: the song's.
      scale: an int16 value times this is the sample value.
      voiced: int64 `[blocks]`, first samples of the blocks in which the voice sounds.
      stems: by stem, int16 `[C, S]`.
    """

    name: str
    scale: float
    voiced: np.ndarray
    stems: dict[str, np.ndarray]


def prepare_song(song: Song, sample_rate: int) -> PreparedSong:
    """Load a song, as integers; stems that go beyond full scale are scaled down, and kept whole so.

    Raises:
      SongError: if the song cannot be read.
    """
    stems = song.load(sample_rate)
    peak = max(1.0, *(float(np.abs(getattr(stems, s)).max()) for s in STEMS))
    return PreparedSong(
        song.name,
        peak / _FULL_SCALE,
        voiced_blocks(stems.vocals, sample_rate),
        {s: np.round(getattr(stems, s).T * (_FULL_SCALE / peak)).astype(np.int16) for s in STEMS},
    )


class SongStore(Protocol):
    """Prepared songs of one split.

    Attributes:
      table: lengths and voiced blocks, for `sampling`.
      names: the songs' names.
      scales: float32 `[songs]`; an int16 value times its song's scale is the sample value.
    """

    @property
    def table(self) -> SongTable: ...  # noqa: D102
    @property
    def names(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def scales(self) -> np.ndarray: ...  # noqa: D102

    def read(self, stem: str, song: int, start: int, samples: int) -> np.ndarray:
        """int16 `[C, samples]` of a stem from sample `start` on, zeros where the song has ended."""


@dataclasses.dataclass(frozen=True)
class MemoryStore:
    """A `SongStore` in memory.

    Attributes:
      table, names, scales: as `SongStore` has them.
      first: int64 `[songs]`, the first sample of each song in `stems`.
      stems: by stem, int16 `[C, S]`: all songs, one after the other.
    """

    table: SongTable
    names: tuple[str, ...]
    scales: np.ndarray
    first: np.ndarray
    stems: dict[str, np.ndarray]

    @classmethod
    def of(cls, songs: list[PreparedSong]) -> MemoryStore:
        """Songs prepared just now; `songs` is empty afterwards, so that memory holds them once."""
        store = cls._empty(
            SongTable.of([song.stems["vocals"].shape[1] for song in songs], [s.voiced for s in songs]),
            tuple(song.name for song in songs),
            np.array([song.scale for song in songs], np.float32),
        )
        for first in store.first:
            for stem, x in songs.pop(0).stems.items():
                store.stems[stem][:, first : first + x.shape[1]] = x
        return store

    @classmethod
    def copy_of(cls, source: SongStore) -> MemoryStore:
        """All that another store holds."""
        store = cls._empty(source.table, source.names, source.scales)
        for song, (first, length) in enumerate(
            zip(store.first, source.table.samples.tolist(), strict=True)
        ):
            # Both stems of a stretch, one right after the other: they may lie in the same records.
            for start in range(0, length, _STRETCH):
                count = min(_STRETCH, length - start)
                for stem, whole in store.stems.items():
                    place = first + start
                    whole[:, place : place + count] = source.read(stem, song, start, count)
        return store

    @classmethod
    def _empty(cls, table: SongTable, names: tuple[str, ...], scales: np.ndarray) -> MemoryStore:
        ends = np.cumsum(table.samples, dtype=np.int64)
        total = int(ends[-1]) if len(ends) else 0
        stems = {s: np.empty((2, total), np.int16) for s in STEMS}
        return cls(table, names, scales, ends - table.samples, stems)

    def read(self, stem: str, song: int, start: int, samples: int) -> np.ndarray:
        """int16 `[C, samples]` of a stem from sample `start` on, zeros where the song has ended."""
        there = max(0, min(samples, int(self.table.samples[song]) - start))
        place = self.first[song] + start
        piece = self.stems[stem][:, place : place + there]
        return piece if there == samples else np.pad(piece, ((0, 0), (0, samples - there)))


def whole_song(store: SongStore, song: int) -> Stems:
    """A song of a store as floats."""
    samples = int(store.table.samples[song])
    return Stems(*(store.read(s, song, 0, samples).T * store.scales[song] for s in STEMS))


def load_all(library: Library, sample_rate: int) -> dict[str, MemoryStore]:
    """A store in memory for each of `SPLITS`, straight from the songs' files.

    Raises:
      SongError: if a song cannot be read.
    """
    log.info("loading %d songs from %s", song_count(library), library.source)
    return {
        split: MemoryStore.of([prepare_song(song, sample_rate) for song in songs])
        for split, songs in with_progress(library).splits.items()
    }


def song_count(library: Library) -> int:
    """How many songs training reads."""
    return sum(len(library.splits[s]) for s in SPLITS)


def with_progress(library: Library) -> Library:
    """The same songs, logging as those of `SPLITS` are loaded, with the time left."""
    begin, done, count = time.monotonic(), 0, song_count(library)

    def counting(song: Song) -> Song:
        def load(rate: int) -> Stems:
            nonlocal done
            stems = song.load(rate)
            done += 1
            left = (time.monotonic() - begin) / done * (count - done)
            log.info("  %d of %d: %s (%.0f s left)", done, count, song.name, left)
            return stems

        return dataclasses.replace(song, load=load)

    splits: Iterator = ((s, tuple(map(counting, library.splits[s]))) for s in SPLITS)
    return dataclasses.replace(library, splits=dict(splits))


def memory_bytes(samples: int) -> int:
    """Bytes that so many samples of songs take, in memory or on a device: two stems, stereo, int16."""
    return samples * len(STEMS) * 2 * 2


def available_memory(root: Path = Path("/")) -> int:
    """Bytes of memory that can be had without making others swap, as Linux and its containers say.

    Elsewhere half of what the machine has. `root` is where the file systems are that tell.
    """
    free = []
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
        free.append(next(int(x.split()[1]) * 1024 for x in lines if x.startswith("MemAvailable:")))
    with contextlib.suppress(OSError, ValueError):  # ValueError: "max", no limit
        group = root / "sys/fs/cgroup"
        limit, used = (int((group / f"memory.{x}").read_text()) for x in ("max", "current"))
        free.append(max(0, limit - used))
    return min(free) if free else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
