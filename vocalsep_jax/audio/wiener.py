"""The multichannel Wiener filter: where voice and rest lie between the channels, learnt from the song.

A mask scales each channel by itself. This filter starts from what the masks give, estimates how each source
is spread over the two channels at each frequency, and takes the part of the mixture that fits the voice
best (Nugraha, Liutkus & Vincent 2016, "Multichannel audio source separation with deep neural networks"; one
update). Nothing is trained: it helps where voice and rest lie apart, whichever is wider.

`xp` is the module whose arrays are meant, `numpy` or `jax.numpy`.

Axis letters: `F` frequency bins, `N` frames of a window. Channels are two.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

WINDOW = 256
"""N: frames that are filtered together."""

_MEMORY = 0.9
"""What a window's statistics count for in the next: about ten windows are remembered."""

_FLOOR = 1e-10
"""Power below which nothing is heard: a magnitude of 1e-5 in the spectrogram."""


class Spread(NamedTuple):
    """How two sources, voice and rest, have been spread over the channels so far; sums over frames.

    Attributes:
      left, right: float32 `[2, F]`, power of each source in each channel.
      cross: complex64 `[2, F]`, sums of left times conjugate right.
      power: float32 `[2, F]`, the mean power of the channels.
    """

    left: Any
    right: Any
    cross: Any
    power: Any

    @classmethod
    def none(cls, bins: int, xp: Any = np) -> Spread:
        """Before the first window."""
        zero = xp.zeros((2, bins), np.float32)
        return cls(zero, zero, xp.zeros((2, bins), np.complex64), zero)


def wiener_window(mixture: Any, voice: Any, spread: Spread, xp: Any = np) -> tuple[Any, Spread]:
    """Filter a window of frames.

    Args:
      mixture: complex64 `[2, F, N]`.
      voice: the first estimate of the voice in it, shaped like it.
      spread: of the windows before.
      xp: the arrays' module.

    Returns:
      The voice, complex64 `[2, F, N]`, and the spread to go on with.
    """
    sources = xp.stack([voice, mixture - voice])  # [2, 2, F, N]
    left, right = _power(sources[:, 0]), _power(sources[:, 1])
    power = (left + right) / 2 + np.float32(_FLOOR)
    cross = sources[:, 0] * xp.conj(sources[:, 1])
    now = Spread(*(xp.sum(x, axis=-1) for x in (left, right, cross, power)))
    spread = Spread(*(np.float32(_MEMORY) * old + new for old, new in zip(spread, now, strict=True)))

    # Covariances of each source at each point: its power there, times its spread at that frequency.
    scale = power / spread.power[..., None]
    left, right, cross = (scale * x[..., None] for x in (spread.left, spread.right, spread.cross))
    mixed_left, mixed_right = xp.sum(left, axis=0), xp.sum(right, axis=0)
    floor = np.float32(1e-6) * (mixed_left + mixed_right) + np.float32(_FLOOR)
    mixed_left, mixed_right, mixed_cross = mixed_left + floor, mixed_right + floor, xp.sum(cross, axis=0)
    # The inverse of the mixture's covariance, a 2 x 2 matrix, times the mixture; the voice's times that.
    determinant = mixed_left * mixed_right - _power(mixed_cross)
    first = (mixed_right * mixture[0] - mixed_cross * mixture[1]) / determinant
    second = (mixed_left * mixture[1] - xp.conj(mixed_cross) * mixture[0]) / determinant
    filtered = xp.stack(
        [left[0] * first + cross[0] * second, xp.conj(cross[0]) * first + right[0] * second]
    )
    return filtered.astype(np.complex64), spread


def _power(x: Any) -> Any:
    return x.real**2 + x.imag**2
