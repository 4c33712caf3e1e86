"""The STFT inside a compiled step, in the form that suits the device it is compiled for.

Axis letters: `S` samples, `F` frequency bins, `T` frames.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vocalsep_jax.audio.stft import Stft

Array = jax.Array


def transform(x: Array, stft: Stft) -> tuple[Array, Array]:
    """`Stft.transform` of all frames in `x`, float32 `[..., S]`, as real and imaginary part `[..., F, T]`.

    A CPU computes it by FFT. Other devices compute it as matrix products with the windowed sines and
    cosines: accelerators are made for these, and the overlapping frames are never copied.
    """
    return lax.platform_dependent(
        x,
        cpu=lambda x: _by_fft(x, stft),
        default=lambda x: _by_products(x, stft),
    )


def _by_fft(x: Array, stft: Stft) -> tuple[Array, Array]:
    spectra = stft.transform(x, jnp)
    return spectra.real, spectra.imag


def _by_products(x: Array, stft: Stft) -> tuple[Array, Array]:
    frames = (x.shape[-1] - stft.n_fft) // stft.hop + 1
    pieces = stft.hops_per_frame
    basis = np.zeros((pieces * stft.hop, 2 * stft.bins), np.float32)
    turns = np.outer(np.arange(stft.n_fft), np.arange(stft.bins)) % stft.n_fft
    angles = 2 * np.pi * turns / stft.n_fft
    waves = np.concatenate([np.cos(angles), -np.sin(angles)], axis=1)
    basis[: stft.n_fft] = stft.window()[:, None] * waves
    total = (frames - 1 + pieces) * stft.hop
    # Frames are taken in whole hops: the samples of a hop beyond a frame's end meet zeros of the basis.
    hops = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, max(0, total - x.shape[-1]))])[..., :total]
    hops = hops.reshape(*x.shape[:-1], frames - 1 + pieces, stft.hop)
    products = [
        jnp.einsum("kf,...tk->...ft", part, hops[..., n : n + frames, :], precision=lax.Precision.HIGHEST)
        for n, part in enumerate(basis.reshape(pieces, stft.hop, -1))
    ]
    y = functools.reduce(jnp.add, products)
    return y[..., : stft.bins, :], y[..., stft.bins :, :]
