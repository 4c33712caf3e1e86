"""A song's file in, files of its stems out.

They are written whole or not at all, in memory that does not depend on the song's length.

Axis letters: `S` samples, `C` channels.
"""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

import numpy as np

from vocalsep_jax.audio.encoding import Encoding, quantise
from vocalsep_jax.audio.files import AudioError, Reader, Writer
from vocalsep_jax.runtime import disk

STEMS = ("vocals", "no_vocals")
CLIP_MODES = ("clamp", "rescale", "none")

Stream = Iterator[dict[str, np.ndarray]]
"""Stems of a song, stretch by stretch: float32 `[S, C]` each."""

Progress = Callable[[float, float], None]
"""Called with the seconds that are done, and those there are in all (0 if unknown).

What it raises ends the separation.
"""

_Item = TypeVar("_Item")
_SPOOL_BLOCK = 2**16
"""Samples read at a time of the stems that wait on disk."""


@dataclass(frozen=True)
class Separated:
    """What came of a file.

    Attributes:
      samples: S of each channel.
      sample_rate: Hz.
      channels: C.
      clipped: sample values that were cut off at full scale, all written stems and channels together.
      scale: what both stems were multiplied by, 1.0 unless they were rescaled.
    """

    samples: int
    sample_rate: int
    channels: int
    clipped: int = 0
    scale: float = 1.0

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.samples / self.sample_rate


def separate_to_files(
    separate: Callable[[Iterable[np.ndarray], int], Stream],
    path: str | os.PathLike[str],
    outputs: Mapping[str, str | os.PathLike[str]],
    *,
    encoding: Encoding,
    clip_mode: str,
    start: float,
    duration: float | None,
    progress: Progress | None,
) -> Separated:
    """Separate a file into files.

    Args:
      separate: from blocks `[S, C]` and their sample rate in Hz to stems of the same samples.
      path, outputs, encoding, clip_mode, start, duration, progress: as `Separator.separate_to` has them.

    Raises:
      AudioError: if the input cannot be used or an output cannot be written; then there are no outputs.
      ValueError: if there is no output, no such stem or clip mode, or `start` or `duration` are out of
        range.
    """
    if not outputs:
        raise ValueError("no outputs")
    if unknown := [name for name in outputs if name not in STEMS]:
        raise ValueError(f"stems are {', '.join(STEMS)}, not {unknown[0]!r}")
    if clip_mode not in CLIP_MODES:
        raise ValueError(f"clip_mode must be one of {', '.join(CLIP_MODES)}, not {clip_mode!r}")
    if not start >= 0 or not (duration is None or duration > 0):
        raise ValueError(f"no part of a song: start {start}, duration {duration}")
    source = disk.identity(Path(path))
    if source and source in (disk.identity(Path(output)) for output in outputs.values()):
        raise AudioError(f"{path}: its output would overwrite it")
    with Reader(path) as song, contextlib.ExitStack() as stack:
        first = _in_samples(start, song.rate)
        count = None if duration is None else max(1, _in_samples(duration, song.rate))
        expected = max(0, song.frames - first)
        if count is not None:
            expected = min(expected, count)
        watch = _Watch(song.rate, expected, progress)
        writers = {
            name: stack.enter_context(Writer(out, song.rate, song.channels, encoding, expected))
            for name, out in outputs.items()
        }
        # Progress is told of incoming blocks too: hours may be left out before the first stems.
        stream = separate(watch.told(song.blocks(first, count)), song.rate)
        stream = watch.counted(_naming(path, stream))
        scale = 1.0
        if clip_mode == "rescale":
            output = Path(next(iter(outputs.values())))
            stream, scale = stack.enter_context(_rescaled(stream, min(1.0, encoding.full_scale), output))
            stream = watch.told(stream)
        samples, clipped = _write(stream, writers, encoding, path, refuse_clipping=clip_mode == "none")
        return Separated(samples, song.rate, song.channels, clipped, scale)


def _write(
    stream: Stream,
    writers: Mapping[str, Writer],
    encoding: Encoding,
    path: str | os.PathLike[str],
    *,
    refuse_clipping: bool,
) -> tuple[int, int]:
    """Write all stems; returns the samples of each channel, and how many sample values were clipped.

    Raises:
      AudioError: if that fails, or samples of the song `path` would be clipped and must not be.
    """
    samples = clipped = 0
    for stems in stream:
        beyond = {name: _count_beyond(stems[name], encoding) for name in writers}
        clipped += sum(beyond.values())
        if clipped and refuse_clipping:
            name = max(beyond, key=lambda name: beyond[name])
            raise AudioError(
                f"{path}: {name} goes beyond full scale ({np.abs(stems[name]).max():.3f}), "
                "which only float32 holds; or let it be clamped or rescaled"
            )
        if encoding.bits:
            vocals = stems["vocals"]
            rounded = quantise(vocals, encoding.bits)
            # The rest takes up what rounding does to the voice; not what clipping does.
            stems["no_vocals"] += np.where(np.abs(vocals) <= 1, vocals - rounded, 0)
            stems["vocals"] = rounded
        for name, writer in writers.items():
            writer.write(stems[name])
        samples += len(stems["vocals"])
    for writer in writers.values():  # all are complete before the first has its name
        writer.finish()
    return samples, clipped


def _in_samples(seconds: float, rate: int) -> int:
    """Seconds in samples; at most 2^62, more than any file has."""
    return round(min(seconds * rate, 2.0**62))


def _count_beyond(samples: np.ndarray, encoding: Encoding) -> int:
    """How many samples are cut off when they are written, by more than rounding."""
    if math.isinf(encoding.full_scale):
        return 0
    half_a_step = 2.0**-encoding.bits if encoding.bits else 0.0
    beyond = (samples > encoding.full_scale + half_a_step) | (samples < -1 - half_a_step)
    return int(np.count_nonzero(beyond))


def _naming(
    path: str | os.PathLike[str], stream: Iterator[dict[str, np.ndarray]]
) -> Iterator[dict[str, np.ndarray]]:
    """`stream`, its ValueErrors as AudioErrors of the file `path`."""
    try:
        yield from stream
    except ValueError as error:
        raise AudioError(f"{path}: {error}") from error


class _Watch:
    """Tells `progress` how far a separation has come."""

    def __init__(self, rate: int, expected: int, progress: Callable[[float, float], None] | None):
        self._rate, self._expected, self._progress = rate, expected, progress
        self._done = 0

    def told(self, items: Iterator[_Item]) -> Iterator[_Item]:
        """`items`; tells at each."""
        for item in items:
            self._tell()
            yield item

    def counted(self, stream: Iterator[dict[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
        """`stream`, whose samples are what is done; tells after each."""
        for stems in stream:
            yield stems
            self._done += len(stems["vocals"])
            self._tell()

    def _tell(self) -> None:
        if self._progress:
            total = max(self._done, self._expected) if self._expected else 0
            self._progress(self._done / self._rate, total / self._rate)


@contextlib.contextmanager
def _rescaled(
    stream: Iterator[dict[str, np.ndarray]], limit: float, output: Path
) -> Iterator[tuple[Iterator[dict[str, np.ndarray]], float]]:
    """`stream` multiplied by the factor that keeps it within `limit`, and the factor (at most 1.0).

    The stems wait in a nameless file beside `output` until the peak is known.
    """
    with contextlib.ExitStack() as stack:
        with _disk_errors(output):
            spool = tempfile.TemporaryFile(dir=output.parent)  # noqa: SIM115 - closed below
        stack.callback(_close, spool)
        peak, channels = 0.0, 1
        for stems in stream:
            both = np.concatenate([stems[name] for name in STEMS], axis=1)
            peak = max(peak, float(np.abs(both).max(initial=0.0)))
            channels = stems["vocals"].shape[1]
            with _disk_errors(output):
                spool.write(both.tobytes())
        # The next float32 below: the peak is not to be rounded to beyond the limit.
        scale = float(np.nextafter(np.float32(limit / peak), np.float32(0))) if peak > limit else 1.0
        with _disk_errors(output):
            spool.seek(0)

        def scaled() -> Iterator[dict[str, np.ndarray]]:
            while data := spool.read(_SPOOL_BLOCK * 2 * channels * 4):
                both = np.frombuffer(data, np.float32).reshape(-1, 2 * channels) * np.float32(scale)
                yield dict(zip(STEMS, np.split(both, 2, axis=1), strict=True))

        yield scaled(), scale


def _close(file: IO[bytes]) -> None:
    """Close a file whose contents no longer matter: what a full disk did not take may be lost."""
    with contextlib.suppress(OSError):
        file.close()


@contextlib.contextmanager
def _disk_errors(output: Path) -> Iterator[None]:
    """Around what is done on the disk for the sake of `output`."""
    try:
        yield
    except OSError as error:
        raise AudioError(f"{output}: cannot be written ({error.strerror})") from error
