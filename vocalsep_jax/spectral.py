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
        """Inverse of `analyse`, by weighted overlap-add (Griffin & Lim 1984, eq. 6).

        The Hann window is the synthesis window too, and the sum is divided by the summed squared
        windows, so that an unmodified spectrogram gives back the signal whatever the hop.

        Args:
          spectrogram: complex64 `[C, F, N]`.
          samples: length S of the signal it came from.

        Returns:
          float32 `[S, C]`.
        """
        frames = np.fft.irfft(np.swapaxes(spectrogram, -1, -2), n=self.n_fft, axis=-1)
        window = self.window()
        signal = self._overlap_add(frames.astype(np.float32, copy=False) * window)
        power = np.broadcast_to(window * window, (1, frames.shape[-2], self.n_fft))
        weight = self._overlap_add(power)[0, self.n_fft : self.n_fft + samples]
        assert samples == 0 or weight.min() > 0, "a sample lies in no frame"
        return (signal[:, self.n_fft : self.n_fft + samples] / weight).T

    def _overlap_add(self, frames: np.ndarray) -> np.ndarray:
        """`[C, N, n_fft]` frames, `hop` apart, summed to `[C, samples]`."""
        channels, count, _ = frames.shape
        pieces = -(-self.n_fft // self.hop)
        padded = np.pad(frames, ((0, 0), (0, 0), (0, pieces * self.hop - self.n_fft)))
        padded = padded.reshape(channels, count, pieces, self.hop)
        out = np.zeros((channels, count + pieces - 1, self.hop), np.float32)
        for piece in range(pieces):
            out[:, piece : piece + count] += padded[:, :, piece]
        return out.reshape(channels, -1)


def patch_starts(frames: int, length: int, overlap: float) -> np.ndarray:
    """First frames of the patches of `length` frames that cover `frames` frames.

    Patches are equally far apart; the last one may reach past the end. `overlap` in [0, 1) is the
    share of a patch that it has in common with the next one.

    Raises:
      ValueError: if `overlap` is out of range.
    """
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap must be at least 0 and less than 1, got {overlap}")
    step = max(1, round(length * (1 - overlap)))
    count = 1 + max(0, -(-(frames - length) // step))
    return np.arange(count) * step


def crossfade_weights(length: int) -> np.ndarray:
    """Weight of each frame of a patch in the average with its neighbours: float32 `[T]`, > 0.

    A squared sine, highest in the middle, where the network sees as much of what comes before as of
    what comes after.
    """
    return (np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2).astype(np.float32)


def predict_mask(
    magnitude: np.ndarray,
    predict: Callable[[np.ndarray], np.ndarray],
    *,
    patch_frames: int,
    batch_size: int,
    overlap: float,
) -> np.ndarray:
    """The mask of a whole spectrogram from overlapping patches, cross-faded.

    Args:
      magnitude: float32 `[C, F, N]`.
      predict: `[B, F, T]` magnitudes to `[B, F, T]` masks, both float32; called with the same shape
        every time.
      patch_frames: T.
      batch_size: B.
      overlap: share of a patch that overlaps the next, in [0, 1).

    Returns:
      float32 `[C, F, N]`, in the range of what `predict` returns.
    """
    channels, bins, frames = magnitude.shape
    starts = patch_starts(frames, patch_frames, overlap)
    end = int(starts[-1]) + patch_frames
    padded = np.pad(magnitude, ((0, 0), (0, 0), (0, max(0, end - frames))))
    places = [(c, int(s)) for s in starts for c in range(channels)]
    weights = crossfade_weights(patch_frames)
    mask = np.zeros((channels, bins, end), np.float32)
    total = np.zeros(end, np.float32)
    for start in starts:
        total[start : start + patch_frames] += weights
    assert total[:frames].min() > 0, "a frame lies in no patch"
    batch = np.zeros((batch_size, bins, patch_frames), np.float32)
    for first in range(0, len(places), batch_size):
        group = places[first : first + batch_size]
        for row, (channel, start) in enumerate(group):
            batch[row] = padded[channel, :, start : start + patch_frames]
        predicted = predict(batch)
        for row, (channel, start) in enumerate(group):
            mask[channel, :, start : start + patch_frames] += predicted[row] * weights
    return (mask / total)[:, :, :frames]


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
