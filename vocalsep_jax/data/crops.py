"""Crops of songs, and the patches made of them, which the network is trained on.

Axis letters: `B` batch, `C` channels of a song (left and right), `K` channels of a sample, `S` samples, `F`
frequency bins, `T` frames, `E` bends of an equaliser. Arrays of samples of one channel have no axis `K`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import attrgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vocalsep_jax.audio.device_stft import transform
from vocalsep_jax.audio.stft import Stft
from vocalsep_jax.data.augmentation import equalizer_basis
from vocalsep_jax.data.prepared import SongStore
from vocalsep_jax.data.sampling import SamplePlan

Array = jax.Array

_NO_MAGNITUDE = 1e-10
"""Magnitudes below this have no phase."""


class Batch(NamedTuple):
    """Magnitude spectrogram patches of one batch (or of one device's share of it).

    Attributes:
      mixture, vocals, accompaniment: float32 `[B, F, T]`, or `[B, F, T, K]`.
      weight: float32 `[B]`; 1 for a patch, 0 for the padding of a short last batch. Only evaluation
        looks at it: training batches are always full.
    """

    mixture: Any
    vocals: Any
    accompaniment: Any
    weight: Any


def in_phase(batch: Batch) -> Array:
    """The vocals' part in phase with the mixture: `Re(V X*) / |X|`, from `-|V|` to `|V|`, shaped as these.

    It is the best that a mask times the mixture can be (Erdogan et al. 2015, "Phase-sensitive and
    recognition-boosted speech separation using deep recurrent neural networks", section 2). The magnitudes
    say what it is: with `A = X - V`, `|A|^2 = |X|^2 + |V|^2 - 2 Re(V X*)` (the law of cosines). The error
    is the mixture's rounding: a voice far below it has fewer digits; `clip` keeps it within its magnitude.
    """
    x, v, a = batch.mixture, batch.vocals, batch.accompaniment
    common = ((x - a) * (x + a) + v * v) / 2
    return jnp.clip(common / jnp.maximum(x, _NO_MAGNITUDE), -v, v)


TARGETS: dict[str, Callable[[Batch], Array]] = {"vocals": attrgetter("vocals"), "in_phase": in_phase}
"""What a mask times the mixture may be trained to be."""


class Crops(NamedTuple):
    """What a plan's samples are made of, before any arithmetic.

    Attributes:
      vocals, accompaniment: int16 `[B, C, S]`.
      vocals_gains, accompaniment_gains: float32 `[B, K, C]`; their products with the channels are summed.
      weight: float32 `[B]`, as in `Batch`.
      vocals_bends, accompaniment_bends: float32 `[B, E]`, dB of the bends of their equalisers; E is 0
        where there are none.
    """

    vocals: Any
    accompaniment: Any
    vocals_gains: Any
    accompaniment_gains: Any
    weight: Any
    vocals_bends: Any
    accompaniment_bends: Any


def gains(plan: SamplePlan, scales: Any) -> tuple[Any, Any]:
    """Factors from integers to sample values, of vocals and accompaniment: float32 `[B, K, C]` each.

    NumPy or JAX, as the arguments are.
    """
    return (
        plan.voice_gains * scales[plan.voice_song][:, None, None],
        plan.other_gains * scales[plan.other_song][:, None, None],
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
        plan.voice_bends,
        plan.other_bends,
    )


def patches(crops: Crops, stft: Stft) -> Batch:
    """Magnitudes of vocals, accompaniment and their sum, computed by JAX.

    The crops are `stft.samples(T)` samples long.
    """
    # [2, B, K, S]: both stems through one transform; it is linear, so the mixture is the sum of the two.
    stems = jnp.stack(
        [
            _channels(crops.vocals, crops.vocals_gains),
            _channels(crops.accompaniment, crops.accompaniment_gains),
        ]
    )
    # [2, B, K, T, F], the order in which an FFT gives them: the arithmetic is quickest there.
    real, imaginary = (jnp.swapaxes(part, -1, -2) for part in transform(stems, stft))
    if crops.vocals_bends.shape[-1]:
        bends = jnp.stack([crops.vocals_bends, crops.accompaniment_bends])
        curves = equalizer_curves(bends, stft.bins)[:, :, None, None, :]
        real, imaginary = real * curves, imaginary * curves
    vocals, accompaniment = zip(real, imaginary, strict=True)
    mixture = (real[0] + real[1], imaginary[0] + imaginary[1])
    return Batch(
        _channels_last(_magnitude(mixture)),
        _channels_last(_magnitude(vocals)),
        _channels_last(_magnitude(accompaniment)),
        crops.weight,
    )


def _magnitude(parts: tuple[Array, Array]) -> Array:
    """Of real and imaginary parts."""
    return jnp.sqrt(parts[0] ** 2 + parts[1] ** 2)


def equalizer_curves(bends: Any, bins: int, xp: Any = jnp) -> Any:
    """Factors of magnitudes, float32 `[..., F]`, from the bends of equalisers in dB, `[..., E]`.

    `xp` is the module of the arrays, `numpy` or `jax.numpy`.
    """
    decibels = xp.einsum("...e,ef->...f", bends, xp.asarray(equalizer_basis(bins)))
    return xp.exp(math.log(10) / 20 * decibels)


def _channels(x: Array, gains: Array) -> Array:
    """`[B, C, S]` integers to `[B, K, S]` sample values."""
    return jnp.sum(x.astype(jnp.float32)[:, None] * gains[..., None], axis=2)


def _channels_last(x: Array) -> Array:
    """`[B, K, T, F]` as `[B, F, T, K]`, or as `[B, F, T]` where K is 1."""
    return jnp.swapaxes(x[:, 0], 1, 2) if x.shape[1] == 1 else jnp.transpose(x, (0, 3, 2, 1))
