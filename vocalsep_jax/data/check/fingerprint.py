"""Audio fingerprints: pairs of spectral peaks.

After A. Wang 2003, "An industrial strength audio search algorithm".

A peak is a point of the spectrogram that is louder than all around it. Which points are peaks depends on
what lies within a second of them, not on the level nor on where the recording begins, and survives lossy
coding. Two peaks close to each other make a hash of 24 bits.

Axis letters: `S` samples, `F` frequency bins, `N` frames, `P` peaks, `H` hashes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vocalsep_jax.audio.stft import Stft

RATE = 11_025
"""Sample rate of what fingerprints are made of, Hz."""

STFT = Stft(1024, 256)
FRAMES_PER_SECOND = RATE / STFT.hop

_NEAR_FRAMES, _NEAR_BINS = 9, 11
"""A peak is the loudest point within so many frames and bins on each side."""

_FLOOR_FRAMES, _FLOOR = 43, 10 ** (-50 / 20)
"""And not 50 dB below the loudest point within about a second."""

_SILENCE = 1e-5 * STFT.n_fft / 4
"""Magnitude of a tone at -100 dBFS."""

_LOWEST_BIN = 6  # 65 Hz: below it are hum and offsets
_FAN_OUT, _LOOK_AHEAD = 6, 40
_MAX_FRAMES, _MAX_BINS = 63, 63
_REACH = max(_NEAR_FRAMES, _FLOOR_FRAMES)


@dataclass(frozen=True)
class Fingerprint:
    """The hashes of a recording, sorted by their time.

    Attributes:
      hashes: uint32 `[H]`, below 2^24.
      times: int32 `[H]`, frame of each hash's first peak.
      frames: length of the recording, in frames.
    """

    hashes: np.ndarray
    times: np.ndarray
    frames: int

    @property
    def seconds(self) -> float:
        """Length of the recording."""
        return self.frames / FRAMES_PER_SECOND


class Landmarks:
    """The peaks of a spectrogram that comes in blocks; they do not depend on the blocks."""

    def __init__(self) -> None:
        """Start a recording."""
        self._held = np.zeros((STFT.bins, 0), np.float32)  # frames that what comes may still outshine
        self._first = 0  # frame where `_held` begins
        self._next = 0  # first frame that is still to be decided
        self._times: list[np.ndarray] = []
        self._bins: list[np.ndarray] = []

    def push(self, magnitude: np.ndarray) -> None:
        """Take the next frames, float32 `[F, N]`."""
        self._held = np.concatenate([self._held, magnitude], axis=1)
        self._decide(self._first + self._held.shape[1] - _REACH)

    def finish(self) -> Fingerprint:
        """The fingerprint of all that came."""
        frames = self._first + self._held.shape[1]
        self._decide(frames)
        nothing = [np.zeros(0, np.int32)]
        hashes, times = _pairs(
            np.concatenate(self._times or nothing), np.concatenate(self._bins or nothing)
        )
        return Fingerprint(hashes, times, frames)

    def _decide(self, stop: int) -> None:
        """Find the peaks of the frames before `stop`."""
        if stop <= self._next:
            return
        times, bins = _peaks(self._held)
        times = times + self._first
        decided = (times >= self._next) & (times < stop)
        self._times.append(times[decided].astype(np.int32))
        self._bins.append(bins[decided].astype(np.int32))
        self._next = stop
        drop = max(0, stop - _REACH - self._first)
        self._held, self._first = self._held[:, drop:].copy(), self._first + drop


def _peaks(magnitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frames and bins `[P]` of the peaks of float32 `[F, N]`, sorted by frame."""
    floor = np.maximum(_highest(magnitude.max(axis=0), _FLOOR_FRAMES, 0) * np.float32(_FLOOR), _SILENCE)
    around = _highest(_highest(magnitude, _NEAR_BINS, 0), _NEAR_FRAMES, 1)
    peaks = (magnitude == around) & (magnitude > floor)
    peaks[:_LOWEST_BIN] = False
    times, bins = np.nonzero(peaks.T)
    return times, bins


def _highest(x: np.ndarray, reach: int, axis: int) -> np.ndarray:
    """The maximum of the `reach` neighbours on each side and the point itself, along an axis."""
    x = np.moveaxis(x, axis, 0)
    size, width, done = len(x), 2 * reach + 1, 1
    padded = np.concatenate(
        [np.zeros((reach, *x.shape[1:]), x.dtype), x, np.zeros_like(x[:1].repeat(reach, 0))]
    )
    while done < width:  # `padded[i]` is the maximum of `done` points from `i` on
        step = min(done, width - done)
        padded = np.maximum(padded[:-step], padded[step:])
        done += step
    return np.moveaxis(padded[:size], 0, axis)


def _pairs(times: np.ndarray, bins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hashes uint32 `[H]` and the frames of their first peaks int32 `[H]`, from peaks sorted by frame.

    Each peak is paired with the next `_FAN_OUT` that are later, but not by more than `_MAX_FRAMES`, and
    within `_MAX_BINS`.
    """
    paired = np.zeros(len(times), np.int32)
    hashes, firsts = [np.zeros(0, np.uint32)], [np.zeros(0, np.int32)]
    for step in range(1, min(_LOOK_AHEAD, len(times) - 1) + 1):
        later, apart = times[step:] - times[:-step], bins[step:] - bins[:-step]
        near = (later > 0) & (later <= _MAX_FRAMES) & (np.abs(apart) <= _MAX_BINS)
        near &= paired[:-step] < _FAN_OUT
        first = np.flatnonzero(near)
        paired[first] += 1
        hashes.append(_hash(bins[first], apart[first], later[first]))
        firsts.append(times[first])
    order = np.argsort(every := np.concatenate(firsts), kind="stable")
    return np.concatenate(hashes)[order], every[order]


def _hash(low: np.ndarray, apart: np.ndarray, later: np.ndarray) -> np.ndarray:
    return ((low << 13) | ((apart + _MAX_BINS + 1) << 6) | later).astype(np.uint32)
