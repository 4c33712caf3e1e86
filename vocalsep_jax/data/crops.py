"""Crops of songs, and the patches made of them, which the network is trained on.

Axis letters: `B` batch, `C` channels (left and right), `S` samples, `F` frequency bins, `T` frames.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vocalsep_jax.audio.device_stft import transform
from vocalsep_jax.audio.stft import Stft
from vocalsep_jax.data.prepared import SongStore
from vocalsep_jax.data.sampling import SamplePlan

Array = jax.Array


class Batch(NamedTuple):
    """Magnitude spectrogram patches of one batch (or of one device's share of it).

    Attributes:
      mixture, vocals, accompaniment: float32 `[B, F, T]`.
      weight: float32 `[B]`; 1 for a patch, 0 for the padding of a short last batch. Only evaluation
        looks at it: training batches are always full.
    """

    mixture: Any
    vocals: Any
    accompaniment: Any
    weight: Any


class Crops(NamedTuple):
    """What a plan's samples are made of, before any arithmetic.

    Attributes:
      vocals, accompaniment: int16 `[B, C, S]`.
      vocals_gains, accompaniment_gains: float32 `[B, C]`; their products with the channels are summed.
      weight: float32 `[B]`, as in `Batch`.
    """

    vocals: Any
    accompaniment: Any
    vocals_gains: Any
    accompaniment_gains: Any
    weight: Any


def gains(plan: SamplePlan, scales: Any) -> tuple[Any, Any]:
    """Factors from integers to sample values, of vocals and accompaniment: float32 `[B, C]` each.

    NumPy or JAX, as the arguments are.
    """
    return (
        plan.voice_gains * scales[plan.voice_song][:, None],
        plan.other_gains * scales[plan.other_song][:, None],
    )


def read_crops(store: SongStore, plan: SamplePlan, samples: int, weight: np.ndarray) -> Crops:
    """The crops of a plan, `samples` long, from a store: NumPy."""
    voices = zip(plan.voice_song.tolist(), plan.voice_start.tolist(), strict=True)
    others = zip(plan.other_song.tolist(), plan.other_start.tolist(), strict=True)
    return Crops(
        np.stack([store.read("vocals", song, start, samples) for song, start in voices]),
        np.stack([store.read("accompaniment", song, start, samples) for song, start in others]),
        *gains(plan, store.scales),
        weight.astype(np.float32),
    )


def patches(crops: Crops, stft: Stft) -> Batch:
    """Magnitudes of vocals, accompaniment and their sum, computed by JAX.

    The crops are `stft.samples(T)` samples long.
    """
    # [2, B, S]: both stems through one transform; it is linear, so the mixture is the sum of the two.
    stems = jnp.stack(
        [
            _one_channel(crops.vocals, crops.vocals_gains),
            _one_channel(crops.accompaniment, crops.accompaniment_gains),
        ]
    )
    real, imaginary = transform(stems, stft)
    real = jnp.concatenate([real, real[:1] + real[1:]])
    imaginary = jnp.concatenate([imaginary, imaginary[:1] + imaginary[1:]])
    vocals, accompaniment, mixture = jnp.sqrt(real**2 + imaginary**2)
    return Batch(mixture, vocals, accompaniment, crops.weight)


def _one_channel(x: Array, gains: Array) -> Array:
    """`[B, C, S]` integers to `[B, S]` sample values."""
    return jnp.sum(x.astype(jnp.float32) * gains[:, :, None], axis=1)
