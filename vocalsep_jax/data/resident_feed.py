"""Batches cut from songs on the devices, inside the compiled step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vocalsep_jax.data.crops import Batch, patches
from vocalsep_jax.data.feed import EvalStep, Recipe, TrainStep, Work
from vocalsep_jax.data.prepared import SongStore
from vocalsep_jax.data.resident import WHOLE, Part, ResidentSongs, Spread
from vocalsep_jax.data.sampling import training_plan, validation_batches
from vocalsep_jax.runtime.data_parallel import CompiledStep, DataParallel

_STEPS_PER_DISPATCH = 10
"""On accelerators: enough to hide what sending a step off takes."""


def training_batch(songs: ResidentSongs, index: jax.Array, recipe: Recipe, spread: Spread = WHOLE) -> Batch:
    """The training samples `index`, uint32 `[B]`, of the stream, made on the device."""
    plan = training_plan(recipe.seed, index, songs.table, recipe.crop, recipe.augmentation, jnp)
    crops = songs.cut(plan, recipe.crop, jnp.ones(index.shape, jnp.float32), spread)
    return patches(crops, recipe.stft)


def wrap_training(
    step: TrainStep, recipe: Recipe, parallel: DataParallel, steps_per_dispatch: int, spread: Spread
) -> CompiledStep:
    """Compile a per-device training step on a `Batch` into one that cuts its batches from resident songs.

    It maps `(state, (places, part), about)`, where `places` are those of this process in the global batch,
    uint32 `[B / processes]`, `part` the devices' own, and `about` what all have: table and scales. With
    several steps a dispatch, `(state, (places, part), about, count)`.
    """

    def one(state: Any, own: tuple[Any, Part], about: tuple[Any, Any]) -> tuple[Any, Any]:
        places, part = own
        index = state.step.astype(jnp.uint32) * np.uint32(recipe.batch_size) + places
        return step(state, training_batch(ResidentSongs(*about, part), index, recipe, spread))

    def several(state: Any, own: tuple[Any, Part], about: tuple[Any, Any], count: Any) -> tuple[Any, Any]:
        # A loop whose length is an argument: one compiled program, however many steps are asked for.
        start = (state, jnp.zeros((), jnp.float32))
        return lax.fori_loop(0, count, lambda _, carry: one(carry[0], own, about), start)

    if steps_per_dispatch == 1:
        return parallel.wrap(one, donate=True, shared=1)
    return parallel.wrap(several, donate=True, shared=2)


class ResidentFeed:
    """Songs on the devices, from which the compiled step cuts its own patches: nothing is sent to it.

    One call takes up to `steps_per_dispatch` steps; with 0, one on CPUs, where a step takes much longer
    than sending it off, and several on accelerators.
    """

    def __init__(
        self,
        stores: dict[str, SongStore],
        recipe: Recipe,
        parallel: DataParallel,
        steps_per_dispatch: int = 0,
        parts: int = 1,
    ):
        """Place the songs, in so many parts; the number of devices is a multiple of it."""
        self._recipe, self._parallel = recipe, parallel
        self._steps = steps_per_dispatch or (1 if jax.default_backend() == "cpu" else _STEPS_PER_DISPATCH)
        self._share = recipe.batch_size // jax.process_count()
        self._first = jax.process_index() * self._share
        self._spread = Spread(parts, parallel.devices)
        self._parts, self._about = {}, {}
        for split, store in stores.items():
            part = partial(Part.of, store, recipe.crop, parts=parts)
            self._parts[split] = parallel.place_parts(part, parts)
            self._about[split] = parallel.replicate((store.table, store.scales))
        self._valid_table = stores["valid"].table
        places = (self._first + np.arange(self._share)).astype(np.uint32)
        self._places = parallel.shard(places)
        self._counts: dict[int, Any] = {}

    def wrap_training(self, step: TrainStep) -> CompiledStep:
        """See `Feed`."""
        return wrap_training(step, self._recipe, self._parallel, self._steps, self._spread)

    def training(self, first: int, last: int, until: Callable[[int], int]) -> Iterator[Work]:
        """See `Feed`."""
        step = first
        while step < last:
            steps = min(self._steps, until(step) - step, last - step)
            count = () if self._steps == 1 else (self._count(steps),)
            yield Work(steps, (self._places, self._parts["train"]), (self._about["train"], *count))
            step += steps

    def _count(self, steps: int) -> Any:
        """A number of steps on the devices, sent once."""
        if steps not in self._counts:
            self._counts[steps] = self._parallel.replicate(np.int32(steps))
        return self._counts[steps]

    def wrap_evaluation(self, step: EvalStep) -> CompiledStep:
        """See `Feed`."""
        recipe, spread = self._recipe, self._spread

        def evaluate(variables: Any, own: tuple[Any, Part], about: tuple[Any, Any]) -> Any:
            (plan, weight), part = own
            crops = ResidentSongs(*about, part).cut(plan, recipe.crop, weight, spread)
            return step(variables, patches(crops, recipe.stft))

        return self._parallel.wrap(evaluate, donate=False, shared=1)

    def validation(self) -> Iterator[Work]:
        """See `Feed`."""
        recipe = self._recipe
        plan, steps = validation_batches(
            recipe.valid_patches, self._valid_table, recipe.crop, recipe.augmentation, recipe.batch_size
        )
        for step in range(steps):
            samples = self._parallel.shard(plan(step, self._first, self._share))
            yield Work(1, (samples, self._parts["valid"]), (self._about["valid"],))

    def example(self, split: str) -> Work:
        """See `Feed`."""
        work = self.training(0, 1, lambda step: step + 1) if split == "train" else self.validation()
        return next(work)
