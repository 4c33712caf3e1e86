"""The two convolutions of the U-Net, each with the lowering that suits the device it is compiled for.

Both layers compute what PyTorch's `Conv2d(4, stride=2, padding=1)` and
`ConvTranspose2d(4, stride=2, padding=1)` compute. Two forms of each give the same numbers:

* *matmul*: space-to-depth (or depth-to-space) around a 2x2 convolution written as one matrix
  product. XLA's CPU backend has fast matrix products but no fast gradient of a transposed
  convolution, so this is the form for CPUs.
* *lax*: `lax.conv_general_dilated`, the form GPUs and TPUs have kernels for.

`jax.lax.platform_dependent` chooses when the program is lowered, so a program exported for, or
placed on, another platform than the default one still gets the right form.

Axis letters: `B` batch, `H` height, `W` width, `C` input channels, `O` output channels.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

Array = jax.Array
_DIMENSIONS = ("NHWC", "HWIO", "NHWC")

CONVOLUTION = "convolution"
"""Name of the convolutions' outputs, for `jax.checkpoint_policies`."""

_FEW = 64
"""Output positions below which a layer's weights outweigh its activations."""


def down_conv_matmul(x: Array, kernel: Array) -> Array:
    """4x4 convolution with stride 2 and padding 1, as matrix products.

    Args:
      x: `[B, H, W, C]`, H and W even.
      kernel: `[4, 4, C, O]`.

    Returns:
      `[B, H/2, W/2, O]`.
    """
    b, h, w, c = x.shape
    o = kernel.shape[-1]
    rows, columns = h // 2, w // 2
    # After space-to-depth the padded image has one more 2x2 cell than outputs, along each axis. An output
    # sums over four cells (i, j); kernel position (2i + p, 2j + q) meets place (p, q) of cell (i, j).
    cells = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    cells = cells.reshape(b, rows + 1, 2, columns + 1, 2, c).transpose(0, 1, 3, 2, 4, 5)
    cells = cells.reshape(b, rows + 1, columns + 1, 4 * c)
    weights = kernel.reshape(2, 2, 2, 2, c, o).transpose(0, 2, 1, 3, 4, 5).reshape(4, 4 * c, o)
    shifts = [(i, j) for i in (0, 1) for j in (0, 1)]
    if c == 1 or rows * columns < _FEW:
        # One product over the four cells side by side: for one channel, whose cells are smaller than their
        # products; and for few outputs, where the weights are what is moved.
        beside = [cells[:, i : i + rows, j : j + columns] for i, j in shifts]
        return jnp.concatenate(beside, axis=-1) @ weights.reshape(16 * c, o)
    # Else a product of all cells for each shift, and a sum of these, shifted: the cells are never copied.
    flat = cells.reshape(-1, 4 * c)
    y = jnp.zeros((b, rows, columns, o), x.dtype)
    for (i, j), weight in zip(shifts, weights, strict=True):
        product = (flat @ weight).reshape(b, rows + 1, columns + 1, o)
        y = y + product[:, i : i + rows, j : j + columns]
    return y


def down_conv_lax(x: Array, kernel: Array) -> Array:
    """The same as `down_conv_matmul`, by `lax.conv_general_dilated`."""
    return lax.conv_general_dilated(
        x, kernel, window_strides=(2, 2), padding=((1, 1), (1, 1)), dimension_numbers=_DIMENSIONS
    )


def up_conv_matmul(x: Array, kernel: Array) -> Array:
    """4x4 transposed convolution with stride 2 and padding 1, as one matrix product.

    Output pixel `2i + k - 1` receives `x[i] * kernel[k]` along each axis.

    Args:
      x: `[B, H, W, C]`.
      kernel: `[4, 4, C, O]`.

    Returns:
      `[B, 2H, 2W, O]`.
    """
    b, h, w, c = x.shape
    o = kernel.shape[-1]
    # The product comes first, for all 16 kernel positions of each input pixel: the input is read once and
    # never copied, which matters where it has many more channels than the output (the last layer).
    weights = kernel.transpose(2, 0, 1, 3).reshape(c, 16 * o)
    taps = (x.reshape(-1, c) @ weights).reshape(b, h, w, 2, 2, 2, 2, o)
    taps = jnp.pad(taps, ((0, 0), (1, 1), (1, 1), *[(0, 0)] * 5))
    # Output 2p - 1 + r (r = 0, 1) sums x[p] * kernel[r] and x[p - 1] * kernel[2 + r].
    y = jnp.zeros((b, h + 1, w + 1, 2, 2, o), x.dtype)
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        y = y + taps[:, 1 - i : 2 - i + h, 1 - j : 2 - j + w, i, :, j]
    y = y.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h + 2, 2 * w + 2, o)
    return y[:, 1:-1, 1:-1]


def up_conv_lax(x: Array, kernel: Array) -> Array:
    """The same as `up_conv_matmul`, by `lax.conv_general_dilated` on the dilated input."""
    return lax.conv_general_dilated(
        x,
        kernel[::-1, ::-1],
        window_strides=(1, 1),
        padding=((2, 2), (2, 2)),
        lhs_dilation=(2, 2),
        dimension_numbers=_DIMENSIONS,
    )


def down_conv(x: Array, kernel: Array) -> Array:
    """`down_conv_*` in the form that is fastest on the platform this is compiled for."""
    return lax.platform_dependent(x, kernel, cpu=down_conv_matmul, default=down_conv_lax)


def up_conv(x: Array, kernel: Array) -> Array:
    """`up_conv_*` in the form that is fastest on the platform this is compiled for."""
    return lax.platform_dependent(x, kernel, cpu=up_conv_matmul, default=up_conv_lax)


class Conv4x4(nn.Module):
    """A learned 4x4 stride-2 convolution with bias, in one of the two directions.

    Attributes:
      features: output channels O.
      operation: `down_conv` (halves H and W) or `up_conv` (doubles them).
      dtype: dtype of the computation; parameters are float32.
    """

    features: int
    operation: Callable[[Array, Array], Array]
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """`[B, H, W, C]` to `[B, H/2 or 2H, W/2 or 2W, O]`, in `dtype`."""
        shape = (4, 4, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.normal(0.02), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        y = self.operation(x.astype(self.dtype), kernel.astype(self.dtype))
        return checkpoint_name(y + bias.astype(self.dtype).reshape(1, 1, 1, -1), CONVOLUTION)


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
        epsilon=1e-5,
        dtype=dtype,
        scale_init=scale_init,
        use_fast_variance=False,
        axis_name=axis_name if train else None,
        name=name,
    )
