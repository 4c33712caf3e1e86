"""What the network sees of a magnitude spectrogram: its frequency scale and its amplitude scale.

Axis letters: `F` linear frequency bins, `G` bins of the network's frequency scale, `T` frames.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Array = jax.Array

INPUT_TRANSFORMS = ("raw", "log", "log1p")
FREQUENCY_SCALES = ("linear", "coseparation")

_BASE = 21.0
"""Base of the co-separation warp: its exponential runs from 1 to 21 as frequency runs up to Nyquist."""


def transform_input(magnitude: Array, kind: str) -> Array:
    """What the network sees of a magnitude.

    `raw` is the magnitude itself, `log` its natural logarithm after adding 1e-10 (the
    co-separation front end), `log1p` is ln(1 + 100 |X|): a logarithm above |X| = 0.01, about the
    level of a quiet but audible bin, that does not spend its range on what lies below hearing.

    Raises:
      ValueError: if `kind` is not one of `INPUT_TRANSFORMS`.
    """
    if kind == "raw":
        return magnitude
    if kind == "log":
        return jnp.log(magnitude + 1e-10)
    if kind == "log1p":
        return jnp.log1p(100.0 * magnitude)
    raise ValueError(f"input_transform must be one of {', '.join(INPUT_TRANSFORMS)}, not {kind!r}")


def warp(magnitude: Array, bins: int) -> Array:
    """Linear to logarithmic frequency, as the co-separation network's front end has it.

    With y running evenly from -1 to 1 over the new bins, each is the magnitude at
    `(21^((y + 1) / 2) - 11) / 10` of the same range over the old ones (Gao & Grauman 2019, supplementary
    code), interpolated linearly between the two nearest.

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

    The inverse map of `warp`, `2 log(10 y + 11) / log 21 - 1`, with the same interpolation. As means of
    two neighbours at most, the values stay in their range: a mask stays a mask.
    """
    y = np.linspace(-1, 1, bins)
    return _resample(mask, 2 * np.log(10 * y + 11) / np.log(_BASE) - 1)


def _resample(x: Array, positions: np.ndarray) -> Array:
    """`x` `[B, N, T]` at `positions` `[M]` along its middle axis, in [-1, 1]: `[B, M, T]`.

    As a matrix product, which has a fast gradient on every backend, where gathering rows would scatter.
    """
    rows = x.shape[1]
    places = np.clip((positions + 1) / 2 * (rows - 1), 0, rows - 1)
    below = np.minimum(places.astype(int), rows - 2)
    weights = np.zeros((len(places), rows))
    n = np.arange(len(places))
    weights[n, below] = 1 - (places - below)
    weights[n, below + 1] = places - below
    return jnp.einsum("mn,bnt->bmt", jnp.asarray(weights, jnp.float32), x, precision=lax.Precision.HIGHEST)
