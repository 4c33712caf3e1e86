"""REPET-SIM: the voice is what does not come back (Rafii & Pardo 2012).

Z. Rafii, B. Pardo, "Music/Voice Separation using the Similarity Matrix", ISMIR 2012. Nothing is trained.

Axis letters: `S` samples, `C` channels, `F` frequency bins, `N` frames.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import maximum_filter1d

from vocalsep_jax.audio.stft import Stft

_WINDOW_SECONDS = 0.04  # the paper's, made a power of two
_DISTANCE_SECONDS = 1.0  # similar frames are at least so far apart
_SIMILAR = 100  # frames that a frame is compared with, at most
_HIGH_PASS_HZ = 100.0  # a voice has nothing below
_ROWS = 256
"""Rows of the similarity matrix that are in memory at once: the whole one grows with the song's square."""

_TINY = 1e-10


def repet_sim(mixture: np.ndarray, sample_rate: int) -> np.ndarray:
    """The voice in a mixture by REPET-SIM.

    Each frame is compared with those most like it by the cosine of their magnitude spectra (averaged over
    channels): the peaks of its row of the similarity matrix, a second apart or more, 100 at most. The
    median of the magnitudes of these frames, where it is less than its own, is what repeats in it: the
    background. The rest of it, as a soft mask, is the voice; below 100 Hz there is none.

    Args:
      mixture: float32 `[S, C]`.
      sample_rate: Hz.

    Returns:
      float32 `[S, C]`.
    """
    window = 2 ** max(4, round(np.log2(_WINDOW_SECONDS * sample_rate)))
    stft = Stft(window, window // 2)
    spectrogram = np.ascontiguousarray(np.moveaxis(stft.analyse(mixture), -1, 0))  # [N, C, F]
    magnitude = np.abs(spectrogram)
    distance = max(1, round(_DISTANCE_SECONDS * sample_rate / stft.hop))
    for n, similar in enumerate(_similar_frames(magnitude.mean(axis=1), distance)):
        repeating = np.minimum(np.median(magnitude[similar], axis=0), magnitude[n])
        # In place: the spectrogram becomes the voice's.
        spectrogram[n] *= 1 - (repeating + _TINY) / (magnitude[n] + _TINY)
    spectrogram[:, :, : 1 + int(_HIGH_PASS_HZ * window / sample_rate)] = 0
    return stft.synthesise(np.moveaxis(spectrogram, 0, -1), mixture.shape[0])


def _similar_frames(magnitude: np.ndarray, distance: int) -> list[np.ndarray]:
    """For each frame of `[N, F]`, the numbers of the frames most like it, itself among them.

    They are the greatest within `distance` frames to either side in the frame's row of the similarity
    matrix.
    """
    norm = np.linalg.norm(magnitude, axis=1, keepdims=True)
    unit = magnitude / np.maximum(norm, _TINY)
    found: list[np.ndarray] = []
    for start in range(0, len(unit), _ROWS):
        rows = unit[start : start + _ROWS] @ unit.T
        highest = maximum_filter1d(rows, 2 * distance + 1, axis=1, mode="constant", cval=-1.0)
        for offset, (row, peaks) in enumerate(zip(rows, rows >= highest, strict=True)):
            candidates = np.flatnonzero(peaks & (row > 0))
            order = np.argsort(row[candidates])[::-1][:_SIMILAR]
            itself = np.array([start + offset])
            found.append(np.union1d(candidates[order], itself))
    return found
