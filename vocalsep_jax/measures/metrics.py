"""How good a mask or a separated waveform is."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vocalsep_jax.audio.masks import ratio_mask

Array = jax.Array


def dice_coefficient(prediction: Array, target: Array) -> Array:
    """`(2 sum(p t) + 1) / (sum(p) + sum(t) + 1)` of each patch: two `[B, F, T]` -> `[B]`.

    The 1 makes two empty masks agree (DICE 1).
    """
    overlap = jnp.sum(prediction * target, axis=(1, 2))
    total = jnp.sum(prediction, axis=(1, 2)) + jnp.sum(target, axis=(1, 2))
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
