"""What the network sees of a magnitude spectrogram: its frequency scale and its amplitude scale.

Axis letters: `B` batch, `F` linear frequency bins, `G` bins of the network's frequency scale, `T` frames,
`K` channels of the audio, `C` features. Audio of one channel has no axis `K`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Array = jax.Array

_BASE = 21.0
"""Base of the co-separation warp: its exponential runs from 1 to 21 as frequency runs up to Nyquist."""


def raw(magnitude: Array) -> Array:
    """The magnitude itself: `[B, F, T]` or `[B, F, T, K]` -> that and an axis of 1."""
    return magnitude[..., None]


def log(magnitude: Array) -> Array:
    """`ln(|X| + 1e-10)`, the co-separation front end; shapes as `raw`."""
    return jnp.log(magnitude + 1e-10)[..., None]


def log1p(magnitude: Array) -> Array:
    """`ln(1 + 100 |X|)`; shapes as `raw`.

    It is logarithmic above a magnitude of 0.01, about a quiet but audible bin, and linear far below that,
    where little is heard.
    """
    # `log1p` would keep digits beyond 6e-8, which is nothing here, and takes four times as long on CPUs.
    return jnp.log(1.0 + 100.0 * magnitude)[..., None]


INPUT_TRANSFORMS: dict[str, Callable[[Array], Array]] = {"raw": raw, "log": log, "log1p": log1p}
"""What the network sees of a magnitude: float32 `[B, F, T]` or `[B, F, T, K]`, at least 0, to features
`[B, F, T, C]` or `[B, F, T, K, C]`.

A further feature of the same magnitude is a further place on the last axis: the first layer takes as many
as come.
"""


def warp(magnitude: Array, bins: int) -> Array:
    """Linear to logarithmic frequency, as the co-separation network's front end has it.

    Let the new bins lie evenly at y from -1 to 1, and the old ones too. The new bin at y is the old
    magnitude at `(21^((y + 1) / 2) - 11) / 10` (Gao & Grauman 2019, supplementary code), interpolated
    linearly between the two nearest bins.

    Args:
      magnitude: float32 `[B, F, T]` or `[B, F, T, K]`, F at least 2.
      bins: G, at least 2.

    Returns:
      float32 `[B, G, T]` or `[B, G, T, K]`.
    """
    y = np.linspace(-1, 1, bins)
    return _resample(magnitude, (_BASE ** ((y + 1) / 2) - 11) / 10)


def unwarp(mask: Array, bins: int) -> Array:
    """Logarithmic back to linear frequency: `[B, G, T]` -> `[B, F, T]`, F = `bins`; K as it is.

    The inverse map of `warp`, `2 log(10 y + 11) / log 21 - 1`, with the same interpolation.
    Values are weighted means of two neighbours and stay in their range: a mask stays a mask.
    """
    y = np.linspace(-1, 1, bins)
    return _resample(mask, 2 * np.log(10 * y + 11) / np.log(_BASE) - 1)


def _resample(x: Array, positions: np.ndarray) -> Array:
    """`x` `[B, N, ...]` at `positions` `[M]` along its second axis, in [-1, 1]: `[B, M, ...]`.

    A matrix product has a fast gradient on every backend; the gradient of gathered rows would be a scatter.
    """
    rows = x.shape[1]
    places = np.clip((positions + 1) / 2 * (rows - 1), 0, rows - 1)
    below = np.minimum(places.astype(int), rows - 2)
    weights = np.zeros((len(places), rows))
    n = np.arange(len(places))
    weights[n, below] = 1 - (places - below)
    weights[n, below + 1] = places - below
    return jnp.einsum(
        "mn,bn...->bm...", jnp.asarray(weights, jnp.float32), x, precision=lax.Precision.HIGHEST
    )


_ZONE = 3
"""Bins that the upper zone takes together."""


def zone_border(linear_bins: int, bins: int) -> int:
    """First bin of the upper zone of `to_zones`.

    Raises:
      ValueError: if so many bins cannot be made of so many linear ones.
    """
    border, odd = divmod(_ZONE * bins - linear_bins, _ZONE - 1)
    if odd or not 0 <= border <= linear_bins:
        raise ValueError(
            f"frequency_bins: the zoned scale makes an even number less of {linear_bins} bins, between a "
            f"third and all of them, not {bins}"
        )
    return border


def to_zones(magnitude: Array, bins: int) -> Array:
    """Low frequencies bin by bin, high ones in threes.

    Voices have their harmonics at low frequencies. At high ones they, and most of what sounds with them,
    are noise, which needs no fine frequencies. Where the border lies follows from the number of bins: of
    1024 linear bins and 512 of the scale, at a quarter of the Nyquist frequency.

    Args:
      magnitude: float32 `[B, F, T]` or `[B, F, T, K]`.
      bins: G.

    Returns:
      float32 `[B, G, T]` or `[B, G, T, K]`; a bin of the upper zone is the mean of three.

    Raises:
      ValueError: if so many bins cannot be made of F.
    """
    border = zone_border(magnitude.shape[1], bins)
    upper = magnitude[:, border:]
    threes = upper.reshape(upper.shape[0], bins - border, _ZONE, *upper.shape[2:])
    return jnp.concatenate([magnitude[:, :border], jnp.mean(threes, axis=2)], axis=1)


def from_zones(mask: Array, bins: int) -> Array:
    """The inverse of `to_zones`: `[B, G, T]` -> `[B, F, T]`, F = `bins`; K as it is.

    Three bins of the upper zone have the value of the one they make.
    """
    border = zone_border(bins, mask.shape[1])
    return jnp.concatenate([mask[:, :border], jnp.repeat(mask[:, border:], _ZONE, axis=1)], axis=1)


class FrequencyScale(NamedTuple):
    """A scale of frequency that a network may work on.

    Attributes:
      to: magnitudes `[B, F, T]` or `[B, F, T, K]` and G to magnitudes with G for F.
      back: masks with G for F, and F, to masks of linear frequency.
      check: F and G; raises ValueError if the scale cannot have so many.
    """

    to: Callable[[Array, int], Array]
    back: Callable[[Array, int], Array]
    check: Callable[[int, int], object]


def _any_bins(linear_bins: int, bins: int) -> None:
    pass


FREQUENCY_SCALES: dict[str, FrequencyScale | None] = {
    "linear": None,
    "coseparation": FrequencyScale(warp, unwarp, _any_bins),
    "zoned": FrequencyScale(to_zones, from_zones, zone_border),
}
"""By name; the linear one leaves everything as it is, and has no number of bins of its own."""
