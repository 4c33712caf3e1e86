"""Audio files to arrays and back.

`[S, C]`: samples, channels. Sample values are floats with full scale at 1.0.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from vocalsep_jax.audio import pyav
from vocalsep_jax.audio.encoding import Encoding, quantise
from vocalsep_jax.runtime import disk
from vocalsep_jax.runtime.console import one_line

_LIBSNDFILE_SUFFIXES = (
    ".wav",
    ".flac",
    ".ogg",
    ".oga",
    ".opus",
    ".mp3",
    ".aif",
    ".aiff",
    ".au",
    ".caf",
    ".rf64",
    ".w64",
)

SUFFIXES = _LIBSNDFILE_SUFFIXES + pyav.SUFFIXES
"""Suffixes of the files that are taken from a folder as audio; those after `.w64` need PyAV."""

_BLOCK = 2**16
"""Samples read at a time."""

_PLAIN = {"WAV", "WAVEX", "W64", "RF64", "AIFF"}
"""Formats that hold samples one after the other, if they are not coded."""

_WAV_LIMIT = 2**32 - 2**20
"""Bytes of samples beyond which a WAV file's header cannot tell its size."""

STEM_FILE_SUFFIX = ".stem.mp4"
"""How the name of a file that holds a mixture and its stems ends."""


class AudioError(Exception):
    """An audio file cannot be used; the message names it and says why, in one line."""

    def __init__(self, message: str):
        super().__init__(one_line(message))


class _Stream(soundfile.SoundFile):
    """A file that is read from its beginning to its end.

    soundfile seeks to where it is after every read of a file that is seekable. An MP3 decoder then forgets
    the bits that earlier frames have saved up for later ones, and what follows is wrong.
    """

    def seekable(self) -> bool:
        return False


class Reader:
    """An audio file, read in blocks; or one audio stream of a video or of a file of stems.

    Attributes:
      path: the file's.
      rate: Hz.
      channels: C.
      frames: samples S of each channel, as the file's header says; 0 if it does not.
      streams: audio streams that the file has.
    """

    def __init__(self, path: str | os.PathLike[str], stream: int = 0):
        """Open a file.

        Raises:
          AudioError: if it is missing or unreadable, or has no such stream.
        """
        self.path = Path(path)
        with self._errors(), contextlib.ExitStack() as stack:
            if not self.path.is_file():
                raise AudioError(f"{path}: {'is not a file' if self.path.exists() else 'no such file'}")
            # Opened here: libsndfile does not say why it cannot open a file, and soundfile wants names in
            # UTF-8 and takes .raw for samples without a header.
            opened = stack.enter_context(self.path.open("rb", buffering=0))
            self._file: _Stream | pyav.MediaFile
            if self.path.suffix.lower() in pyav.SUFFIXES:
                self._file = pyav.MediaFile(self.path, stream)
                self.streams = self._file.streams
                stack.callback(self._file.close)
            else:
                self._file = stack.enter_context(_Stream(opened.fileno(), closefd=False))
                self.streams = 1
            self._stack = stack.pop_all()
        self.rate: int = self._file.samplerate
        self.channels: int = self._file.channels
        self.frames: int = self._file.frames

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def blocks(self, start: int = 0, count: int | None = None) -> Iterator[np.ndarray]:
        """Read the samples, once, in blocks: float32 `[S, C]`, S at least 0, all finite.

        Args:
          start: samples to leave out at the beginning. They are decoded nevertheless, and give empty
            blocks, but in a file of plain samples: seeking is not exact in every format.
          count: samples to read after these; to the end of the file if None.

        Raises:
          AudioError: if the file has no samples, ends before `start`, is damaged, or holds NaN or infinity.
        """
        place = self._skip(start)  # of the next block, from the beginning of the file
        end = math.inf if count is None else start + count
        while place < end:
            block = self._read()
            if not len(block):
                break
            wanted = block[max(0, start - place) : max(0, int(min(end - place, len(block))))]
            place += len(block)
            if not np.isfinite(wanted).all():
                raise AudioError(f"{self.path}: holds samples that are not finite (NaN or infinity)")
            yield wanted
        if not place:
            raise AudioError(f"{self.path}: holds no samples")
        if place <= start:
            raise AudioError(
                f"{self.path}: ends after {place / self.rate:.2f} s, before {start / self.rate:.2f} s"
            )

    def _skip(self, start: int) -> int:
        """Go to a sample if the format is one in which that is exact; returns where the file is."""
        file = self._file
        if isinstance(file, pyav.MediaFile) or not 0 < start < self.frames:
            return 0
        if file.format not in _PLAIN or not file.subtype.startswith(("PCM", "FLOAT", "DOUBLE")):
            return 0
        with self._errors():
            return file.seek(start)

    def _read(self) -> np.ndarray:
        with self._errors():
            if isinstance(self._file, pyav.MediaFile):
                return self._file.read(_BLOCK)
            return self._file.read(_BLOCK, dtype="float32", always_2d=True)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (soundfile.LibsndfileError, OSError, pyav.MediaError) as error:
            raise AudioError(f"{self.path}: not readable as audio ({_reason(error)})") from error


def track_name(path: str | os.PathLike[str]) -> str:
    """A file's name without its suffix, or without `.stem.mp4`."""
    path = Path(path)
    if path.name.lower().endswith(STEM_FILE_SUFFIX) and len(path.name) > len(STEM_FILE_SUFFIX):
        return path.name[: -len(STEM_FILE_SUFFIX)]
    return path.stem


def read(path: str | os.PathLike[str], stream: int = 0) -> tuple[np.ndarray, int]:
    """Read a whole file, or one audio stream of it.

    Returns:
      float32 `[S, C]`, S at least 1, all finite; and the sample rate in Hz.

    Raises:
      AudioError: if the file is missing, unreadable, without samples, or holds NaN or infinity.
    """
    with Reader(path, stream) as reader:
        return np.concatenate(list(reader.blocks())), reader.rate


class Writer:
    """An audio file, written in blocks, that gets its name when it is complete.

    A context manager: if its block fails, no file is left. A WAV file beyond 4 GiB becomes RF64.
    """

    def __init__(
        self, path: str | os.PathLike[str], rate: int, channels: int, encoding: Encoding, frames: int
    ):
        """Start a file of about `frames` samples a channel (0: unknown).

        Raises:
          AudioError: if the container cannot hold such a rate or so many channels.
        """
        self.path = Path(path)
        self._rate, self._channels, self._encoding = rate, channels, encoding
        try:
            self._options = encoding.options(rate, channels)
        except ValueError as error:
            raise AudioError(f"{path}: {error}") from error
        self._format = encoding.container.upper()
        self._limit = math.inf  # samples of each channel
        if encoding.container == "wav":
            self._limit = _WAV_LIMIT // (channels * (encoding.bits or 32) // 8)
            if frames > self._limit:
                self._format, self._limit = "RF64", math.inf
        self._written = 0  # samples of each channel

    def __enter__(self) -> Writer:
        with self._errors(), contextlib.ExitStack() as stack:
            if self.path.is_dir():  # not at the end, when other outputs have their names already
                raise IsADirectoryError(errno.EISDIR, "is a folder")
            partial = stack.enter_context(disk.replacing(self.path))
            self._encoder = stack.enter_context(contextlib.ExitStack())
            self._encoder.enter_context(self._read_back(partial))
            self._file = self._encoder.enter_context(
                soundfile.SoundFile(
                    os.fsencode(partial),
                    "w",
                    self._rate,
                    self._channels,
                    self._encoding.subtype,
                    format=self._format,
                    **self._options,
                )
            )
            self._stack = stack.pop_all()
        return self

    def write(self, samples: np.ndarray) -> None:
        """Append float32 `[S, C]`. Integer samples are rounded; all but float32 are clipped at full scale.

        Raises:
          AudioError: if that fails (as on a full disk).
        """
        if self._encoding.bits:  # libsndfile would cut them off
            samples = quantise(samples, self._encoding.bits)
        elif self._encoding.sample is None:  # LAME ends the process at very large numbers
            samples = np.clip(samples, -1, 1)
        self._written += len(samples)
        with self._errors():
            if self._written > self._limit:
                raise OSError(
                    errno.EFBIG, "longer than its source's header says, and than WAV files can be"
                )
            self._file.write(samples)

    def finish(self) -> None:
        """End the file. It gets its name when the context ends, so that several files can appear together.

        Raises:
          AudioError: if its end cannot be written.
        """
        with self._errors():
            self._encoder.close()

    def __exit__(self, *details: Any) -> None:
        with self._errors():
            self._stack.__exit__(*details)

    @contextlib.contextmanager
    def _read_back(self, partial: Path) -> Iterator[None]:
        """Around the writing: raises OSError if the end of the file is not there afterwards.

        Encoders write their last samples when the file is closed; libsndfile does not say if that fails.
        """
        yield
        if self._written:
            with soundfile.SoundFile(os.fsencode(partial)) as file:
                last = self._written - file.seek(max(0, min(self._written, file.frames) - _BLOCK))
                if len(file.read(last)) < last:
                    raise OSError(errno.EIO, "its end is not there: is the disk full?")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (soundfile.LibsndfileError, OSError, ValueError) as error:
            raise AudioError(f"{self.path}: cannot be written ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    """The part of an error's message that does not repeat the path."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, pyav.MediaError):
        return str(error)
    return str(error).rsplit(": ", 1)[-1].strip().rstrip(".")
