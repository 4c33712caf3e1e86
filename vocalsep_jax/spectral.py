"""STFT and its inverse, and the way between whole spectrograms and the patches the network sees.

Axis letters: `S` samples, `C` channels, `F` frequency bins, `N` frames of a whole signal, `T` frames
of a patch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Stft:
    """Short-time Fourier transform with a periodic Hann window as long as the FFT.

    Attributes:
      n_fft: FFT and window length in samples; there are `n_fft // 2 + 1` bins, DC to Nyquist.
      hop: samples from one frame to the next.
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

    def samples(self, frames: int) -> int:
        """Samples that `frames` uncentred frames span."""
        return self.n_fft + (frames - 1) * self.hop

    def frames(self, samples: int) -> int:
        """Frames of a whole signal of `samples` samples as `analyse` makes them."""
        return -(-(samples + self.n_fft) // self.hop) + 1

    def window(self) -> np.ndarray:
        """The periodic Hann window, float32 `[n_fft]`."""
        n = np.arange(self.n_fft)
        return (0.5 - 0.5 * np.cos(2 * np.pi * n / self.n_fft)).astype(np.float32)

    def transform(self, x: np.ndarray) -> np.ndarray:
        """Uncentred STFT of all frames that lie wholly in `x`.

        Args:
          x: float32 `[..., S]`, S at least `n_fft`.

        Returns:
          complex64 `[..., F, N]`.
        """
        frames = np.lib.stride_tricks.sliding_window_view(x, self.n_fft, axis=-1)
        frames = frames[..., :: self.hop, :] * self.window()
        return np.swapaxes(np.fft.rfft(frames, axis=-1), -1, -2)

    def analyse(self, x: np.ndarray) -> np.ndarray:
        """STFT of a whole signal, padded so that every sample lies in as many frames as any other.

        Args:
          x: float32 `[S, C]`.

        Returns:
          complex64 `[C, F, N]` with `N = frames(S)`.
        """
        total = self.samples(self.frames(x.shape[0]))
        padded = np.pad(
            x.T.astype(np.float32, copy=False),
            ((0, 0), (self.n_fft, total - self.n_fft - x.shape[0])),
        )
        return self.transform(padded)

    def synthesise(self, spectrogram: np.ndarray, samples: int) -> np.ndarray:
        """Inverse of `analyse`: an unmodified spectrogram gives back the signal, whatever the hop.

        Args:
          spectrogram: complex64 `[C, F, N]`.
          samples: length S of the signal it came from.

        Returns:
          float32 `[S, C]`.
        """
        signal = OverlapAdder(self, len(spectrogram)).push(spectrogram)
        return signal[:, self.n_fft : self.n_fft + samples].T


class OverlapAdder:
    """The inverse STFT of frames as they come.

    The Hann window is the synthesis window too, and the sum is divided by the summed squared windows
    (Griffin & Lim 1984, eq. 6). Samples of the first `n_fft` lack the frames before them.
    """

    def __init__(self, stft: Stft, channels: int):
        """Start a signal of `channels` channels."""
        self._stft = stft
        self._pieces = -(-stft.n_fft // stft.hop)  # hops that a frame spans
        self._tail = np.zeros((channels, self._pieces - 1, stft.hop), np.float32)
        self._weight = np.sum(self._by_hops(stft.window() ** 2), axis=0)
        assert self._weight.min() > 0, "a sample lies in no frame"

    def push(self, spectrogram: np.ndarray) -> np.ndarray:
        """Add frames, complex64 `[C, F, N]`; give the samples no later one reaches, `[C, N * hop]`."""
        channels, _, count = spectrogram.shape
        frames = np.fft.irfft(np.swapaxes(spectrogram, -1, -2), n=self._stft.n_fft, axis=-1)
        pieces = self._by_hops(frames.astype(np.float32, copy=False) * self._stft.window())
        out = np.zeros((channels, count + self._pieces - 1, self._stft.hop), np.float32)
        out[:, : self._pieces - 1] = self._tail
        for piece in range(self._pieces):
            out[:, piece : piece + count] += pieces[..., piece, :]
        self._tail = out[:, count:]
        return (out[:, :count] / self._weight).reshape(channels, -1)

    def _by_hops(self, frames: np.ndarray) -> np.ndarray:
        """`[..., n_fft]` to `[..., pieces, hop]`, with zeros at the end."""
        missing = self._pieces * self._stft.hop - self._stft.n_fft
        padded = np.pad(frames, [(0, 0)] * (frames.ndim - 1) + [(0, missing)])
        return padded.reshape(*frames.shape[:-1], self._pieces, self._stft.hop)


def patch_step(length: int, overlap: float) -> int:
    """Frames from one patch of `length` frames to the next; `overlap` is the share they have in common.

    Raises:
      ValueError: if `overlap` is not in [0, 1).
    """
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap must be at least 0 and less than 1, got {overlap}")
    return max(1, round(length * (1 - overlap)))


def patch_count(frames: int, length: int, step: int) -> int:
    """Patches of `length` frames, `step` apart, that cover `frames`; the last may reach past the end."""
    return 1 + max(0, -(-(frames - length) // step))


def crossfade_weights(length: int) -> np.ndarray:
    """Weight of each frame of a patch in the average with its neighbours: float32 `[T]`, > 0.

    A squared sine, highest in the middle, where the network sees as much of what comes before as of
    what comes after.
    """
    return (np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2).astype(np.float32)


def apply_mask(mixture: np.ndarray, stft: Stft, mask_of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Filter a waveform by a mask of its magnitude spectrogram, keeping the mixture's phase.

    Args:
      mixture: float32 `[S, C]`.
      stft: the transform.
      mask_of: magnitudes `[C, F, N]` to a mask of that shape.

    Returns:
      float32 `[S, C]`.
    """
    spectrogram = stft.analyse(mixture)
    return stft.synthesise(spectrogram * mask_of(np.abs(spectrogram)), mixture.shape[0])


def ideal_ratio_mask(vocals: np.ndarray, accompaniment: np.ndarray, stft: Stft) -> np.ndarray:
    """`|V| / (|V| + |A|)` of two whole signals `[S, C]`: float32 `[C, F, N]`, 0 where both are silent."""
    v, a = (np.abs(stft.analyse(x)) for x in (vocals, accompaniment))
    return ratio_mask(v, a)


def ratio_mask(vocals: Any, accompaniment: Any) -> Any:
    """`|V| / (|V| + |A|)` of magnitudes, elementwise, 0 where both are silent; NumPy or JAX arrays."""
    return vocals / (vocals + accompaniment + 1e-10)
