"""How good a mask or a separated waveform is."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vocalsep_jax.audio.masks import ratio_mask

Array = jax.Array

SILENCE = 1e-4
"""Peak below which a waveform is taken for silent: -80 dB of full scale."""


def dice_coefficient(prediction: Array, target: Array) -> Array:
    """`(2 sum(p t) + 1) / (sum(p) + sum(t) + 1)` of each patch: two `[B, F, T]` -> `[B]`.

    The 1 makes two empty masks agree (DICE 1).
    """
    axes = tuple(range(1, prediction.ndim))  # frequency, time and, in stereo, channels
    overlap = jnp.sum(prediction * target, axis=axes)
    total = jnp.sum(prediction, axis=axes) + jnp.sum(target, axis=axes)
    return (2.0 * overlap + 1.0) / (total + 1.0)


def dice(mask: Array, vocals: Array, accompaniment: Array) -> Array:
    """Hard DICE: the mask binarised at 0.5 against the ideal binary mask `|V| > |A|`.

    Args:
      mask, vocals, accompaniment: `[B, F, T]`; a mask in [0, 1] and two magnitudes.

    Returns:
      `[B]`, in (0, 1].
    """
    predicted = (mask > 0.5).astype(jnp.float32)
    ideal = (vocals > accompaniment).astype(jnp.float32)
    return dice_coefficient(predicted, ideal)


def soft_dice(mask: Array, vocals: Array, accompaniment: Array) -> Array:
    """The DICE formula on the predicted mask and the ideal ratio mask: `[B, F, T]` x 3 -> `[B]`."""
    return dice_coefficient(mask, ratio_mask(vocals, accompaniment))


class PatchMetric(NamedTuple):
    """A metric of a patch's mask that training follows.

    Attributes:
      measure: from mask, vocals and accompaniment, `[B, F, T]` each, to `[B]`.
      title: title of its curves.
    """

    measure: Callable[[Array, Array, Array], Array]
    title: str


PATCH_METRICS = {
    "dice": PatchMetric(dice, "DICE (mask at 0.5 against ideal binary mask)"),
    "soft_dice": PatchMetric(soft_dice, "Soft DICE (mask against ideal ratio mask)"),
}
"""Measured in every step and at every validation; recorded, and drawn, under these names."""


def usdr(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Signal-to-distortion ratio over all samples and channels, in dB.

    `10 log10((sum ref^2 + 1e-7) / (sum (ref - est)^2 + 1e-7))`, the uSDR of the Music Demixing
    Challenge (Mitsufuji et al. 2022). An estimate of silence scores 0 dB.

    Args:
      reference, estimate: `[S, C]`, the same shape.

    Raises:
      ValueError: if the shapes differ.
    """
    if reference.shape != estimate.shape:
        raise ValueError(f"shapes differ: reference {reference.shape}, estimate {estimate.shape}")
    reference = np.asarray(reference, np.float64)
    error = reference - np.asarray(estimate, np.float64)
    signal, noise = float(np.sum(reference**2)), float(np.sum(error**2))
    return float(10.0 * np.log10((signal + 1e-7) / (noise + 1e-7)))


def leakage(music: np.ndarray, estimate: np.ndarray) -> float:
    """Level of what was taken for voice in music without any, relative to the music, in dB.

    `10 log10((sum est^2 + 1e-7) / (sum music^2 + 1e-7))`: about 0 if all of it was taken; lower is better.

    Args:
      music, estimate: `[S, C]`, the same shape.
    """
    music = np.asarray(music, np.float64)
    return -usdr(music, music - estimate)  # the error of the rest is what was taken


def is_silent(samples: np.ndarray) -> bool:
    """Whether `[S, C]` stays below `SILENCE`: as a reference it has no score."""
    return bool(np.abs(samples).max() < SILENCE)


def frames_of(samples: np.ndarray, window: int) -> np.ndarray:
    """The whole frames of `[S, C]`: float64 `[N, window, C]`; one of S samples if there are fewer."""
    window = min(window, len(samples))
    count = len(samples) // window
    return np.asarray(samples[: count * window], np.float64).reshape(count, window, -1)


def silent_frames(samples: np.ndarray, window: int) -> np.ndarray:
    """Which frames of `window` samples of `[S, C]` stay below `SILENCE`: bool `[N]`."""
    return np.abs(frames_of(samples, window)).max(axis=(1, 2)) < SILENCE


def frame_usdr(
    reference: np.ndarray, estimate: np.ndarray, window: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`usdr` of each frame, and what it is made of.

    Args:
      reference, estimate: `[S, C]`, the same shape.
      window: samples of a frame.

    Returns:
      float64 `[N]` each: the uSDR in dB, the energy of the reference, the energy of the error.
    """
    truth, guess = frames_of(reference, window), frames_of(estimate, window)
    signal, error = np.sum(truth**2, axis=(1, 2)), np.sum((truth - guess) ** 2, axis=(1, 2))
    return 10 * np.log10((signal + 1e-7) / (error + 1e-7)), signal, error


def predicted_energy_at_silence(reference: np.ndarray, estimate: np.ndarray, window: int) -> float | None:
    """PES: the mean level, in dB, of what is estimated where the reference is silent; lower is better.

    `mean over silent frames of 10 log10(e + 1e-12)`, where `e` is the energy of the estimate in the frame,
    the sum of squares over its samples, averaged over channels (Schulze-Forster, Doire, Richard & Badeau,
    "Weakly Informed Audio Source Separation", WASPAA 2019). An estimate that is silent there, too, has the
    floor, -120 dB. There, frames are silent that are exactly zero; here, those that stay below `SILENCE`,
    since coding and dithering leave no zeros.

    Args:
      reference, estimate: `[S, C]`, the same shape; full scale is 1.0.
      window: samples of a frame; one second is usual. Frames do not overlap; an incomplete last one is
        left out.

    Returns:
      dB, or None if no frame of the reference is silent.
    """
    silent = silent_frames(reference, window)
    if not silent.any():
        return None
    energy = np.sum(frames_of(estimate, window)[silent] ** 2, axis=1).mean(axis=1)
    return float(np.mean(10 * np.log10(energy + 1e-12)))
