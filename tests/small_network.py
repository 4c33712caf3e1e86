"""Where a U-Net compiles for many seconds, this compiles in one: tests of all that is around it take it."""

import contextlib
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from vocalsep_jax import config
from vocalsep_jax.data.crops import Batch
from vocalsep_jax.models.frontend import INPUT_TRANSFORMS
from vocalsep_jax.models.layers import batch_norm
from vocalsep_jax.models.networks import NETWORKS


class TwoLayers(nn.Module):
    """A layer down and two up, with the names, the shapes and the modes of a network, but no neighbours."""

    width: int = 2
    depth: int = 4
    mixing: int = 0
    channels: int = 1
    dtype: Any = jnp.float32
    input_transform: str = "raw"
    frequency_scale: str = "linear"
    frequency_bins: int = 256
    input_norm: bool = False
    freeze_statistics: bool = False
    axis_name: str | None = None

    @nn.compact
    def __call__(self, magnitude, train=False):
        renew = train and not self.freeze_statistics
        x = INPUT_TRANSFORMS[self.input_transform](magnitude)
        x = x.reshape(*x.shape[:3], -1)
        x = jnp.concatenate([x, jnp.tanh(x)], axis=-1)
        # Before BatchNorm no bias, no single input: it takes them out, and rounding alone would move them.
        x = nn.Dense(self.width, use_bias=False, name="down1")(x)
        x = nn.relu(batch_norm(renew, self.dtype, self.axis_name, name="down1_norm")(x))
        x = nn.Dense(self.width, use_bias=False, name="up1")(x)
        x = nn.relu(batch_norm(train, self.dtype, self.axis_name, name="up1_norm")(x))
        mask = nn.sigmoid(nn.Dense(self.channels, name="up2")(x))
        return mask[..., 0] if self.channels == 1 else mask

    def check_patch(self, bins, frames):
        pass


@contextlib.contextmanager
def small_network():
    """While this is entered, the network of a config is `TwoLayers`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(NETWORKS, "unet", TwoLayers)
        yield


FIELDS = {
    "name": "small",
    "audio": {"sample_rate": 8000, "n_fft": 62, "hop": 21, "patch_frames": 32},
    "model": {"width": 2},
    "data": {"voiced_share": 0.5, "gain_db": 3.0, "remix": 0.5},
    "batch_size": 8,
    "patches_per_epoch": 32,
    "epochs": 2,
    "optimizer": {"learning_rate": 1e-3},
    "valid": {"patches": 12},  # a short last batch
    "log_every_steps": 2,
}
"""Two epochs of four steps."""


def small_config(**changes):
    """`FIELDS` with changes, `data__root="x"` for a field of a section."""
    fields = {name: dict(x) if isinstance(x, dict) else x for name, x in FIELDS.items()}
    for path, value in changes.items():
        *section, name = path.split("__")
        (fields.setdefault(section[0], {}) if section else fields)[name] = value
    return config.parse(fields)


def random_batch(rng, size=4, side=32):
    """Patches of noise."""
    vocals, accompaniment = rng.random((2, size, side, side)).astype(np.float32) ** 4
    return Batch(vocals + accompaniment, vocals, accompaniment, np.ones(size, np.float32))
