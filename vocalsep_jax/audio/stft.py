"""The short-time Fourier transform and its inverse, of NumPy arrays or of JAX ones.

`xp` is the module whose arrays are meant, `numpy` or `jax.numpy`. With the latter, lengths may be symbolic.

Axis letters: `S` samples, `C` channels, `F` frequency bins, `N` frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Stft:
    """Short-time Fourier transform with a periodic Hann window as long as the FFT.

    Attributes:
      n_fft: FFT and window length in samples; there are `n_fft // 2 + 1` bins, DC to Nyquist.
      hop: samples from one frame to the next.

    Raises:
      ValueError: if `hop` is not from 1 to `n_fft // 2`.
    """

    n_fft: int = 510
    hop: int = 172

    def __post_init__(self) -> None:
        if not 0 < self.hop <= self.n_fft // 2:
            raise ValueError(f"hop must be between 1 and n_fft / 2 = {self.n_fft // 2}, got {self.hop}")

    @property
    def bins(self) -> int:
        """Frequency bins F."""
        return self.n_fft // 2 + 1

    @property
    def hops_per_frame(self) -> int:
        """Hops that a frame spans, the last one perhaps in part."""
        return -(-self.n_fft // self.hop)

    def samples(self, frames: int) -> int:
        """Samples that `frames` uncentred frames span."""
        return self.n_fft + (frames - 1) * self.hop

    def frames(self, samples: Any) -> Any:
        """Frames of a whole signal of `samples` samples as `analyse` makes them."""
        return -(-(samples + self.n_fft) // self.hop) + 1

    def window(self) -> np.ndarray:
        """The periodic Hann window, float32 `[n_fft]`."""
        n = np.arange(self.n_fft)
        return (0.5 - 0.5 * np.cos(2 * np.pi * n / self.n_fft)).astype(np.float32)

    def transform(self, x: Any, xp: Any = np) -> Any:
        """Uncentred STFT of all frames that lie wholly in `x`.

        Args:
          x: float32 `[..., S]`, S at least `n_fft`.
          xp: the arrays' module.

        Returns:
          complex64 `[..., F, N]`.
        """
        return self._spectra(x, self._whole_frames(x), xp)

    def transform_by_bins(self, x: np.ndarray) -> np.ndarray:
        """`transform`, of NumPy arrays, to one in which a bin's frames lie together, not a frame's bins.

        Whoever runs over it in that order is faster.
        """
        frames = np.swapaxes(self._framed(x, self._whole_frames(x)), -1, -2)
        windowed = np.multiply(frames, self.window()[:, None], order="C")
        return np.asarray(_fft(np).rfft(windowed, axis=-2))

    def analyse(self, x: Any, xp: Any = np) -> Any:
        """STFT of a whole signal, padded so that every sample lies in as many frames as any other.

        Args:
          x: float32 `[..., S, C]`.
          xp: the arrays' module.

        Returns:
          complex64 `[..., C, F, N]` with `N = frames(S)`.
        """
        samples = x.shape[-2]
        count = self.frames(samples)
        after = (count - 1) * self.hop - samples
        rows = xp.swapaxes(x, -1, -2).astype(np.float32, copy=False)
        padded = xp.pad(rows, [(0, 0)] * (x.ndim - 1) + [(self.n_fft, after)])
        return self._spectra(padded, count, xp)

    def synthesise(self, spectrogram: Any, samples: int, xp: Any = np) -> Any:
        """Inverse of `analyse`: an unmodified spectrogram gives back the signal, whatever the hop.

        Args:
          spectrogram: complex64 `[..., C, F, N]`.
          samples: length S of the signal it came from.
          xp: the arrays' module.

        Returns:
          float32 `[..., S, C]`.
        """
        signal = OverlapAdder(self, spectrogram.shape[:-2], xp).push(spectrogram)
        return xp.swapaxes(signal[..., self.n_fft : self.n_fft + samples], -1, -2)

    def _whole_frames(self, x: Any) -> Any:
        """Frames that lie wholly in `[..., S]`."""
        return (x.shape[-1] - self.n_fft) // self.hop + 1

    def _framed(self, x: np.ndarray, count: int) -> np.ndarray:
        """The first `count` frames of `[..., S]`, `[..., N, n_fft]`: a view, nothing is copied."""
        frames = np.lib.stride_tricks.sliding_window_view(x, self.n_fft, axis=-1)
        return frames[..., : count * self.hop : self.hop, :]

    def _spectra(self, x: Any, count: Any, xp: Any) -> Any:
        """The first `count` frames of `[..., S]`, transformed: `[..., F, N]`."""
        if xp is np:
            frames = self._framed(x, count)
        else:
            constant = isinstance(count, int)  # else it is symbolic
            starts = (np if constant else xp).arange(count) * self.hop
            frames = x[..., starts[:, None] + np.arange(self.n_fft)[None, :]]
        window = xp.asarray(self.window()).reshape((1,) * x.ndim + (-1,))
        return xp.swapaxes(_fft(xp).rfft(frames * window, axis=-1), -1, -2)


class OverlapAdder:
    """The inverse STFT of frames as they come.

    The Hann window is the synthesis window too, and the sum is divided by the summed squared windows
    (Griffin & Lim 1984, eq. 6). The first `n_fft` samples lack the frames before them.

    Attributes:
      tail: sums that frames to come are added to.
    """

    def __init__(self, stft: Stft, shape: tuple[int, ...], xp: Any = np, tail: Any = None):
        """Start a signal whose leading axes are `shape`, in arrays of `xp`, or go on from a `tail`."""
        self._stft, self._shape, self._xp = stft, tuple(shape), xp
        if tail is None:
            tail = xp.zeros((*shape, stft.hops_per_frame - 1, stft.hop), np.float32)
        self.tail = tail
        squares = np.pad(stft.window() ** 2, (0, stft.hops_per_frame * stft.hop - stft.n_fft))
        self._weight = squares.reshape(-1, stft.hop).sum(0)
        assert self._weight.min() > 0, "a sample lies in no frame"

    def push(self, spectrogram: Any) -> Any:
        """Add frames, complex64 `[..., F, N]`; give the samples then final, float32 `[..., N * hop]`."""
        stft, xp, count = self._stft, self._xp, spectrogram.shape[-1]
        frames = _fft(xp).irfft(xp.swapaxes(spectrogram, -1, -2), n=stft.n_fft, axis=-1)
        window = xp.asarray(stft.window()).reshape((1,) * (frames.ndim - 1) + (-1,))
        frames = frames.astype(np.float32, copy=False) * window
        room = xp.zeros((*self._shape, count, stft.hop), np.float32)
        out = xp.concatenate([self.tail, room], axis=-2)
        for n in range(stft.hops_per_frame):
            piece = frames[..., n * stft.hop : (n + 1) * stft.hop]
            out = _add(out, (..., slice(n, n + count), slice(piece.shape[-1])), piece, xp)
        self.tail = out[..., count:, :]
        weight = xp.asarray(self._weight).reshape((1,) * (out.ndim - 1) + (-1,))
        return (out[..., :count, :] / weight).reshape(*self._shape, -1)


def _fft(xp: Any) -> Any:
    """The module of FFTs of an array module's arrays.

    SciPy's transforms several frames at once by vector instructions: those of 2046 samples take a seventh
    of the time of NumPy's.
    """
    if xp is not np:
        return xp.fft
    import scipy.fft  # when it is needed: importing it takes a tenth of a second

    return scipy.fft


def _add(total: Any, place: Any, x: Any, xp: Any) -> Any:
    """`total` with `x` added at `place`; a NumPy array is changed in place."""
    if xp is np:
        total[place] += x
        return total
    return total.at[place].add(x)
