"""Batches made on the host, by tf.data."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import jax

from vocalsep_jax.data.crops import Batch, Crops, patches
from vocalsep_jax.data.feed import EvalStep, Recipe, TrainStep, Work
from vocalsep_jax.data.prepared import SPLITS, SongStore
from vocalsep_jax.runtime.data_parallel import CompiledStep, DataParallel


class HostFeed:
    """Batches made by tf.data on the host, each sent while the one before it is in use."""

    def __init__(
        self, stores: dict[str, SongStore], recipe: Recipe, parallel: DataParallel, stft_on: str = "host"
    ):
        """Set up. `stft_on` is one of `placement.STFT_ON`: where the STFT is taken."""
        from vocalsep_jax.data.pipeline import PatchPipeline  # TensorFlow takes seconds to import

        self._recipe, self._parallel = recipe, parallel
        self._train, self._valid = (
            PatchPipeline(
                stores[split],
                recipe.stft,
                recipe.patch_frames,
                recipe.batch_size,
                recipe.augmentation,
                jax.process_index(),
                jax.process_count(),
                stft_on,
            )
            for split in SPLITS
        )

    def wrap_training(self, step: TrainStep) -> CompiledStep:
        """See `Feed`."""
        return self._parallel.wrap(lambda state, batch: step(state, self._patches(batch)), donate=True)

    def training(self, first: int, last: int, until: Callable[[int], int]) -> Iterator[Work]:
        """See `Feed`; a step at a time."""
        del until
        batches = self._train.training(self._recipe.seed, first, last)
        ahead: deque[Work] = deque()
        for batch in batches:
            ahead.append(Work(1, self._parallel.shard(batch)))
            if len(ahead) > 1:
                yield ahead.popleft()
        yield from ahead

    def wrap_evaluation(self, step: EvalStep) -> CompiledStep:
        """See `Feed`."""
        return self._parallel.wrap(
            lambda variables, batch: step(variables, self._patches(batch)), donate=False
        )

    def validation(self) -> Iterator[Work]:
        """See `Feed`."""
        for batch in self._valid.validation(self._recipe.valid_patches):
            yield Work(1, self._parallel.shard(batch))

    def example(self, split: str) -> Work:
        """See `Feed`."""
        pipeline = self._train if split == "train" else self._valid
        return Work(1, self._parallel.shard(pipeline.empty_batch()))

    def _patches(self, batch: Batch | Crops) -> Batch:
        return patches(batch, self._recipe.stft) if isinstance(batch, Crops) else batch
