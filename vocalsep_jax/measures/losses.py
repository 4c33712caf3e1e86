"""Training losses, one value a patch, so that the caller decides how to average and mask them."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

Array = jax.Array


def mse(estimate: Array, target: Array) -> Array:
    """Mean squared error of each patch: `[B, F, T]`, `[B, F, T]` -> `[B]`."""
    return jnp.mean(jnp.square(estimate - target), axis=(1, 2))


def l1(estimate: Array, target: Array) -> Array:
    """Mean absolute error of each patch: `[B, F, T]`, `[B, F, T]` -> `[B]`."""
    return jnp.mean(jnp.abs(estimate - target), axis=(1, 2))


LOSSES: dict[str, Callable[[Array, Array], Array]] = {"mse": mse, "l1": l1}
"""What training can minimise, from estimated and true magnitudes of the vocals; `config.loss` names one."""
