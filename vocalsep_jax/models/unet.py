"""The U-Net that maps a magnitude spectrogram patch to a ratio mask.

The network is that of "Co-Separating Sounds of Visual Objects" (Gao & Grauman, ICCV 2019, the audio
U-Net without its visual input): convolution, BatchNorm and LeakyReLU down; transposed convolution,
BatchNorm and ReLU up; skips concatenated on channels; a sigmoid at the end.

Axis letters: `B` batch, `F` frequency bins, `G` those of the network's frequency scale, `T` frames, `K`
channels of the audio.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vocalsep_jax.models.convolutions import FORMS
from vocalsep_jax.models.frontend import FREQUENCY_SCALES, INPUT_TRANSFORMS
from vocalsep_jax.models.layers import Conv4x4, batch_norm, normalisation, prepared_conv

Array = jax.Array


class UNet(nn.Module):
    """Magnitude in, ratio mask out.

    Attributes:
      width: channels of the first layer; deeper layers have 2x, 4x, then 8x that.
      depth: number of down (and of up) layers; at least 4. Patch sides must be multiples of 2^depth.
      channels: K, the channels of the audio that are seen, and masked, together.
      mixing: of the frequency mixing that follows each block of the encoder, by how much its inside is
        narrower than the number of bins; 0 for none. See `FrequencyMixing`.
      dtype: dtype of activations. Parameters, statistics, input transform and mask are float32.
      input_transform: one of `frontend.INPUT_TRANSFORMS`.
      frequency_scale: one of `frontend.FREQUENCY_SCALES`: the one the layers work on.
      frequency_bins: G, the bins of a scale that is not linear.
      input_norm: whether each bin of the input features is standardised over batch and frames, by a
        BatchNorm of its own, as in open-unmix (Stoter et al. 2019).
      freeze_statistics: whether the encoder's BatchNorm uses its running statistics in training too, and
        leaves them as they are.
      axis_name: device axis over which BatchNorm averages its statistics when training.
      convolutions: one of `layers.FORMS`: what computes the convolutions; `auto` is the fastest on the
        platform this is compiled for.
      prepared: whether the variables are those that `for_prediction` made.
    """

    width: int = 64
    depth: int = 7
    channels: int = 1
    mixing: int = 0
    dtype: Any = jnp.float32
    input_transform: str = "raw"
    frequency_scale: str = "linear"
    frequency_bins: int = 256
    input_norm: bool = False
    freeze_statistics: bool = False
    axis_name: str | None = None
    convolutions: str = "auto"
    prepared: bool = False

    @nn.compact
    def __call__(self, magnitude: Array, train: bool = False) -> Array:
        """Predict the mask of the voice.

        The output of each block is kept under its name (`down1_block`, ...) in the collection
        `intermediates` where a caller makes that mutable.

        Args:
          magnitude: float32 `[B, F, T]`, or `[B, F, T, K]` if K is not 1; at least 0, of linear frequency.
            T is a multiple of `2**depth`; so is F, or G where the frequency scale is not linear.
          train: use batch statistics (and update them, where `batch_stats` is mutable) instead of
            the running ones.

        Returns:
          float32 in [0, 1], shaped as `magnitude`.

        Raises:
          ValueError: if a side of the patch is not a multiple of `2**depth`, or there are other channels.
        """
        self.check_patch(*magnitude.shape[1:3])
        if magnitude.shape[3:] != (() if self.channels == 1 else (self.channels,)):
            raise ValueError(f"the network has {self.channels} channels, the patches are {magnitude.shape}")
        scale = FREQUENCY_SCALES[self.frequency_scale]
        x = magnitude if scale is None else scale.to(magnitude, self.frequency_bins)
        renew = train and not self.freeze_statistics
        down, up = layer_channels(self.width, self.depth)
        up[-1] = self.channels
        x = INPUT_TRANSFORMS[self.input_transform](x)
        x = x.reshape(*x.shape[:3], -1)
        if self.input_norm:
            x = self._standardised(x, renew)
        x = x.astype(self.dtype)
        down_conv, up_conv = FORMS[self.convolutions]
        skips = []
        for n, features in enumerate(down, start=1):
            x = Conv4x4(features, down_conv, self.dtype, self.prepared, name=f"down{n}")(x)
            if not self.prepared:
                x = batch_norm(renew, self.dtype, self.axis_name, name=f"down{n}_norm")(x)
            x = nn.leaky_relu(x, 0.2)
            if self.mixing:
                mixing = FrequencyMixing(self.mixing, self.dtype, self.axis_name, name=f"down{n}_mixing")
                x = mixing(x, renew)
            self.sow("intermediates", f"down{n}_block", x)
            skips.append(x)
        x = skips.pop()
        for n, features in enumerate(up, start=1):
            if n > 1:
                x = jnp.concatenate([x, skips.pop()], axis=-1)
            x = Conv4x4(features, up_conv, self.dtype, self.prepared, name=f"up{n}")(x)
            if n < self.depth:
                if not self.prepared:
                    x = batch_norm(train, self.dtype, self.axis_name, name=f"up{n}_norm")(x)
                x = nn.relu(x)
                self.sow("intermediates", f"up{n}_block", x)
        mask = nn.sigmoid(x.astype(jnp.float32))
        self.sow("intermediates", f"up{self.depth}_block", mask)
        if self.channels == 1:
            mask = mask[..., 0]
        return mask if scale is None else scale.back(mask, magnitude.shape[1])

    def for_prediction(
        self, variables: Mapping[str, Any], bins: int, frames: int, platform: str | None
    ) -> tuple[UNet, dict[str, Any]]:
        """This network for predicting alone, as one that computes less.

        The normalisation after each convolution is multiplied into its kernel, and what the convolution's
        form makes of the kernel is made, once, here. On CPUs that takes up to six times its memory.

        Args:
          variables: of this network, NumPy arrays.
          bins, frames: of the patches, linear.
          platform: that it will run on, as JAX names it: `cpu`, `gpu`, ...; None if it may be any, for
            which the forms are chosen when it is compiled, and make what they need each time.

        Returns:
          The network, and its variables, NumPy arrays. It predicts what this one does, to rounding.

        Raises:
          ValueError: if a variance is negative or a number becomes too large.
        """
        forms = {None: "auto", "cpu": "cpu_forward"}.get(platform, "lax")
        model = self.clone(convolutions=forms, prepared=True)
        params, stats = dict(variables["params"]), dict(variables["batch_stats"])
        sides = np.array([bins if self.frequency_scale == "linear" else self.frequency_bins, frames])
        for direction, choice in zip(("down", "up"), FORMS[model.convolutions], strict=True):
            for n in range(1, self.depth + 1):
                name = f"{direction}{n}"
                h, w = sides // 2 ** (n - 1 if direction == "down" else self.depth - n + 1)
                norm = None
                if scaling := params.pop(f"{name}_norm", None):
                    norm = normalisation(scaling, stats.pop(f"{name}_norm"))
                params[name] = prepared_conv(choice, params[name], norm, self.dtype, h, w)
        return model, {"params": params, "batch_stats": stats}

    def _standardised(self, x: Array, renew: bool) -> Array:
        """Input features `[B, G, T, C]`, each bin and feature with mean 0 and variance 1, then scaled."""
        batch, bins, frames, features = x.shape
        x = jnp.moveaxis(x, 2, 1).reshape(batch, frames, bins * features)
        x = batch_norm(renew, jnp.float32, self.axis_name, name="input_norm")(x)
        return jnp.moveaxis(x.reshape(batch, frames, bins, features), 1, 2)

    def check_patch(self, bins: int, frames: int) -> None:
        """Raise ValueError unless the layers can halve patches of so many linear bins and frames."""
        layer_channels(self.width, self.depth)
        if scale := FREQUENCY_SCALES[self.frequency_scale]:
            scale.check(bins, self.frequency_bins)
            bins = self.frequency_bins
        factor = 2**self.depth
        if bins % factor or frames % factor:
            raise ValueError(
                f"both sides of a patch must be multiples of {factor} (2^depth), got {bins} bins x "
                f"{frames} frames"
            )


class FrequencyMixing(nn.Module):
    """Lets every bin of a block see all bins of its frame: `[B, F, T, C]` in and out.

    Two dense layers along frequency, the first to `F / factor` values, each followed by BatchNorm and ReLU,
    beside a connection around them: the time-distributed fully connected block of Choi et al. 2020,
    "Investigating U-Nets with various intermediate blocks for spectrogram-based singing voice separation".
    A voice's harmonics lie all over the spectrum; convolutions meet them in the deepest layers only.

    Attributes:
      factor: by how much the inside is narrower.
      dtype: of activations.
      axis_name: device axis over which BatchNorm averages its statistics when training.
    """

    factor: int
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, renew: bool) -> Array:
        """The block; `renew` as `train` of the network."""
        bins = x.shape[1]
        y = x
        for name, size in (("inner", max(bins // self.factor, 2)), ("outer", bins)):
            kernel = self.param(f"{name}_kernel", nn.initializers.lecun_normal(), (y.shape[1], size))
            y = jnp.einsum("bftc,fg->bgtc", y, kernel.astype(self.dtype))
            y = nn.relu(batch_norm(renew, self.dtype, self.axis_name, name=f"{name}_norm")(y))
        return x + y


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


def is_encoder(name: str) -> bool:
    """Whether a module (`input_norm`, `down1`, `down1_norm`, `up1`, ...) belongs to the encoder."""
    return name.startswith(("down", "input"))
