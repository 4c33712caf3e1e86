"""The proof that a converted network is the same: both see one input, and all blocks must agree.

Axis letters: `B` batch, `F` frequency bins, `T` frames, `C` channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vocalsep_jax.audio.stft import Stft
from vocalsep_jax.coseparation.keys import cpu_device, network_of
from vocalsep_jax.models.unet import UNet

TOLERANCE = 1e-4
"""Largest relative difference, max|d| / max|reference|, that the proof allows a block."""


def proof_input() -> np.ndarray:
    """The log-magnitude spectrogram of white noise, to compare networks on: float32 `[1, 256, 256]`."""
    stft = Stft(510, 172)
    noise = np.random.default_rng(0).standard_normal(stft.samples(256)).astype(np.float32)
    return np.log(np.abs(stft.transform(noise[None])) + 1e-10)


def activations(model: Mapping[str, Any], x: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs of all blocks of the Flax network whose weights are given, in evaluation mode.

    Args:
      model: as `to_flax` gives it; without a decoder, the encoder's blocks only.
      x: float32 `[B, F, T]`, given to the network as it is.

    Returns:
      float32 `[B, F, T, C]` for each of `down1`, ..., and `up1`, ...
    """
    network = network_of(model)
    names = [name for name in model["params"] if not name.endswith("_norm")]
    # The form that rounds least: the proof is about the weights' places, not about the form.
    unet = UNet(network.width, network.depth, convolutions="matmul")

    def blocks(model: Any, x: jax.Array) -> dict[str, jax.Array]:
        # A decoder that is not there is filled in with zeros; as nothing asks for its outputs, it is
        # dropped when this is compiled.
        shapes = jax.eval_shape(unet.init, jax.random.key(0), x)
        filled = {
            kind: jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes[kind]) | model[kind]
            for kind in shapes
        }
        _, state = unet.apply(filled, x, mutable=["intermediates"])
        return {name: state["intermediates"][f"{name}_block"][0] for name in names}

    # On the CPU: other devices may multiply with fewer digits. Aliased, and with buffers freed early: the
    # full network need not be in memory twice.
    placed = jax.device_put((model, x), cpu_device(), may_alias=True)
    frugal = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
    return {name: np.asarray(y) for name, y in jax.jit(blocks, compiler_options=frugal)(*placed).items()}


def relative_differences(
    found: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """max|found - reference| / max|reference| of each array; infinite where a value is not finite."""
    result = {}
    for name, expected in reference.items():
        difference = np.abs(found[name] - expected).max()
        scale = max(np.abs(expected).max(), np.finfo(np.float32).tiny)
        result[name] = float(difference / scale) if np.isfinite(difference) else float("inf")
    return result
