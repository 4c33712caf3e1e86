"""Resampling of waveforms, whole or as they come (soxr).

Axis letters: `S` samples, `C` channels.
"""

from __future__ import annotations

import functools

import numpy as np
import soxr

_LAG_SAMPLES = 2**16
"""Samples after which a resampler has been through all its states."""


def resample(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Resample float32 `[S, C]` from `rate` to `new_rate` Hz (soxr, high quality)."""
    if rate == new_rate:
        return samples
    return soxr.resample(samples, rate, new_rate, quality="HQ").astype(np.float32, copy=False)


class Resampler:
    """`resample` for a waveform that comes in blocks; the result does not depend on the blocks."""

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


@functools.cache
def resampling_lag(rate: int, new_rate: int) -> float:
    """The largest delay of a `Resampler`, from `rate` to `new_rate` Hz, in seconds.

    It works in blocks of its own, whose sizes soxr does not tell: the delay is measured.
    """
    resampler = Resampler(rate, new_rate, 1)
    lag, came, went, block = 0.0, 0, 0, max(1, rate // 500)
    silence = np.zeros((block, 1), np.float32)
    while rate != new_rate and (came < rate or came < _LAG_SAMPLES):
        came += block
        went += len(resampler.push(silence))
        lag = max(lag, came / rate - went / new_rate)
    return lag


def fit_length(samples: np.ndarray, length: int) -> np.ndarray:
    """Cut `[S, C]` at the end, or pad it with zeros, to `length` samples."""
    if samples.shape[0] >= length:
        return samples[:length]
    return np.pad(samples, ((0, length - samples.shape[0]), (0, 0)))
