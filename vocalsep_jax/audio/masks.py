"""Masks of spectrograms: the ideal ratio mask, overlapping patches of a mask, filtering by a mask.

Axis letters: `S` samples, `C` channels, `F` frequency bins, `N` frames of a whole signal, `T` frames of a
patch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from vocalsep_jax.audio.resampling import fit_length, resample
from vocalsep_jax.audio.stft import Stft


def patch_step(length: int, overlap: float) -> int:
    """Frames from one patch of `length` frames to the next; `overlap` is the share they have in common.

    Raises:
      ValueError: if `overlap` is not in [0, 1).
    """
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap must be at least 0 and less than 1, got {overlap}")
    return max(1, round(length * (1 - overlap)))


def patch_count(frames: Any, length: int, step: int, maximum: Callable[[Any, Any], Any] = max) -> Any:
    """Patches of `length` frames, `step` apart, that cover `frames`; the last may reach past the end.

    Where `frames` is symbolic, `maximum` is `jax.core.max_dim`.
    """
    return 1 + maximum(0, -(-(frames - length) // step))


def crossfade_weights(length: int) -> np.ndarray:
    """Weight of each frame of a patch in the average with its neighbours: float32 `[T]`, > 0.

    A squared sine, highest in the middle, where the network sees as much of what comes before as of
    what comes after.
    """
    return (np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2).astype(np.float32)


def ratio_mask(vocals: Any, accompaniment: Any) -> Any:
    """`|V| / (|V| + |A|)` of magnitudes, elementwise, 0 where both are silent; NumPy or JAX arrays."""
    return vocals / (vocals + accompaniment + 1e-10)


def ideal_ratio_mask(vocals: np.ndarray, accompaniment: np.ndarray, stft: Stft) -> np.ndarray:
    """`|V| / (|V| + |A|)` of two whole signals `[S, C]`: float32 `[C, F, N]`, 0 where both are silent."""
    v, a = (np.abs(stft.analyse(x)) for x in (vocals, accompaniment))
    return ratio_mask(v, a)


def ideal_binary_mask(vocals: np.ndarray, accompaniment: np.ndarray, stft: Stft) -> np.ndarray:
    """1 where `|V| > |A|`, else 0, of two whole signals `[S, C]`: float32 `[C, F, N]`."""
    v, a = (np.abs(stft.analyse(x)) for x in (vocals, accompaniment))
    return (v > a).astype(np.float32)


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


def apply_resampled_mask(
    mixture: np.ndarray,
    stft: Stft,
    mask_of: Callable[[np.ndarray], np.ndarray],
    *,
    sample_rate: int,
    mask_rate: int,
) -> np.ndarray:
    """`apply_mask` on a waveform of another rate than the mask's, resampled there and back.

    Args:
      mixture: float32 `[S, C]`.
      stft: the transform.
      mask_of: magnitudes `[C, F, N]` to a mask of that shape.
      sample_rate: Hz, of `mixture`.
      mask_rate: Hz, at which `stft` and `mask_of` work.

    Returns:
      float32 `[S, C]` at `sample_rate`.
    """
    inner = resample(mixture, sample_rate, mask_rate)
    inner = fit_length(inner, max(1, len(inner)))
    filtered = apply_mask(inner, stft, mask_of)
    return fit_length(resample(filtered, mask_rate, sample_rate), mixture.shape[0])
