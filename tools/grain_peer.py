"""Batches as `benchmark.py input` compares them, by Grain (`pip install grain`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grain
import numpy as np
from absl import flags

from tools.input_crops import RandomCrops
from vocalsep_jax.audio.stft import Stft
from vocalsep_jax.data.prepared import MemoryStore
from vocalsep_jax.runtime.cores import available_cores

WORKERS = available_cores()  # as many as the tf.data pipeline takes


class Crops(RandomCrops):
    """Magnitudes of mixture, vocals and accompaniment of random crops, float32 `[3, F, T]`."""

    def __getitem__(self, index: int) -> np.ndarray:
        """Sample `index`."""
        vocals, other = self.stft.transform(self.stems(index))
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
