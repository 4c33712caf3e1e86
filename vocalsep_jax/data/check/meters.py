"""Measures of waveforms that come in blocks; the results do not depend on the blocks, beyond rounding.

Axis letters: `S` samples, `C` channels. Sample values are floats with full scale at 1.0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

FULL_SCALE = 0.9999
"""Samples at or beyond this are at full scale: the largest 16-bit integer is 0.99997."""

CLIPPED_RUN = 3
"""Samples at full scale, one after the other, that make a clipped peak rather than a loud one."""

BLOCK_SECONDS = 0.25
"""Levels and spectra are taken in blocks of this length."""

_SPECTRUM = 4096
_BAND_HZ = 250.0
_BAND_FLOOR_DB = -85.0
_CLIFF_BANDS, _CLIFF_DB = 4, 20.0
_GATE_ABSOLUTE, _GATE_RELATIVE = 10 ** (-70 / 10), 10 ** (-10 / 10)


def decibels(power: float) -> float | None:
    """A power (mean square) in dB; None for silence."""
    return 10 * math.log10(min(power, 1e30)) if power > 0 else None  # JSON has no infinity


@dataclass(frozen=True)
class Levels:
    """What a stem measures.

    Attributes:
      seconds: its length.
      rate: Hz.
      channels: C.
      peak_db: largest sample value, dBFS; None if it is silent, as in all that follows.
      rms_db: RMS, dBFS.
      loudness_db: RMS, dBFS, of what is not silent: of the blocks within 10 dB of the mean of those above
        -70 dBFS. The gates are those of ITU-R BS.1770-4; its frequency weighting is left out.
      clipped_share: share of the samples at full scale, in [0, 1].
      clipped_runs: how often `CLIPPED_RUN` or more of them follow each other.
      longest_run: the most that do.
      dc_offset: mean of the channel where it is largest, in [-1, 1].
      band_edge_hz: highest frequency with energy: where a band of 250 Hz holds more than -85 dB of all
        power.
      cut_off: whether the level falls by 20 dB or more within 1 kHz there: by a low-pass filter, not by
        itself.
      side_to_mid_db: power of left - right over that of left + right, dB; None if it is mono.
    """

    seconds: float
    rate: int
    channels: int
    peak_db: float | None
    rms_db: float | None
    loudness_db: float | None
    clipped_share: float
    clipped_runs: int
    longest_run: int
    dc_offset: float
    band_edge_hz: float | None
    cut_off: bool
    side_to_mid_db: float | None


class Runs:
    """Counts runs of true values in columns that come in blocks."""

    def __init__(self, columns: int):
        """Start `columns` columns."""
        self._open = np.zeros(columns, np.int64)  # length of the run that the last block ended in
        self._lengths: dict[int, int] = {}  # length -> runs

    def push(self, flags: np.ndarray) -> None:
        """Take the next rows, bool `[S, C]`, S at least 1."""
        for column, own in enumerate(flags.T):
            bounds = np.flatnonzero(np.diff(np.concatenate([[False], own, [False]]).astype(np.int8)))
            starts, lengths = bounds[::2], bounds[1::2] - bounds[::2]
            if len(starts) and starts[0] == 0:
                lengths[0] += self._open[column]
            else:
                self._close(int(self._open[column]))
            runs_on = bool(own[-1])
            self._open[column] = lengths[-1] if runs_on else 0
            for length in lengths[: len(lengths) - runs_on]:
                self._close(int(length))

    def push_nothing(self) -> None:
        """Take rows in which nothing is true."""
        for length in self._open:
            self._close(int(length))
        self._open[:] = 0

    def finish(self) -> tuple[int, int]:
        """How many runs are of `CLIPPED_RUN` or more, and the length of the longest."""
        self.push_nothing()
        return sum(n for length, n in self._lengths.items() if length >= CLIPPED_RUN), max(
            self._lengths, default=0
        )

    def _close(self, length: int) -> None:
        if length:
            self._lengths[length] = self._lengths.get(length, 0) + 1


class Spectrum:
    """The mean power spectrum of blocks of a waveform."""

    def __init__(self, rate: int):
        """Start a waveform of `rate` Hz."""
        self._rate = rate
        self._size = min(_SPECTRUM, 2 ** int(math.log2(max(2, round(BLOCK_SECONDS * rate)))))
        self._window = np.hanning(self._size + 1)[:-1].astype(np.float32)
        self._power = np.zeros(self._size, np.float64)

    def push(self, blocks: np.ndarray) -> None:
        """Take the beginnings of blocks, float32 `[blocks, S, C]`."""
        beginnings = blocks[:, : self._size]
        # Two real channels are one complex signal: its power at f and -f together is that of both.
        signal = beginnings[..., 0] + 1j * beginnings[..., min(1, blocks.shape[2] - 1)]
        spectra = np.fft.fft(signal * self._window, axis=1)
        with np.errstate(over="ignore"):
            self._power += (spectra.real**2 + spectra.imag**2).sum(axis=0, dtype=np.float64)

    def edge(self) -> tuple[float | None, bool]:
        """`Levels.band_edge_hz` and `Levels.cut_off`."""
        half = self._size // 2
        power = self._power[1 : half + 1] + self._power[: half - 1 : -1]  # bins 1 to the Nyquist frequency
        bands = max(1, round(self._rate / 2 / _BAND_HZ))
        levels = np.array([part.sum() for part in np.array_split(power, bands)])
        if not 0 < levels.sum() < math.inf:  # squares of samples beyond 1e15 or so may overflow
            return None, False
        levels = 10 * np.log10(np.maximum(levels / levels.sum(), 1e-16))
        last = int(np.flatnonzero(levels > _BAND_FLOOR_DB)[-1])
        before, after = levels[max(0, last - 1)], levels[last + _CLIFF_BANDS - 1 :]
        return (last + 1) * self._rate / 2 / bands, bool(len(after) and before - after[0] >= _CLIFF_DB)


class Meter:
    """Measures a stem."""

    def __init__(self, rate: int, channels: int):
        """Start a stem of `channels` channels at `rate` Hz."""
        self._rate, self._channels = rate, channels
        self.samples = 0
        """Samples S so far."""
        self._peak, self._clipped = 0.0, 0
        self._sums, self._mid, self._side = np.zeros(channels), 0.0, 0.0
        self._square = 0.0
        self._runs, self._spectrum = Runs(channels), Spectrum(rate)
        self._block = max(2, round(BLOCK_SECONDS * rate))
        self._rest = np.zeros((0, channels), np.float32)
        self._powers: list[np.ndarray] = []

    def push(self, x: np.ndarray) -> None:
        """Take the next samples, float32 `[S, C]`."""
        if not len(x):
            return
        self.samples += len(x)
        peak = float(max(x.max(), -x.min()))
        self._peak = max(self._peak, peak)
        if peak >= FULL_SCALE:
            flags = np.abs(x) >= FULL_SCALE
            self._clipped += int(flags.sum())
            self._runs.push(flags)
        else:
            self._runs.push_nothing()
        self._sums += np.ones(len(x), np.float32) @ x  # five times as fast as `sum`
        self._square += float(np.vdot(x, x))
        if self._channels == 2:
            side = x[:, 0] - x[:, 1]
            self._side += float(np.vdot(side, side))
        self._push_blocks(np.concatenate([self._rest, x]))

    def finish(self) -> Levels:
        """What was measured."""
        count = max(1, self.samples)
        runs, longest = self._runs.finish()
        mean_square = self._square / (count * self._channels)
        mid = 2 * self._square - self._side  # |l + r|^2 + |l - r|^2 = 2 (|l|^2 + |r|^2)
        side = self._side if self._side > 1e-12 * self._square else 0.0
        edge, cut = self._spectrum.edge()
        return Levels(
            seconds=self.samples / self._rate,
            rate=self._rate,
            channels=self._channels,
            peak_db=decibels(self._peak**2),
            rms_db=decibels(mean_square),
            loudness_db=decibels(_gated(np.concatenate(self._powers or [np.array([mean_square])]))),
            clipped_share=self._clipped / (count * self._channels),
            clipped_runs=runs,
            longest_run=longest,
            dc_offset=float(max(self._sums / count, key=abs)),
            band_edge_hz=edge,
            cut_off=cut,
            side_to_mid_db=decibels(side / max(mid, 1e-30)),
        )

    def _push_blocks(self, x: np.ndarray) -> None:
        whole = len(x) // self._block
        self._rest = x[whole * self._block :].copy()
        if whole:
            blocks = x[: whole * self._block].reshape(whole, self._block, self._channels)
            self._powers.append(powers(blocks))
            self._spectrum.push(blocks)


def powers(blocks: np.ndarray) -> np.ndarray:
    """Mean squares of blocks, float32 `[blocks, S, C]` -> float64 `[blocks]`."""
    return np.einsum("bsc,bsc->b", blocks, blocks).astype(np.float64) / max(1, blocks[0].size)


def _gated(power: np.ndarray) -> float:
    """Mean of the block powers that pass the gates; 0 if none does."""
    loud = power[power > _GATE_ABSOLUTE]
    return float(loud[loud >= _GATE_RELATIVE * loud.mean()].mean()) if len(loud) else 0.0
