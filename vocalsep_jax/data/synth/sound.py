"""Sound that the voice and the instruments are made with.

Axis letters: `S` samples, 44,100 a second.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

RATE = 44_100
"""Samples a second at which songs are made."""

_Pitch = TypeVar("_Pitch", float, np.ndarray)


def hertz(pitch: _Pitch) -> _Pitch:
    """The frequency in Hz of a pitch given as a MIDI note number."""
    return 440.0 * 2 ** ((pitch - 69) / 12)


def rms(x: np.ndarray) -> float:
    """The root of the mean square of all values."""
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


def band_noise(rng: np.random.Generator, size: int, centre: float, octaves: float) -> np.ndarray:
    """Noise around a frequency, float64 `[S]` of RMS 1.

    Args:
      rng: gives the noise.
      size: number of samples S.
      centre: Hz.
      octaves: standard deviation of the magnitude spectrum, a Gaussian over the logarithm of frequency.
    """
    frequency = np.fft.rfftfreq(size, 1 / RATE)
    octave = np.log2(np.maximum(frequency, 1.0) / centre)
    noise = np.fft.irfft(np.fft.rfft(rng.normal(size=size)) * np.exp(-0.5 * (octave / octaves) ** 2), size)
    return noise / max(rms(noise), 1e-9)


def reverberate(rng: np.random.Generator, x: np.ndarray, seconds: float, wet: float) -> np.ndarray:
    """Add the reverberation of a room, whose response is noise that decays exponentially.

    Args:
      rng: gives the room's response.
      x: float64 `[S, 2]`.
      seconds: time in which the response falls by 60 dB; the response ends there.
      wet: factor of the reverberation; the response has unit energy before that.

    Returns:
      float64 `[S, 2]`: `x` and the reverberation, cut to the length of `x`.
    """
    length = round(seconds * RATE)
    t = np.arange(length) / RATE
    response = rng.normal(size=(length, 2)) * 10 ** (-3 * t / seconds)[:, None]
    response[: round(0.012 * RATE)] = 0  # the direct sound comes first
    response = np.stack([_darken(response[:, c]) for c in (0, 1)], axis=1)
    response /= np.sqrt((response**2).sum(axis=0))
    size = 1 << int(np.ceil(np.log2(len(x) + length)))
    spectrum = np.fft.rfft(x, size, axis=0) * np.fft.rfft(response, size, axis=0)
    return x + wet * np.fft.irfft(spectrum, size, axis=0)[: len(x)]


def _darken(x: np.ndarray) -> np.ndarray:
    """`[S]` with less treble, as air and walls absorb it."""
    spectrum = np.fft.rfft(x)
    return np.fft.irfft(spectrum / (1 + np.fft.rfftfreq(x.size, 1 / RATE) / 3000.0), x.size)
