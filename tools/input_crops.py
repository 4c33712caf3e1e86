"""The random crops of which the peers of `benchmark.py input` make their samples."""

from __future__ import annotations

import numpy as np

from vocalsep_jax.audio.stft import Stft
from vocalsep_jax.data.prepared import STEMS, MemoryStore


class RandomCrops:
    """Crops of songs in memory, by number.

    Attributes:
      stft: what is to be made of them.
    """

    def __init__(self, store: MemoryStore, stft: Stft, frames: int):
        self.stft = stft
        self._store, self._samples = store, stft.samples(frames)

    def __len__(self) -> int:
        """More than any benchmark reads."""
        return 10**9

    def stems(self, index: int) -> np.ndarray:
        """Vocals and accompaniment of crop `index`, left and right averaged: float32 `[2, S]`."""
        rng = np.random.default_rng(index)
        song = int(rng.integers(len(self._store.names)))
        start = int(rng.integers(int(self._store.table.samples[song]) - self._samples))
        crops = np.stack([self._store.read(stem, song, start, self._samples) for stem in STEMS])
        return crops.astype(np.float32).mean(1) * np.float32(self._store.scales[song])
