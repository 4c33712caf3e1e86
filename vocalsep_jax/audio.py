"""Audio files to arrays and back, and resampling.

`[S, C]`: samples, channels. Sample values are floats with full scale at 1.0.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import soundfile
import soxr

from vocalsep_jax import files

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
"""Suffixes of the files this module reads."""


class AudioError(Exception):
    """An audio file cannot be used; the message names it and says why, in one line."""


def read(path: str | os.PathLike[str]) -> tuple[np.ndarray, int]:
    """Read a whole file.

    Returns:
      float32 `[S, C]`, S at least 1, all finite; and the sample rate in Hz.

    Raises:
      AudioError: if the file is missing, unreadable, without samples, or holds NaN or infinity.
    """
    path = Path(path)
    if not path.is_file():
        raise AudioError(f"{path}: {'is not a file' if path.exists() else 'no such file'}")
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"{path}: not readable as audio ({_reason(error)})") from error
    if samples.shape[0] == 0:
        raise AudioError(f"{path}: holds no samples")
    if not np.isfinite(samples).all():
        raise AudioError(f"{path}: holds samples that are not finite (NaN or infinity)")
    return samples, rate


def write_wav(
    path: str | os.PathLike[str], samples: np.ndarray, rate: int, subtype: str = "PCM_16"
) -> None:
    """Write `[S, C]` as WAV under its final name only when complete. Values beyond ±1 are clipped.

    Raises:
      AudioError: if the file cannot be written.
    """
    path = Path(path)
    try:
        with files.replacing(path) as partial:
            soundfile.write(partial, samples, rate, subtype=subtype, format="WAV")
    except (soundfile.LibsndfileError, OSError, ValueError) as error:
        raise AudioError(f"{path}: cannot be written ({_reason(error)})") from error


def quantise(samples: np.ndarray) -> np.ndarray:
    """Round to the 16-bit grid (multiples of 2^-15), clipped to its range; float32, same shape."""
    return (np.clip(np.round(samples * 32768.0), -32768, 32767) / 32768.0).astype(np.float32)


def resample(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Resample float32 `[S, C]` from `rate` to `new_rate` Hz (soxr, high quality)."""
    if rate == new_rate:
        return samples
    return soxr.resample(samples, rate, new_rate, quality="HQ").astype(np.float32, copy=False)


class Resampler:
    """`resample` of a waveform as it comes in blocks; the result does not depend on the blocks."""

    def __init__(self, rate: int, new_rate: int, channels: int):
        """Start a waveform."""
        self._stream = None
        self._channels = channels
        if rate != new_rate:
            self._stream = soxr.ResampleStream(rate, new_rate, channels, dtype="float32", quality="HQ")

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Take the next samples, float32 `[S, C]`; give those at the new rate that are ready, `[S', C]`."""
        return samples if self._stream is None else self._stream.resample_chunk(samples)

    def finish(self) -> np.ndarray:
        """The samples that are left, `[S', C]`."""
        nothing = np.zeros((0, self._channels), np.float32)
        return nothing if self._stream is None else self._stream.resample_chunk(nothing, last=True)


def fit_length(samples: np.ndarray, length: int) -> np.ndarray:
    """Cut `[S, C]` at the end, or pad it with zeros, to `length` samples."""
    if samples.shape[0] >= length:
        return samples[:length]
    return np.pad(samples, ((0, length - samples.shape[0]), (0, 0)))


def _reason(error: Exception) -> str:
    """The part of an error's message that does not repeat the path."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).rsplit(": ", 1)[-1].strip().rstrip(".")
