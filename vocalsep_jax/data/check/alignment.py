"""By how much one waveform is later, and louder, than another that comes beside it.

Axis letters: `S` samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Alignment:
    """How a waveform follows from a reference.

    Attributes:
      delay: samples by which it is later; negative if it is earlier.
      gain: what the reference is to be multiplied with; negative if one is upside down.
      correlation: of the two so aligned, in [-1, 1].
      correlation_as_it_is: without a delay.
    """

    delay: int
    gain: float
    correlation: float
    correlation_as_it_is: float


class Aligner:
    """Cross-correlation of two waveforms by FFT, averaged over blocks.

    Of each block, the middle half of the waveform meets all of the reference, so that delays of up to a
    quarter of a block are found without error at the ends.
    """

    def __init__(self, block: int):
        """Start with blocks of the largest power of two that is not above `block` samples."""
        self._size = 1 << (block.bit_length() - 1)
        self._cross = np.zeros(self._size // 2 + 1, np.complex128)
        self._energy = 0.0
        self._reference = np.zeros(self._size // 4 * 2 + 1)  # energy that the middle meets at each lag

    def push(self, x: np.ndarray, reference: np.ndarray) -> None:
        """Take the next samples of both, float32 `[S]`; fewer than a block are left out."""
        size, quarter = self._size, self._size // 4
        if len(x) < size:
            return
        middle, reference = np.zeros(size), reference[:size].astype(np.float64)
        middle[quarter:-quarter] = x[quarter : size - quarter]
        self._cross += np.fft.rfft(middle) * np.fft.rfft(reference).conj()
        self._energy += float(np.vdot(middle, middle))
        before = np.concatenate([[0.0], np.cumsum(reference**2)])
        self._reference += (before[size // 2 :] - before[: size // 2 + 1])[::-1]

    def finish(self) -> Alignment | None:
        """The alignment; None if there was too little, or silence."""
        if not self._energy > 0 or not self._reference.max() > 0:
            return None
        quarter = self._size // 4
        lags = np.roll(np.fft.irfft(self._cross, n=self._size), quarter)[: 2 * quarter + 1]
        energy = np.maximum(self._reference, 1e-9 * self._reference.max())
        correlation = np.clip(lags / np.sqrt(self._energy * energy), -1, 1)
        best = int(np.abs(correlation).argmax())
        return Alignment(
            delay=best - quarter,
            gain=float(lags[best] / energy[best]),
            correlation=float(correlation[best]),
            correlation_as_it_is=float(correlation[quarter]),
        )
