"""Crops of songs, and the patches the network is trained on that are made of them.

Axis letters: `B` batch, `C` channels (left and right), `S` samples, `F` frequency bins, `T` frames.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vocalsep_jax.data.prepared import SongStore
from vocalsep_jax.data.sampling import Plan, channel_gains
from vocalsep_jax.spectral import Stft
from vocalsep_jax.train_step import Batch

Array = jax.Array


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


def gains(plan: Plan, scales: Any, xp: Any = np) -> tuple[Any, Any]:
    """Gains of the channels of vocals and accompaniment, `[B, C]` each, to sample values."""
    return (
        channel_gains(plan.voice_gain * scales[plan.voice_song], plan.voice_swap, plan.channel, xp),
        channel_gains(plan.other_gain * scales[plan.other_song], plan.other_swap, plan.channel, xp),
    )


def read_crops(store: SongStore, plan: Plan, samples: int, weight: np.ndarray) -> Crops:
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
    """Magnitudes of vocals, accompaniment and their sum, on the device.

    S is `stft.samples(T)`.
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


def transform(x: Array, stft: Stft) -> tuple[Array, Array]:
    """`Stft.transform` of all frames in `x`, float32 `[..., S]`, as real and imaginary part `[..., F, T]`.

    As matrix products with the windowed sines and cosines: these are what accelerators are made for, and
    the frames, which overlap, are never copied out. On a CPU by FFT.
    """
    return lax.platform_dependent(
        x,
        cpu=lambda x: _by_fft(x, stft),
        default=lambda x: _by_products(x, stft),
    )


def _by_fft(x: Array, stft: Stft) -> tuple[Array, Array]:
    starts = np.arange(0, x.shape[-1] - stft.n_fft + 1, stft.hop)
    frames = x[..., starts[:, None] + np.arange(stft.n_fft)[None, :]]
    window = stft.window().reshape((1,) * x.ndim + (-1,))
    spectra = jnp.swapaxes(jnp.fft.rfft(frames * window, axis=-1), -1, -2)
    return spectra.real, spectra.imag


def _by_products(x: Array, stft: Stft) -> tuple[Array, Array]:
    frames = (x.shape[-1] - stft.n_fft) // stft.hop + 1
    pieces = -(-stft.n_fft // stft.hop)  # hops that a frame spans
    basis = np.zeros((pieces * stft.hop, 2 * stft.bins), np.float32)
    turns = np.outer(np.arange(stft.n_fft), np.arange(stft.bins)) % stft.n_fft
    angles = 2 * np.pi * turns / stft.n_fft
    waves = np.concatenate([np.cos(angles), -np.sin(angles)], axis=1)
    basis[: stft.n_fft] = stft.window()[:, None] * waves
    total = (frames - 1 + pieces) * stft.hop
    # Whole hops; what a last frame has less than whole ones meets zeros of the basis.
    hops = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, max(0, total - x.shape[-1]))])[..., :total]
    hops = hops.reshape(*x.shape[:-1], frames - 1 + pieces, stft.hop)
    products = [
        jnp.einsum("kf,...tk->...ft", part, hops[..., n : n + frames, :], precision=lax.Precision.HIGHEST)
        for n, part in enumerate(basis.reshape(pieces, stft.hop, -1))
    ]
    y = functools.reduce(jnp.add, products)
    return y[..., : stft.bins, :], y[..., stft.bins :, :]
