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


LOSSES: dict[str, Callable[[Array, Array], Array]] = {"mse": mse, "l1": l1}
"""What training can minimise, from the masked mixture and what it should be; `config.loss` names one."""
