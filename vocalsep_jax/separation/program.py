"""Separation of whole waveforms as one JAX function, for programs that are exported.

Computes what `separator.Separator` computes at the network's sample rate. Lengths may be symbolic.

Axis letters: `B` batch, `S` samples, `C` channels, `R` rows (`B` x `C / G`), `N` frames, `F` frequency
bins, `K` patches predicted at once, `T` frames of a patch, `G` channels that the network sees together.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vocalsep_jax.audio.masks import crossfade_weights, patch_count, patch_step
from vocalsep_jax.audio.stft import Stft
from vocalsep_jax.audio.wiener import WINDOW, Spread, wiener_window

Array = jax.Array


def separation(
    predict: Callable[[Array], Array],
    stft: Stft,
    *,
    patch_frames: int,
    overlap: float,
    batch_size: int,
    together: int = 1,
    wiener: bool = False,
) -> Callable[[Array], dict[str, Array]]:
    """A function of a waveform that separates it.

    Args:
      predict: float32 magnitudes `[K, F, T]`, or `[K, F, T, G]` if G is not 1, to masks of that shape.
      stft: the transform.
      patch_frames: T.
      overlap: share of a patch that overlaps the next, in [0, 1).
      batch_size: K.
      together: G. If it is not 1, waveforms must have so many channels.
      wiener: whether a multichannel Wiener filter follows; G is 2 then.

    Returns:
      From float32 `[B, S, C]` to `vocals` and `no_vocals`, shaped like it.

    Raises:
      ValueError: if `overlap` is out of range.
    """
    step = patch_step(patch_frames, overlap)

    def predict_rows(magnitude: Array) -> Array:
        """Masks of patches `[K, G F, T]`: the bins of channels seen together follow one another."""
        if together == 1:
            return predict(magnitude)
        apart = magnitude.reshape(batch_size, together, stft.bins, patch_frames)
        return jnp.moveaxis(predict(jnp.moveaxis(apart, 1, -1)), -1, 1).reshape(magnitude.shape)

    def mask_of(magnitude: Array) -> Array:
        """`[R, G F, N]` to a mask of that shape, of overlapping patches, cross-faded."""
        rows, bins, count = magnitude.shape
        patches = patch_count(count, patch_frames, step, jax.core.max_dim)
        frames = (patches - 1) * step + patch_frames
        padded = jnp.zeros((rows, bins, frames), jnp.float32)
        padded = lax.dynamic_update_slice(padded, magnitude, (0, 0, 0))
        crossfade = jnp.asarray(crossfade_weights(patch_frames))
        shape = (1, bins, patch_frames)

        def predict_some(n: Array, sums: Array) -> Array:
            """Add the masks of K patches from K n on; past the last patch it is repeated, with weight 0."""
            places = n * batch_size + np.arange(batch_size, dtype=np.int32)
            counts = places < rows * patches
            row, patch = jnp.divmod(jnp.minimum(places, rows * patches - 1), patches)
            starts = [(row[k], 0, patch[k] * step) for k in range(batch_size)]
            batch = jnp.concatenate([lax.dynamic_slice(padded, start, shape) for start in starts])
            masks = predict_rows(batch) * crossfade[None, None] * counts[:, None, None].astype(jnp.float32)
            for mask, start in zip(masks, starts, strict=True):
                before = lax.dynamic_slice(sums, start, shape)
                sums = lax.dynamic_update_slice(sums, before + mask[None], start)
            return sums

        batches = (rows * patches + batch_size - 1) // batch_size
        sums = lax.fori_loop(0, batches, predict_some, jnp.zeros_like(padded))

        def weigh(n: Array, sums: Array) -> Array:
            before = lax.dynamic_slice(sums, (n * step,), (patch_frames,))
            return lax.dynamic_update_slice(sums, before + crossfade, (n * step,))

        weight = lax.fori_loop(0, patches, weigh, jnp.zeros(frames, jnp.float32))
        return (sums / weight[None, None])[:, :, :count]

    def separate(waveform: Array) -> dict[str, Array]:
        spectra = stft.analyse(waveform, jnp)
        batch, channels, bins, count = spectra.shape
        if together > 1 and channels != together:
            raise ValueError(f"the network separates {together} channels, the waveform has {channels}")
        rows = batch * (channels if together == 1 else 1)
        mask = mask_of(jnp.abs(spectra).reshape(rows, together * bins, count))
        masked = spectra * mask.reshape(spectra.shape)
        if wiener:
            masked = _wiener(spectra, masked)
        vocals = stft.synthesise(masked, waveform.shape[1], jnp)
        return {"vocals": vocals, "no_vocals": waveform - vocals}

    return separate


def _wiener(mixture: Array, voice: Array) -> Array:
    """`wiener_window` from window to window of `[B, 2, F, N]`, the last one filled up with silence."""
    batch, _, bins, count = mixture.shape
    windows = (count + WINDOW - 1) // WINDOW
    whole = (*mixture.shape[:3], windows * WINDOW)
    mixture, voice = (
        lax.dynamic_update_slice(jnp.zeros(whole, jnp.complex64), x, (0, 0, 0, 0)) for x in (mixture, voice)
    )
    update = jax.vmap(functools.partial(wiener_window, xp=jnp))

    def refine(n: Array, carry: tuple[Array, Spread]) -> tuple[Array, Spread]:
        refined, spread = carry
        start, size = (0, 0, 0, n * WINDOW), (*mixture.shape[:3], WINDOW)
        window, spread = update(
            lax.dynamic_slice(mixture, start, size), lax.dynamic_slice(refined, start, size), spread
        )
        return lax.dynamic_update_slice(refined, window, start), spread

    none = jax.tree.map(lambda x: jnp.broadcast_to(x, (batch, *x.shape)), Spread.none(bins, jnp))
    refined, _ = lax.fori_loop(0, windows, refine, (voice, none))
    return refined[..., :count]
