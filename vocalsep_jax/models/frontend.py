"""What the network sees of a magnitude spectrogram: its frequency scale and its amplitude scale.

Axis letters: `F` linear frequency bins, `G` bins of the network's frequency scale, `T` frames.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Array = jax.Array

FREQUENCY_SCALES = ("linear", "coseparation")

_BASE = 21.0
"""Base of the co-separation warp: its exponential runs from 1 to 21 as frequency runs up to Nyquist."""


def raw(magnitude: Array) -> Array:
    """The magnitude itself: `[B, F, T]` -> `[B, F, T, 1]`."""
    return magnitude[..., None]


def log(magnitude: Array) -> Array:
    """`ln(|X| + 1e-10)`, the co-separation front end: `[B, F, T]` -> `[B, F, T, 1]`."""
    return jnp.log(magnitude + 1e-10)[..., None]


def log1p(magnitude: Array) -> Array:
    """`ln(1 + 100 |X|)`: `[B, F, T]` -> `[B, F, T, 1]`.

    It is logarithmic above a magnitude of 0.01, about a quiet but audible bin, and linear far below that,
    where little is heard.
    """
    return jnp.log1p(100.0 * magnitude)[..., None]


INPUT_TRANSFORMS: dict[str, Callable[[Array], Array]] = {"raw": raw, "log": log, "log1p": log1p}
"""What the network sees of a magnitude: float32 `[B, F, T]`, at least 0, to input features `[B, F, T, C]`.

A further feature of the same magnitude is a further channel of the result: the first layer takes as many
as come.
"""


def warp(magnitude: Array, bins: int) -> Array:
    """Linear to logarithmic frequency, as the co-separation network's front end has it.

    Let the new bins lie evenly at y from -1 to 1, and the old ones too. The new bin at y is the old
    magnitude at `(21^((y + 1) / 2) - 11) / 10` (Gao & Grauman 2019, supplementary code), interpolated
    linearly between the two nearest bins.

    Args:
      magnitude: float32 `[B, F, T]`, F at least 2.
      bins: G, at least 2.

    Returns:
      float32 `[B, G, T]`.
    """
    y = np.linspace(-1, 1, bins)
    return _resample(magnitude, (_BASE ** ((y + 1) / 2) - 11) / 10)


def unwarp(mask: Array, bins: int) -> Array:
    """Logarithmic back to linear frequency: `[B, G, T]` -> `[B, F, T]`, F = `bins`.

    The inverse map of `warp`, `2 log(10 y + 11) / log 21 - 1`, with the same interpolation.
    Values are weighted means of two neighbours and stay in their range: a mask stays a mask.
    """
    y = np.linspace(-1, 1, bins)
    return _resample(mask, 2 * np.log(10 * y + 11) / np.log(_BASE) - 1)


def _resample(x: Array, positions: np.ndarray) -> Array:
    """`x` `[B, N, T]` at `positions` `[M]` along its middle axis, in [-1, 1]: `[B, M, T]`.

    A matrix product has a fast gradient on every backend; the gradient of gathered rows would be a scatter.
    """
    rows = x.shape[1]
    places = np.clip((positions + 1) / 2 * (rows - 1), 0, rows - 1)
    below = np.minimum(places.astype(int), rows - 2)
    weights = np.zeros((len(places), rows))
    n = np.arange(len(places))
    weights[n, below] = 1 - (places - below)
    weights[n, below + 1] = places - below
    return jnp.einsum("mn,bnt->bmt", jnp.asarray(weights, jnp.float32), x, precision=lax.Precision.HIGHEST)
