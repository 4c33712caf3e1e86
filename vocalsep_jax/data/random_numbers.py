"""Random numbers that are a function of (seed, sample, draw): the same bits in NumPy and in JAX."""

from __future__ import annotations

from typing import Any

import numpy as np

STREAM_LENGTH = 2**32
"""Seeds, and places in a stream of samples, are below this."""


def random_words(seed: int, index: Any, draws: int) -> Any:
    """Random words, uint32 `[draws, n]`, of samples `index`, uint32 `[n]`; one row a draw.

    Threefry-2x32 in 20 rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): the
    first word of the block `(index, 0)` under the key `(seed, draw)`.
    """
    keys = [np.full((draws, 1), seed, np.uint32), np.arange(draws, dtype=np.uint32)[:, None]]
    keys.append(keys[0] ^ keys[1] ^ np.uint32(0x1BD11BDA))
    x, y = index[None] + keys[0], 0 * index[None] + keys[1]
    for group in range(5):
        for rotation in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
            x = x + y
            y = x ^ ((y << rotation) | (y >> (32 - rotation)))
        x = x + keys[(group + 1) % 3]
        y = y + keys[(group + 2) % 3] + np.uint32(group + 1)
    return x


def uniform(words: Any) -> Any:
    """Uniform numbers in [0, 1), float32, from random words (their upper 24 bits)."""
    return (words >> 8).astype(np.float32) * np.float32(2.0**-24)


def below(words: Any, limit: Any) -> Any:
    """Uniform integers in [0, limit), int32, from random words; `limit` is int32, at least 1.

    The upper half of the 64-bit product, from 16-bit halves: devices have no 64-bit integers by default.
    """
    limit = limit.astype(np.uint32)
    low, high = words & 0xFFFF, words >> 16
    limit_low, limit_high = limit & 0xFFFF, limit >> 16
    middle = high * limit_low + (low * limit_low >> 16)
    other = low * limit_high + (middle & 0xFFFF)
    return (high * limit_high + (middle >> 16) + (other >> 16)).astype(np.int32)
