"""The U-Net that maps a magnitude spectrogram patch to a ratio mask.

The network is that of "Co-Separating Sounds of Visual Objects" (Gao & Grauman, ICCV 2019, the audio
U-Net without its visual input): convolution, BatchNorm and LeakyReLU down; transposed convolution,
BatchNorm and ReLU up; skips concatenated on channels; a sigmoid at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vocalsep_jax.models.layers import Conv4x4, batch_norm, down_conv, up_conv

Array = jax.Array

INPUT_TRANSFORMS = ("raw", "log", "log1p")


def transform_input(magnitude: Array, kind: str) -> Array:
    """What the network sees of a magnitude.

    `raw` is the magnitude itself, `log` its natural logarithm after adding 1e-10 (the
    co-separation front end), `log1p` is ln(1 + 100 |X|): a logarithm above |X| = 0.01, about the
    level of a quiet but audible bin, that does not spend its range on what lies below hearing.
    """
    if kind == "raw":
        return magnitude
    if kind == "log":
        return jnp.log(magnitude + 1e-10)
    if kind == "log1p":
        return jnp.log1p(100.0 * magnitude)
    raise ValueError(f"input_transform must be one of {', '.join(INPUT_TRANSFORMS)}, not {kind!r}")


class UNet(nn.Module):
    """Magnitude in, ratio mask out.

    Attributes:
      width: channels of the first layer; deeper layers have 2x, 4x, then 8x that.
      depth: number of down (and of up) layers; at least 4. Patch sides must be multiples of 2^depth.
      dtype: dtype of activations. Parameters, statistics, input transform and mask are float32.
      input_transform: one of `INPUT_TRANSFORMS`.
      axis_name: device axis over which BatchNorm averages its statistics when training.
    """

    width: int = 64
    depth: int = 7
    dtype: Any = jnp.float32
    input_transform: str = "raw"
    axis_name: str | None = None

    @nn.compact
    def __call__(self, magnitude: Array, train: bool = False) -> Array:
        """Predict the mask of one voice.

        Args:
          magnitude: float32 `[B, F, T]`, at least 0; F and T multiples of `2**depth`.
          train: use batch statistics (and update them, where `batch_stats` is mutable) instead of
            the running ones.

        Returns:
          float32 `[B, F, T]` in [0, 1].

        Raises:
          ValueError: if a side of the patch is not a multiple of `2**depth`.
        """
        factor = 2**self.depth
        if magnitude.shape[1] % factor or magnitude.shape[2] % factor:
            raise ValueError(
                f"patch sides must be multiples of {factor} (2^depth), got {magnitude.shape[1:]}"
            )
        down, up = layer_channels(self.width, self.depth)
        x = transform_input(magnitude, self.input_transform)[..., None].astype(self.dtype)
        skips = []
        for n, features in enumerate(down, start=1):
            x = Conv4x4(features, down_conv, self.dtype, name=f"down{n}")(x)
            x = batch_norm(train, self.dtype, self.axis_name, name=f"down{n}_norm")(x)
            x = nn.leaky_relu(x, 0.2)
            skips.append(x)
        x = skips.pop()
        for n, features in enumerate(up, start=1):
            if n > 1:
                x = jnp.concatenate([x, skips.pop()], axis=-1)
            x = Conv4x4(features, up_conv, self.dtype, name=f"up{n}")(x)
            if n < self.depth:
                x = batch_norm(train, self.dtype, self.axis_name, name=f"up{n}_norm")(x)
                x = nn.relu(x)
        return nn.sigmoid(x[..., 0].astype(jnp.float32))


def layer_channels(width: int, depth: int) -> tuple[list[int], list[int]]:
    """Output channels of the down and of the up layers, outermost first and last.

    Raises:
      ValueError: if `width` < 1 or `depth` < 4.
    """
    if width < 1 or depth < 4:
        raise ValueError(f"the U-Net needs width >= 1 and depth >= 4, got {width} and {depth}")
    down = [width * min(2**n, 8) for n in range(depth)]
    up = [*reversed(down[:-1]), 1]
    return down, up


def unet_from_config(model: Mapping[str, Any], axis_name: str | None = None) -> UNet:
    """The network a config's `model` section describes.

    Raises:
      ValueError: if the section names an unknown dtype or input transform.
    """
    if model["dtype"] not in ("float32", "bfloat16"):
        raise ValueError(f"model.dtype must be float32 or bfloat16, not {model['dtype']!r}")
    if model["input_transform"] not in INPUT_TRANSFORMS:
        raise ValueError(
            f"model.input_transform must be one of {', '.join(INPUT_TRANSFORMS)}, "
            f"not {model['input_transform']!r}"
        )
    layer_channels(model["width"], model["depth"])
    return UNet(
        width=model["width"],
        depth=model["depth"],
        dtype=jnp.dtype(model["dtype"]),
        input_transform=model["input_transform"],
        axis_name=axis_name,
    )
