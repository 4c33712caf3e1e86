"""Prepared songs: stems as integers that can be read from any sample on.

A store holds the songs of a split, together with what `sampling` needs to know of them. This module has
the interface of the stores and the store in memory. `tfds_songs` has the store on disk.

Axis letters: `C` channels (left and right), `S` samples.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

import numpy as np

from vocalsep_jax.data.sampling import SongTable, voiced_blocks
from vocalsep_jax.data.songs import Library, Song, Stems
from vocalsep_jax.runtime.cores import available_cores

log = logging.getLogger(__name__)

STEMS = ("vocals", "accompaniment")
SPLITS = ("train", "valid")
"""The splits that training reads."""

_FULL_SCALE = 32_767.0
_AT_ONCE = 8
"""Songs that are prepared at once, at most: each takes memory, 200 MB for four minutes."""
_STRETCH = 2**20
"""Samples copied at a time from one store to another."""


class PreparedSong(NamedTuple):
    """A song as training keeps it.

    Attributes:
      name: the name of the song.
      scale: factor from an int16 value to the sample value.
      voiced: int64 `[blocks]`, the first sample of each block in which the voice sounds.
      stems: int16 `[C, S]` for each of `STEMS`.
    """

    name: str
    scale: float
    voiced: np.ndarray
    stems: dict[str, np.ndarray]


def prepare_song(song: Song, sample_rate: int) -> PreparedSong:
    """Load a song and round its samples to int16.

    A song that goes beyond full scale is scaled down, both stems by the same factor, so that nothing clips.

    Args:
      song: the song.
      sample_rate: Hz.

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


def prepare_songs(songs: Iterable[Song], sample_rate: int) -> Iterator[PreparedSong]:
    """`prepare_song` of each, in their order; as many at once as there are cores, `_AT_ONCE` at most.

    Raises:
      SongError: if a song cannot be read; it waits for those that are being read, and begins no other.
    """
    at_once = min(available_cores(), _AT_ONCE)
    pool = concurrent.futures.ThreadPoolExecutor(at_once)
    waiting: deque[concurrent.futures.Future[PreparedSong]] = deque()
    try:
        for song in songs:
            waiting.append(pool.submit(prepare_song, song, sample_rate))
            if len(waiting) > at_once:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class SongStore(Protocol):
    """Prepared songs of one split. A song is known by its number in the split, from 0.

    Attributes:
      table: lengths and voiced blocks, for `sampling`.
      names: the names of the songs.
      scales: float32 `[songs]`, factors from int16 values to sample values.
    """

    @property
    def table(self) -> SongTable: ...  # noqa: D102
    @property
    def names(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def scales(self) -> np.ndarray: ...  # noqa: D102

    def read(self, stem: str, song: int, start: int, samples: int) -> np.ndarray:
        """Read a stretch of a stem, int16 `[C, samples]`, with zeros beyond the end of the song.

        Args:
          stem: one of `STEMS`.
          song: number of the song.
          start: first sample of the stretch in the song.
          samples: length of the stretch.
        """


@dataclasses.dataclass(frozen=True)
class MemoryStore:
    """A `SongStore` in memory.

    Attributes:
      table, names, scales: as in `SongStore`.
      first: int64 `[songs]`, where in `stems` each song begins.
      stems: int16 `[C, S]` for each of `STEMS`, all songs one after the other.
    """

    table: SongTable
    names: tuple[str, ...]
    scales: np.ndarray
    first: np.ndarray
    stems: dict[str, np.ndarray]

    @classmethod
    def of(cls, songs: list[PreparedSong]) -> MemoryStore:
        """A store of these songs. The list `songs` is emptied, so that its memory is freed on the way."""
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
        """A store in memory of all that another store holds."""
        store = cls._empty(source.table, source.names, source.scales)
        for song, (first, length) in enumerate(
            zip(store.first, source.table.samples.tolist(), strict=True)
        ):
            into = {stem: whole[:, first : first + length] for stem, whole in store.stems.items()}
            copy_stretch(source, song, 0, into)
        return store

    @classmethod
    def _empty(cls, table: SongTable, names: tuple[str, ...], scales: np.ndarray) -> MemoryStore:
        """A store with room for the songs' samples, which are still to be written."""
        ends = np.cumsum(table.samples, dtype=np.int64)
        total = int(ends[-1]) if len(ends) else 0
        stems = {s: np.empty((2, total), np.int16) for s in STEMS}
        return cls(table, names, scales, ends - table.samples, stems)

    def read(self, stem: str, song: int, start: int, samples: int) -> np.ndarray:
        """As `SongStore.read`."""
        there = max(0, min(samples, int(self.table.samples[song]) - start))
        place = self.first[song] + start
        piece = self.stems[stem][:, place : place + there]
        return piece if there == samples else np.pad(piece, ((0, 0), (0, samples - there)))


def copy_stretch(store: SongStore, song: int, start: int, into: dict[str, np.ndarray]) -> None:
    """Copy a stretch of a song, from sample `start` on, into int16 `[C, S]` for each stem."""
    (samples,) = {x.shape[1] for x in into.values()}
    # Both stems of a piece are read before the next: they may lie in the same records.
    for place in range(0, samples, _STRETCH):
        count = min(_STRETCH, samples - place)
        for stem, x in into.items():
            x[:, place : place + count] = store.read(stem, song, start + place, count)


def whole_song(store: SongStore, song: int) -> Stems:
    """A whole song of a store; the stems are float32 `[S, C]`."""
    samples = int(store.table.samples[song])
    return Stems(*(store.read(s, song, 0, samples).T * store.scales[song] for s in STEMS))


def load_all(library: Library, sample_rate: int) -> dict[str, MemoryStore]:
    """Read the songs of a library from their files: a store in memory for each of `SPLITS`.

    Args:
      library: the songs.
      sample_rate: Hz.

    Raises:
      SongError: if a song cannot be read.
    """
    log.info("loading %d songs from %s", song_count(library), library.source)
    return {
        split: MemoryStore.of(list(prepare_songs(songs, sample_rate)))
        for split, songs in with_progress(library).splits.items()
    }


def song_count(library: Library) -> int:
    """The number of songs that training reads: those of `SPLITS`."""
    return sum(len(library.splits[s]) for s in SPLITS)


def with_progress(library: Library) -> Library:
    """A library of the songs of `SPLITS`. Loading one of them logs how many are done and the time left."""
    begin, numbers, count = time.monotonic(), itertools.count(1), song_count(library)

    def counting(song: Song) -> Song:
        def load(rate: int) -> Stems:
            stems = song.load(rate)
            done = next(numbers)
            left = (time.monotonic() - begin) / done * (count - done)
            log.info("  %d of %d: %s (%.0f s left)", done, count, song.name, left)
            return stems

        return dataclasses.replace(song, load=load)

    splits: Iterator = ((s, tuple(map(counting, library.splits[s]))) for s in SPLITS)
    return dataclasses.replace(library, splits=dict(splits))


def memory_bytes(samples: int) -> int:
    """Bytes that `samples` samples of songs take, in memory or on a device: two stems, stereo, int16."""
    return samples * len(STEMS) * 2 * 2
