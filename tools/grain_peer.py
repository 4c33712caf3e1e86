"""Batches as `benchmark.py input` compares them, by Grain (`pip install grain`)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import grain
import numpy as np
from absl import flags

from vocalsep_jax.audio.stft import Stft
from vocalsep_jax.data.prepared import MemoryStore

WORKERS = os.cpu_count() or 1  # as many as the tf.data pipeline takes


class Crops:
    """Magnitudes of mixture, vocals and accompaniment of random crops, float32 `[3, F, T]`."""

    def __init__(self, store: MemoryStore, stft: Stft, frames: int):
        self._store, self._stft, self._samples = store, stft, stft.samples(frames)

    def __len__(self) -> int:
        """More than any benchmark reads."""
        return 10**9

    def __getitem__(self, index: int) -> Any:
        """Sample `index`."""
        rng = np.random.default_rng(index)
        song = int(rng.integers(len(self._store.names)))
        start = int(rng.integers(int(self._store.table.samples[song]) - self._samples))
        crops = [self._store.read(s, song, start, self._samples) for s in ("vocals", "accompaniment")]
        stems = np.stack(crops).astype(np.float32).mean(1) * np.float32(self._store.scales[song])
        vocals, other = self._stft.transform(stems)
        return np.abs(np.stack([vocals + other, vocals, other]))


def loader(
    store: MemoryStore, stft: Stft, frames: int, batch_size: int, *, processes: bool
) -> Iterator[Any]:
    """Batches of `Crops`, made by `WORKERS` threads or processes."""
    data = grain.MapDataset.source(Crops(store, stft, frames)).batch(batch_size)
    if processes:
        flags.FLAGS.mark_as_parsed()  # Grain asks for its flags, which are absl's
        options = grain.multiprocessing.MultiprocessingOptions(num_workers=WORKERS)
        return iter(data.to_iter_dataset().mp_prefetch(options))
    return iter(data.to_iter_dataset(grain.ReadOptions(num_threads=WORKERS, prefetch_buffer_size=8)))
