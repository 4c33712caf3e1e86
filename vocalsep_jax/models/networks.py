"""The networks, by the name that a config gives them. To add one, write a module and an entry here.

A network is a Flax module that maps magnitudes to masks of the same shape; see `Network`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from vocalsep_jax.models.unet import UNet


class Network(Protocol):
    """What training and separation need of a network, besides what every Flax module has.

    `__call__(magnitude, train=False)` maps float32 `[B, F, T]`, at least 0, to masks float32 `[B, F, T]` in
    [0, 1]; a network of several channels K maps `[B, F, T, K]` to `[B, F, T, K]`. One that can predict
    faster once its weights are known has a method `for_prediction` as `UNet` has it; it need not.

    Attributes:
      channels: K.
    """

    channels: int

    init: Any
    apply: Any
    clone: Any

    def check_patch(self, bins: int, frames: int) -> None:
        """Raise ValueError unless patches of so many linear bins and frames fit the layers."""


def variable_shapes(model: Network, patch: tuple[int, ...]) -> Any:
    """Shapes of a network's variables, as its `init` gives them, for patches of shape `patch`."""
    if hasattr(model, "convolutions"):  # one form of them is traced sooner than the forms of all platforms
        model = model.clone(convolutions="lax")
    x = jax.ShapeDtypeStruct((1, *patch), jnp.float32)
    return jax.eval_shape(lambda x: model.init(jax.random.key(0), x), x)


def for_prediction(
    model: Network, variables: Mapping[str, Any], patch: tuple[int, ...], platform: str | None
) -> tuple[Network, Mapping[str, Any]]:
    """A network for predicting alone, and its variables: by its own `for_prediction`, if it has one.

    Args:
      model: the network.
      variables: its variables, NumPy arrays.
      patch: shape of the patches, `(F, T)` or `(F, T, K)`.
      platform: that it will run on, as JAX names it; None if it may be any.

    Raises:
      ValueError: if it cannot be computed with such variables.
    """
    its_own = getattr(model, "for_prediction", None)
    return its_own(variables, *patch[:2], platform) if its_own else (model, variables)


NETWORKS: dict[str, Any] = {"unet": UNet}
"""Flax modules by name; their attributes are the arguments of `make_network`."""


def make_network(
    name: str,
    *,
    width: int,
    depth: int,
    mixing: int,
    channels: int,
    dtype: str,
    input_transform: str,
    frequency_scale: str,
    frequency_bins: int,
    input_norm: bool,
    freeze_statistics: bool = False,
    axis_name: str | None = None,
) -> Network:
    """One of `NETWORKS`; arguments as `unet.UNet` has them.

    Raises:
      ValueError: for sizes that no network has.
    """
    network: Network = NETWORKS[name](
        width=width,
        depth=depth,
        mixing=mixing,
        channels=channels,
        dtype=jnp.dtype(dtype),
        input_transform=input_transform,
        frequency_scale=frequency_scale,
        frequency_bins=frequency_bins,
        input_norm=input_norm,
        freeze_statistics=freeze_statistics,
        axis_name=axis_name,
    )
    return network
