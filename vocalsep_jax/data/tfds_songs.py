"""The song cache: prepared songs on disk, as a data set of TensorFlow Datasets (TFDS).

`prepare` writes the songs of a library into a cache folder, as ArrayRecord files. Later runs read them from
there. The cache keeps the fingerprint of the library. When the songs have changed, it is written again.

A record is a chunk of a song: its int16 samples, both stems. Chunks can be read in any order.

Axis letters: `C` channels (left and right).
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import io
import json
import logging
import math
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import vocalsep_jax.runtime.quiet_tensorflow  # noqa: F401, before TFDS imports TensorFlow its own way
from vocalsep_jax.data.prepared import (
    SPLITS,
    STEMS,
    PreparedSong,
    prepare_songs,
    song_count,
    with_progress,
)
from vocalsep_jax.data.sampling import SongTable
from vocalsep_jax.data.songs import Library, SongError
from vocalsep_jax.runtime.console import reason_of
from vocalsep_jax.runtime.places import irregular

import tensorflow_datasets as tfds  # isort: skip

log = logging.getLogger(__name__)

CHUNK = 65_536
"""Samples in a chunk: 1.5 s at 44.1 kHz, so that a crop of a second lies in two chunks at most."""

_CHUNK_BITS = 32
"""A key has in so many bits the number of a chunk, above them that of its song."""

_RECORDS_KEPT = 32
"""Number of records that a store remembers."""

DEFAULT_CACHE = "~/.cache/vocalsep_jax/songs"


class SongChunks(tfds.core.GeneratorBasedBuilder):
    """The TFDS builder. Examples are chunks, in the order of the songs and of their place in the song.

    `DatasetInfo.metadata` holds the fingerprint of the library under "fingerprint". Under "songs" it holds,
    by split, what is known of each song, as `note_of` has it.
    """

    VERSION = tfds.core.Version("3.0.0")

    def __init__(self, *, library: Library | None = None, sample_rate: int = 0, **kwargs: Any):
        """A builder that reads a data set, or writes one if it is given a library and a rate in Hz."""
        self._library = library
        self._sample_rate = sample_rate
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        stem = tfds.features.Tensor(shape=(2, CHUNK), dtype=np.int16, encoding="bytes")
        return tfds.core.DatasetInfo(
            builder=self,
            description="Vocals and accompaniment of songs, in chunks.",
            features=tfds.features.FeaturesDict(
                {"song": np.int32, "chunk": np.int32} | dict.fromkeys(STEMS, stem)
            ),
            disable_shuffling=True,
            metadata=self._metadata(),
        )

    def _metadata(self) -> tfds.core.Metadata:
        return tfds.core.MetadataDict()

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict]]]:
        del dl_manager  # nothing is downloaded
        assert self._library is not None
        self.info.metadata["fingerprint"] = self._library.fingerprint(SPLITS)
        self.info.metadata["songs"] = {split: [] for split in SPLITS}
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
        assert self._library is not None
        songs = self._library.splits[split]
        for number, prepared in enumerate(prepare_songs(songs, self._sample_rate)):
            self.info.metadata["songs"][split].append(note_of(prepared))
            yield from examples(number, prepared)


class NotesFromFile(tfds.core.MetadataDict):
    """Metadata whose "songs" are what the pipeline has left in a file when it is saved.

    TFDS' own, for pipelines, has such a file in a temporary folder of this machine, where workers elsewhere
    cannot write.
    """

    def __init__(self, file: Path):
        super().__init__()
        self._file = file

    def save_metadata(self, data_dir: Any) -> None:
        """Write the metadata, what is in the file included; the file is removed."""
        self["songs"] = json.loads(self._file.read_text(encoding="ascii"))
        super().save_metadata(data_dir)
        self._file.unlink()


def note_of(song: PreparedSong) -> dict[str, Any]:
    """What the data set notes of a song, beside its chunks."""
    return {
        "name": song.name,
        "samples": song.stems["vocals"].shape[1],
        "scale": song.scale,
        "voiced": song.voiced.tolist(),
    }


def examples(number: int, song: PreparedSong) -> Iterator[tuple[int, dict[str, Any]]]:
    """The examples of the song with this number in its split, with their keys, in whose order they lie."""
    for chunk, first in enumerate(range(0, song.stems["vocals"].shape[1], CHUNK)):
        pieces = {s: _padded(x[:, first : first + CHUNK]) for s, x in song.stems.items()}
        yield number << _CHUNK_BITS | chunk, {"song": number, "chunk": chunk} | pieces


def _padded(chunk: np.ndarray) -> np.ndarray:
    """`[C, up to CHUNK]` with zeros at the end, `[C, CHUNK]`."""
    return np.pad(chunk, ((0, 0), (0, CHUNK - chunk.shape[1])))


@dataclasses.dataclass(frozen=True)
class ChunkStore:
    """A `prepared.SongStore` that reads from the cache what it is asked for.

    Attributes:
      table, names, scales: as in `SongStore`.
    """

    table: SongTable
    names: tuple[str, ...]
    scales: np.ndarray
    _first_chunks: np.ndarray
    _source: Any
    _folder: Path

    def read(self, stem: str, song: int, start: int, samples: int) -> np.ndarray:
        """As `SongStore.read`.

        Raises:
          SongError: if the cache is damaged.
        """
        length = int(self.table.samples[song])
        end = min(start + samples, length)
        out = np.zeros((2, samples), np.int16)
        for chunk in range(start // CHUNK, -(-end // CHUNK)):
            with _one_line_errors(self._folder):
                example = self._record(int(self._first_chunks[song]) + chunk)
                if (example["song"], example["chunk"]) != (song, chunk):
                    raise ValueError("it is out of order")
            first, last = max(start, chunk * CHUNK), min(end, (chunk + 1) * CHUNK)
            piece = example[stem][:, first - chunk * CHUNK : last - chunk * CHUNK]
            out[:, first - start : last - start] = piece
        return out

    @functools.cached_property
    def _record(self) -> Callable[[int], Any]:
        """Read record n. The latest records are remembered, since the other stem is in the same record."""
        return functools.lru_cache(_RECORDS_KEPT)(self._source.__getitem__)


def write_here(library: Library, sample_rate: int, folder: Path) -> None:
    """Write the data set of a library into its folder, by this process."""
    write_data_set(
        SongChunks(library=with_progress(library), sample_rate=sample_rate, data_dir=str(folder))
    )


def write_data_set(builder: SongChunks, **how: Any) -> None:
    """Write a data set; `how` are fields of TFDS' `DownloadConfig`."""
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints that it downloads; it does not
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(try_download_gcs=False, **how)
        )


def prepare(
    library: Library,
    sample_rate: int,
    cache: str | Path = "",
    write: Callable[[Library, int, Path], None] = write_here,
) -> dict[str, ChunkStore]:
    """Write the training and validation songs of a library to the cache, unless they are there already.

    One process writes, and the others that share the cache folder wait for it. `write_here` logs progress.

    Args:
      library: the songs.
      sample_rate: Hz.
      cache: folder that holds the caches of all libraries; `DEFAULT_CACHE` if empty.
      write: writes the data set of a library, at a rate in Hz, into an empty folder.

    Returns:
      A store for each of `train` and `valid`.

    Raises:
      SongError: if a song cannot be read, or the cache cannot be written or is damaged.
    """
    fingerprint = library.fingerprint(SPLITS)
    source = library.source if not Path(library.source).is_dir() else str(Path(library.source).resolve())
    slug = re.sub(r"[^A-Za-z0-9]+", "-", Path(source).name).strip("-").lower()[:40]
    # The names and the split of the songs are part of the folder's name. So runs that differ in their
    # validation songs have a cache each, and do not overwrite each other's. The fingerprint tells when a
    # song's file has changed.
    choice = [[s.name for s in library.splits[split]] for split in SPLITS]
    place = hashlib.sha256(repr((source, sample_rate, choice)).encode()).hexdigest()[:8]
    folder = Path(cache or DEFAULT_CACHE).expanduser().absolute() / f"{slug}-{sample_rate}-{place}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder / ".lock"):
            found = _fingerprint(folder)
            if found != fingerprint:
                if found is not None:
                    log.warning("songs in %s have changed: preparing them anew", library.source)
                log.info("preparing %d songs from %s in %s", song_count(library), library.source, folder)
                for left_over in folder.glob("song_chunks/*"):  # of a killed process, or an older version
                    shutil.rmtree(left_over)
                write(library, sample_rate, folder)
    except OSError as error:
        raise SongError(f"{folder}: cannot hold prepared songs ({error.strerror})") from error
    with _one_line_errors(folder):
        builder = SongChunks(data_dir=str(folder))
        return {split: _store(builder, split, folder) for split in SPLITS}


def _fingerprint(folder: Path) -> str | None:
    """The fingerprint of the songs in a cache folder; None if there are none yet.

    Raises:
      SongError: if it is damaged.
    """
    with _one_line_errors(folder):
        if odd := irregular(folder):
            raise ValueError(f"{odd.name} is no file")
        builder = SongChunks(data_dir=str(folder))
        return str(builder.info.metadata.get("fingerprint")) if builder.is_prepared() else None


@contextlib.contextmanager
def _one_line_errors(folder: Path) -> Iterator[None]:
    """Turn whatever TFDS raises into a SongError."""
    try:
        yield
    except Exception as error:  # the readers of records have errors of many kinds
        raise SongError(
            f"{folder}: the song cache is damaged ({reason_of(error)}); delete it, it is made again"
        ) from error


def _store(builder: SongChunks, split: str, folder: Path) -> ChunkStore:
    """A split of a data set that has been written; raises ValueError if what is noted of it cannot be."""
    songs = [_SongNote(**note) for note in builder.info.metadata["songs"][split]]
    source = builder.as_data_source(split) if songs else None
    firsts = np.cumsum([0, *(-(-song.samples // CHUNK) for song in songs)], dtype=np.int64)
    if firsts[-1] != len(source or ()):
        raise ValueError("other songs are noted than there are")
    return ChunkStore(
        table=SongTable.of([song.samples for song in songs], [np.array(song.voiced) for song in songs]),
        names=tuple(song.name for song in songs),
        scales=np.array([song.scale for song in songs], np.float32),
        _first_chunks=firsts,
        _source=source,
        _folder=folder,
    )


@dataclasses.dataclass(frozen=True)
class _SongNote:
    """What the cache notes of a song; raises ValueError if that cannot be."""

    name: str
    samples: int
    scale: float
    voiced: list[int]

    def __post_init__(self) -> None:
        numbers = [self.samples, *self.voiced]
        if not isinstance(self.name, str) or any(type(x) is not int for x in numbers):
            raise ValueError("what is noted of a song is of other types")
        if not all(0 <= first < self.samples for first in self.voiced) or not 0 < self.scale < math.inf:
            raise ValueError("what is noted of a song cannot be")


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file `path`. Another process that wants it waits."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
