"""Training losses, one value a patch, so that the caller decides how to average and mask them.

Axis letters: `B` batch, `F` frequency bins, `T` frames. Further axes, of channels, are averaged too.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

Array = jax.Array


def _all_but_first(x: Array) -> tuple[int, ...]:
    return tuple(range(1, x.ndim))


def mse(estimate: Array, target: Array) -> Array:
    """Mean squared error of each patch: `[B, F, T]`, `[B, F, T]` -> `[B]`."""
    return jnp.mean(jnp.square(estimate - target), axis=_all_but_first(estimate))


def l1(estimate: Array, target: Array) -> Array:
    """Mean absolute error of each patch: `[B, F, T]`, `[B, F, T]` -> `[B]`."""
    return jnp.mean(jnp.abs(estimate - target), axis=_all_but_first(estimate))


def mean(losses: Array, silence: Array, floor: float = 0.0) -> Array:
    """The mean of the patches' losses `[B]`: loud patches count most."""
    return jnp.mean(losses)


def log(losses: Array, silence: Array, floor: float) -> Array:
    """The mean of the logarithms of the patches' losses, each raised by a share of its mixture's.

    Every patch counts by how far it is from right, in decibels, whether voice and mixture are loud or soft:
    the song in which the voice is far below the instruments is learned as well as the one in which it is
    not. The floor keeps patches that are right already, and those without a voice, from counting without
    bound (thresholded losses: Wisdom et al. 2020, "Unsupervised sound separation using mixture invariant
    training"; relative to the mixture: Wisdom et al. 2021, "What's all the FUSS about free universal sound
    separation data?").

    Args:
      losses: of each patch, `[B]`.
      silence: what the loss of each patch would be with its mixture as the estimate and silence as the
        target, `[B]`.
      floor: the share of `silence`; 0.02 for errors 17 dB below the mixture, where the loss is `mse`.

    Returns:
      float32 `[]`; 0 where the estimate is as bad as the mixture in a patch without a voice.
    """
    whole = silence + _QUIET
    return jnp.mean(jnp.log((losses + floor * whole) / ((1 + floor) * whole)))


_QUIET = 1e-3
"""Loss of a mixture against silence below which a patch counts less and less: that of hum and hiss."""

OBJECTIVES: dict[str, Callable[..., Array]] = {"mean": mean, "log": log}
"""What training minimises of the patches' losses; `config.objective` names one."""

LOSSES: dict[str, Callable[[Array, Array], Array]] = {"mse": mse, "l1": l1}
"""What training can minimise, from the masked mixture and what it should be; `config.loss` names one."""
