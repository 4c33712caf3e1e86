"""Harmonic-percussive separation by median filters, twice, so that the voice is what is left over.

D. FitzGerald, "Harmonic/Percussive Separation using Median Filtering", DAFx 2010: in a spectrogram, tones
are lines along time and strokes lines along frequency; a median along one keeps it and removes the other.
D. FitzGerald, M. Gainza, "Single Channel Vocal Separation using Median Filtering and Factorisation
Techniques", ISAST Transactions on Electronic and Signal Processing 2010: a voice, whose pitch moves, is
percussive to a long window and harmonic to a short one. Nothing is trained.

Axis letters: `S` samples, `C` channels, `F` frequency bins, `N` frames.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import median_filter

from vocalsep_jax.audio.resampling import fit_length
from vocalsep_jax.audio.stft import Stft

_LONG_SECONDS, _SHORT_SECONDS = 0.37, 0.023  # 16,384 and 1,024 samples at 44.1 kHz
_KERNEL = 17  # bins and frames of the medians, as in the paper
_HIGH_PASS_HZ = 100.0  # a voice has nothing below
_BLOCK_SECONDS = 30.0
_TINY = 1e-10


def hpss_voice(mixture: np.ndarray, sample_rate: int) -> np.ndarray:
    """The voice in a mixture: percussive to a window of 370 ms, and of that, harmonic to one of 23 ms.

    Masks are soft, of the medians' squares, `H² / (H² + P²)`, one for all channels, of their mean
    magnitude. Below 100 Hz there is no voice.

    Args:
      mixture: float32 `[S, C]`.
      sample_rate: Hz.

    Returns:
      float32 `[S, C]`.
    """
    moving = _stage(mixture, sample_rate, _LONG_SECONDS, harmonic=False)
    return _stage(moving, sample_rate, _SHORT_SECONDS, harmonic=True)


def harmonic_percussive(
    mixture: np.ndarray, stft: Stft, *, high_pass: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The tones and the strokes of a signal, which sum to it.

    Args:
      mixture: float32 `[S, C]`.
      stft: the transform.
      high_pass: frequency bins that are left out of both.

    Returns:
      Two float32 `[S, C]`.
    """
    spectrogram = stft.analyse(mixture)
    magnitude = np.abs(spectrogram).mean(axis=0)
    harmonic = median_filter(magnitude, size=(1, _KERNEL), mode="constant") ** 2
    percussive = median_filter(magnitude, size=(_KERNEL, 1), mode="nearest") ** 2
    mask = (harmonic + _TINY / 2) / (harmonic + percussive + _TINY)
    spectrogram[:, :high_pass] = 0
    samples = mixture.shape[0]
    return stft.synthesise(spectrogram * mask, samples), stft.synthesise(spectrogram * (1 - mask), samples)


def _stage(mixture: np.ndarray, sample_rate: int, seconds: float, *, harmonic: bool) -> np.ndarray:
    """One of the two parts at a window of about so many seconds.

    In blocks, each with what the medians see to either side: the same as in one piece, in less memory.
    """
    window = 2 ** max(4, round(np.log2(seconds * sample_rate)))
    stft = Stft(window, window // 4)
    high_pass = 1 + int(_HIGH_PASS_HZ * window / sample_rate)
    context = window + (_KERNEL + 1) * stft.hop
    block = stft.hop * max(1, round(_BLOCK_SECONDS * sample_rate / stft.hop))
    parts = []
    for start in range(0, len(mixture), block):
        first = max(0, start - context)
        piece = mixture[first : start + block + context]
        part = harmonic_percussive(piece, stft, high_pass=high_pass)[0 if harmonic else 1]
        parts.append(part[start - first : start - first + block])
    return fit_length(np.concatenate(parts), len(mixture))
