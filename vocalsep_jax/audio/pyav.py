"""Reading audio, by PyAV, from files that libsndfile does not read, such as m4a and video.

`[S, C]`: samples, channels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

SUFFIXES = (
    ".m4a",
    ".aac",
    ".mp4",
    ".m4v",
    ".mov",
    ".mkv",
    ".mka",
    ".webm",
    ".wma",
    ".ac3",
    ".avi",
    ".ts",
    ".3gp",
)
"""Suffixes of the files that are read by this module."""


class MediaError(Exception):
    """A file cannot be used; the message says why."""


class MediaFile:
    """One audio stream of a container, decoded from its beginning to its end.

    Attributes:
      samplerate: Hz.
      channels: C.
      frames: samples S of each channel as the file's header says, 0 if it does not.
      streams: audio streams that the file has.
    """

    def __init__(self, path: Path, stream: int = 0):
        """Open a file.

        Raises:
          MediaError: if it is not readable, has no such stream, or PyAV is not installed.
        """
        try:
            import av
        except ImportError as error:
            raise MediaError(f"{path.suffix} needs PyAV: pip install 'vocalsep_jax[av]'") from error
        self._errors: tuple[type[Exception], ...] = (av.FFmpegError, ValueError)
        with self._readable():
            # Without `file:`, a colon in a name would end a protocol. Tags need not be UTF-8.
            self._container = av.open(f"file:{path}", metadata_errors="replace")
        try:
            self.streams = len(self._container.streams.audio)
            if stream >= self.streams:
                raise MediaError("no audio in it" if not self.streams else f"no audio stream {stream}")
            audio = self._container.streams.audio[stream]
            if audio.codec_context is None:
                raise MediaError("a sound of an unknown kind")
            if not audio.rate or not audio.channels:
                raise MediaError("a sound without rate or channels")
            self.samplerate, self.channels = int(audio.rate), int(audio.channels)
            seconds = audio.duration * audio.time_base if audio.duration else 0
            if not seconds:  # as in Matroska; the container's is in microseconds
                seconds = (self._container.duration or 0) / 1e6
            self.frames = int(seconds * self.samplerate)
            # Packed: with eight planes or more, PyAV looks for more than there are, and crashes.
            self._decoded = self._decode(
                audio, av.AudioResampler(format="flt", layout=audio.layout, rate=self.samplerate)
            )
        except BaseException:
            self.close()
            raise

    def read(self, count: int) -> np.ndarray:
        """Read the next samples, float32 `[S, C]`: at least `count`; fewer at the end, none after it.

        Raises:
          MediaError: if they are damaged.
        """
        blocks = [np.zeros((0, self.channels), np.float32)]
        missing = count
        with self._readable():
            while missing > 0 and (block := next(self._decoded, None)) is not None:
                blocks.append(block)
                missing -= len(block)
        return np.concatenate(blocks)

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _decode(self, audio: object, converter: object) -> Iterator[np.ndarray]:
        for frame in self._container.decode(audio):
            for packed in converter.resample(frame):  # type: ignore[attr-defined]
                yield packed.to_ndarray().reshape(-1, self.channels)

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except IndexError as error:  # PyAV's
            raise MediaError("a stream that is not in its header") from error
        except self._errors as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise MediaError(reason.rsplit(": ", 1)[-1]) from error
