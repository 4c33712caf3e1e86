"""The layers of the U-Net: learned convolutions and normalisations, trained or prepared for prediction.

Axis letters: `B` batch, `H` height, `W` width, `C` input channels, `O` output channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name

from vocalsep_jax.models.convolutions import Choice

Array = jax.Array

CONVOLUTION = "convolution"
"""Name of the convolutions' outputs, for `jax.checkpoint_policies`."""

_EPSILON = 1e-5
"""Of BatchNorm."""


class Conv4x4(nn.Module):
    """A learned 4x4 stride-2 convolution with bias, in one of the two directions.

    Attributes:
      features: output channels O.
      choice: of the form: one that halves H and W, or one that doubles them.
      dtype: dtype of the computation; parameters are float32.
      prepared: whether there is what the form makes of the kernel, `weights`, instead of `kernel`.
    """

    features: int
    choice: Choice
    dtype: jnp.dtype = jnp.float32
    prepared: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """`[B, H, W, C]` to `[B, H/2 or 2H, W/2 or 2W, O]`, in `dtype`."""
        x = x.astype(self.dtype)
        shape = (4, 4, x.shape[-1], self.features)
        form = self.choice(jax.ShapeDtypeStruct(shape, self.dtype), *x.shape[1:3])
        if self.prepared:
            weights, bias = (self.get_variable("params", name) for name in ("weights", "bias"))
        else:
            kernel = self.param("kernel", nn.initializers.normal(0.02), shape, jnp.float32)
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            weights = form.weights(kernel.astype(self.dtype))
        y = form.convolve(x, weights)
        return checkpoint_name(y + bias.astype(self.dtype).reshape(1, 1, 1, -1), CONVOLUTION)


def prepared_conv(
    choice: Choice, params: Mapping[str, Any], norm: tuple[Any, Any] | None, dtype: Any, h: int, w: int
) -> dict[str, Any]:
    """Parameters of a `Conv4x4` that is `prepared`, the normalisation that follows it included.

    Args:
      choice: as the layer's.
      params: its `kernel` and `bias`, NumPy arrays.
      norm: factor and summand of each output channel, `[O]` each; None if nothing follows.
      dtype: of the computation.
      h, w: sides of the input.

    Returns:
      `weights` and `bias`, NumPy arrays.

    Raises:
      ValueError: if the normalisation makes numbers that are not finite.
    """
    kernel, bias = params["kernel"], params["bias"]
    if norm is not None:
        factor, summand = norm
        with np.errstate(over="ignore", invalid="ignore"):  # looked for below
            kernel, bias = kernel * factor, bias * factor + summand
        if not (np.isfinite(kernel).all() and np.isfinite(bias).all()):
            raise ValueError("numbers of the network are too large to compute with")
    kernel = kernel.astype(dtype)
    return {"weights": choice(kernel, h, w).weights(kernel), "bias": bias}


def batch_norm(train: bool, dtype: jnp.dtype, axis_name: str | None, name: str) -> nn.BatchNorm:
    """BatchNorm as PyTorch has it: epsilon 1e-5, running averages updated by 0.1 of the new batch.

    The variance is computed in two passes (Flax's fast variance loses digits on activations whose
    mean is large), in float32 whatever `dtype` is. With `axis_name`, statistics are averaged over
    the devices along that axis, so that a batch means the same however many devices share it.
    """

    def scale_init(key: Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> Array:
        return 1.0 + 0.02 * jax.random.normal(key, shape, dtype)

    return nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,
        epsilon=_EPSILON,
        dtype=dtype,
        scale_init=scale_init,
        use_fast_variance=False,
        axis_name=axis_name if train else None,
        name=name,
    )


def normalisation(params: Mapping[str, Any], statistics: Mapping[str, Any]) -> tuple[Any, Any]:
    """Factor and summand by which `batch_norm` scales with its running statistics, `[C]` each.

    Raises:
      ValueError: if a variance is negative.
    """
    if (statistics["var"] < 0).any():
        raise ValueError("a variance in the network is negative")
    with np.errstate(over="ignore", invalid="ignore"):  # `prepared_conv` looks
        factor = params["scale"] / np.sqrt(statistics["var"] + _EPSILON)
        return factor, params["bias"] - statistics["mean"] * factor
