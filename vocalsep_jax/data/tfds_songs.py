"""Songs as a TensorFlow Datasets data set: int16 stems in chunks that can be read in any order.

`prepare` writes the songs of a library once, as ArrayRecord files, into a cache folder; later runs read
them from there. The cache remembers the fingerprint of its source and is written anew when the source
has changed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import io
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vocalsep_jax.data.sampling import SongTable, voiced_blocks
from vocalsep_jax.data.songs import Library, Song, SongError, Stems

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # it warns of old processors at every op
import tensorflow as tf
import tensorflow_datasets as tfds

tf.config.set_visible_devices([], "GPU")  # the GPU belongs to JAX

log = logging.getLogger(__name__)

CHUNK = 65_536
"""Samples in a chunk: 1.5 s, so that a crop of a second touches two at the most."""

STEMS = ("vocals", "accompaniment")
DEFAULT_CACHE = "~/.cache/vocalsep_jax/songs"

_SPLITS = ("train", "valid")
_FULL_SCALE = 32_767.0


class SongChunks(tfds.core.GeneratorBasedBuilder):
    """The TFDS builder: one example a chunk, in order of song and place.

    `DatasetInfo.metadata` keeps the source's fingerprint and, for each split, the songs' names, lengths,
    full-scale values and voiced blocks.
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, library: Library | None = None, sample_rate: int = 0, **kwargs: Any):
        """A builder that reads an existing data set or, given a library, can write one."""
        self._library = library
        self._sample_rate = sample_rate
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        stem = tfds.features.Tensor(shape=(CHUNK, 2), dtype=np.int16, encoding="bytes")
        return tfds.core.DatasetInfo(
            builder=self,
            description="Vocals and accompaniment of songs, in chunks.",
            features=tfds.features.FeaturesDict(
                {"song": np.int32, "chunk": np.int32} | dict.fromkeys(STEMS, stem)
            ),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict]]]:
        del dl_manager  # nothing is downloaded
        assert self._library is not None
        self.info.metadata["fingerprint"] = self._library.fingerprint(_SPLITS)
        self.info.metadata["songs"] = {split: [] for split in _SPLITS}
        return {split: self._generate_examples(split) for split in _SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
        assert self._library is not None
        key = 0
        for number, song in enumerate(self._library.splits[split]):
            stems = song.load(self._sample_rate)
            scale = max(1.0, *(float(np.abs(getattr(stems, s)).max()) for s in STEMS))
            whole = {s: np.round(getattr(stems, s) * (_FULL_SCALE / scale)).astype(np.int16) for s in STEMS}
            samples = len(whole["vocals"])
            self.info.metadata["songs"][split].append(
                {
                    "name": song.name,
                    "samples": samples,
                    "scale": scale,
                    "first_chunk": key,
                    "voiced": voiced_blocks(stems.vocals, self._sample_rate).tolist(),
                }
            )
            for chunk, first in enumerate(range(0, samples, CHUNK)):
                pieces = {s: _padded(x[first : first + CHUNK]) for s, x in whole.items()}
                yield key, {"song": number, "chunk": chunk} | pieces
                key += 1


def _padded(chunk: np.ndarray) -> np.ndarray:
    return np.pad(chunk, ((0, CHUNK - len(chunk)), (0, 0)))


@dataclasses.dataclass(frozen=True)
class SongStore:
    """Prepared songs of one split, read at any place.

    Attributes:
      table: lengths and voiced blocks, for `sampling`.
      names: the songs' names.
      scales: float32 `[songs]`; an int16 value times its song's scale is the sample value.
    """

    table: SongTable
    names: tuple[str, ...]
    scales: np.ndarray
    _first_chunks: np.ndarray
    _source: Any

    def read(self, stem: str, song: int, start: int, samples: int) -> np.ndarray:
        """int16 `[samples, 2]` of a stem from sample `start` on, zeros where the song has ended."""
        length = int(self.table.samples[song])
        end = min(start + samples, length)
        out = np.zeros((samples, 2), np.int16)
        for chunk in range(start // CHUNK, -(-end // CHUNK)):
            example = self._source[int(self._first_chunks[song]) + chunk]
            if (example["song"], example["chunk"]) != (song, chunk):
                raise SongError("the song cache is out of order; delete it, it is made again")
            first, last = max(start, chunk * CHUNK), min(end, (chunk + 1) * CHUNK)
            piece = example[stem][first - chunk * CHUNK : last - chunk * CHUNK]
            out[first - start : last - start] = piece
        return out

    def whole(self, song: int) -> Stems:
        """A whole song as floats."""
        samples = int(self.table.samples[song])
        return Stems(
            *(self.read(s, song, 0, samples).astype(np.float32) * self.scales[song] for s in STEMS)
        )


def prepare(library: Library, sample_rate: int, cache: str | Path = "") -> dict[str, SongStore]:
    """Write the library's training and validation songs to the cache, unless they are there.

    Processes that share the cache folder wait for the one that writes. Progress is logged.

    Args:
      library: songs to prepare.
      sample_rate: Hz.
      cache: folder for prepared songs; `DEFAULT_CACHE` if empty.

    Returns:
      A store for each of `train` and `valid`.

    Raises:
      SongError: if a song cannot be read or the cache cannot be written.
    """
    fingerprint = library.fingerprint(_SPLITS)
    source = library.source if not Path(library.source).is_dir() else str(Path(library.source).resolve())
    slug = re.sub(r"[^A-Za-z0-9]+", "-", Path(source).name).strip("-").lower()[:40]
    # The choice of validation songs is part of the name, so that runs that differ in it do not undo
    # each other's cache; a change of the files themselves is found by the fingerprint.
    choice = [[s.name for s in library.splits[split]] for split in _SPLITS]
    place = hashlib.sha256(repr((source, sample_rate, choice)).encode()).hexdigest()[:8]
    folder = Path(cache or DEFAULT_CACHE).expanduser() / f"{slug}-{sample_rate}-{place}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder / ".lock"):
            builder = SongChunks(data_dir=str(folder))
            if builder.is_prepared() and builder.info.metadata.get("fingerprint") != fingerprint:
                log.warning("songs in %s have changed: preparing them anew", library.source)
                shutil.rmtree(builder.data_dir)
            if not SongChunks(data_dir=str(folder)).is_prepared():
                _write(library, sample_rate, folder)
            builder = SongChunks(data_dir=str(folder))
    except OSError as error:
        raise SongError(f"{folder}: cannot hold prepared songs ({error.strerror})") from error
    return {split: _store(builder, split) for split in _SPLITS}


def _write(library: Library, sample_rate: int, folder: Path) -> None:
    count = sum(len(library.splits[s]) for s in _SPLITS)
    log.info("preparing %d songs from %s in %s", count, library.source, folder)
    for left_over in folder.glob("song_chunks/incomplete.*"):  # of a process that was killed
        shutil.rmtree(left_over)
    counted = dataclasses.replace(library, splits=_with_progress(library.splits, count))
    tfds.disable_progress_bar()
    builder = SongChunks(library=counted, sample_rate=sample_rate, data_dir=str(folder))
    with contextlib.redirect_stdout(io.StringIO()):  # it prints about downloads, and there are none
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))


def _with_progress(splits: dict[str, tuple[Song, ...]], count: int) -> dict[str, tuple[Song, ...]]:
    """The same songs, logging as they are loaded, with the time left."""
    begin, done = time.monotonic(), 0

    def counting(song: Song) -> Song:
        def load(rate: int) -> Stems:
            nonlocal done
            stems = song.load(rate)
            done += 1
            left = (time.monotonic() - begin) / done * (count - done)
            log.info("  %d of %d: %s (%.0f s left)", done, count, song.name, left)
            return stems

        return dataclasses.replace(song, load=load)

    return {split: tuple(counting(s) for s in songs) for split, songs in splits.items()}


def _store(builder: SongChunks, split: str) -> SongStore:
    songs = builder.info.metadata["songs"][split]
    return SongStore(
        table=SongTable.from_metadata(songs),
        names=tuple(s["name"] for s in songs),
        scales=np.array([s["scale"] for s in songs], np.float32) / np.float32(_FULL_SCALE),
        _first_chunks=np.array([s["first_chunk"] for s in songs], np.int64),
        _source=builder.as_data_source(split) if songs else None,
    )


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`, which other processes on this file system respect."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
