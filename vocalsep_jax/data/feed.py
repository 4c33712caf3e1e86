"""Where training gets its patches from: songs on the devices, or batches that are made on the host.

A feed turns a step on a `Batch` into a compiled one on its own kind of input, `Work`, and yields that.
"""

from __future__ import annotations

import importlib.util
import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vocalsep_jax.data import prepared, sampling
from vocalsep_jax.data.crops import Crops, patches, read_crops
from vocalsep_jax.data.prepared import MemoryStore, SongStore
from vocalsep_jax.data.resident import ResidentSongs, fits
from vocalsep_jax.data.sampling import Augmentation
from vocalsep_jax.data.songs import Library
from vocalsep_jax.parallel import CompiledStep, DataParallel, any_process, processes_on_this_host
from vocalsep_jax.spectral import Stft
from vocalsep_jax.train_step import Batch

log = logging.getLogger(__name__)

PLACEMENTS = ("host", "resident", "auto")
STFT_ON = ("host", "device")

_STEPS_PER_DISPATCH = 10
"""On accelerators: enough to hide what sending a step off takes."""

_UNKNOWN = 2**62
"""Bytes of memory that a device is taken to have where that is not known."""

_LOOKED_AT = 16
"""Validation patches among which the one for the figure is chosen."""


class Work(NamedTuple):
    """Input of one call of the compiled training step.

    Attributes:
      steps: how many steps the call takes.
      batch: what is split over the devices.
      shared: what all devices have whole, an argument each.
    """

    steps: int
    batch: Any
    shared: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """How samples become batches.

    Attributes:
      seed: of the stream.
      stft, patch_frames: the transform and T.
      batch_size: of the global batch.
      augmentation: of training samples.
      valid_patches: number of the fixed validation patches.
    """

    seed: int
    stft: Stft
    patch_frames: int
    batch_size: int
    augmentation: Augmentation
    valid_patches: int

    @property
    def crop(self) -> int:
        """Samples of a crop."""
        return self.stft.samples(self.patch_frames)


TrainStep = Callable[[Any, Batch], tuple[Any, Any]]
EvalStep = Callable[[Any, Batch], Any]


class Feed(Protocol):
    """Training and validation patches, in the form and the place that suits the machine."""

    def wrap_training(self, step: TrainStep) -> CompiledStep:
        """Compile a per-device training step: `(state, batch, *shared)` of a `Work` to state and loss."""

    def training(self, first: int, last: int, until: Callable[[int], int]) -> Iterator[Work]:
        """Work for steps `first` to `last - 1`; none goes beyond step `until(step)` it begins at."""

    def wrap_evaluation(self, step: EvalStep) -> CompiledStep:
        """Compile a per-device evaluation step: `(variables, batch, *shared)` to its sums."""

    def validation(self) -> Iterator[Work]:
        """The fixed validation patches, the same every time."""

    def example(self, split: str) -> Work:
        """Work of the sizes that `training` or `validation` yields, to compile with."""


class HostFeed:
    """Batches made by tf.data on the host, each sent while the one before it is in use."""

    def __init__(
        self, stores: dict[str, SongStore], recipe: Recipe, parallel: DataParallel, stft_on: str = "host"
    ):
        """Set up; `stft_on` as `PatchPipeline` has it."""
        from vocalsep_jax.data.pipeline import PatchPipeline  # TensorFlow takes seconds to import

        self._recipe, self._parallel = recipe, parallel
        self._train, self._valid = (
            PatchPipeline(
                stores[split],
                recipe.stft,
                recipe.patch_frames,
                recipe.batch_size,
                jax.process_index(),
                jax.process_count(),
                stft_on,
            )
            for split in prepared.SPLITS
        )

    def wrap_training(self, step: TrainStep) -> CompiledStep:
        """See `Feed`."""
        return self._parallel.wrap(lambda state, batch: step(state, self._patches(batch)), donate=True)

    def training(self, first: int, last: int, until: Callable[[int], int]) -> Iterator[Work]:
        """See `Feed`; a step at a time."""
        del until
        batches = self._train.training(self._recipe.seed, self._recipe.augmentation, first, last)
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


class ResidentFeed:
    """Songs on the devices, from which the compiled step cuts its own patches: nothing is sent to it.

    One call takes up to `steps_per_dispatch` steps; with 0, one on CPUs, where a step takes much longer
    than sending it off, and several on accelerators.
    """

    def __init__(
        self,
        stores: dict[str, MemoryStore],
        recipe: Recipe,
        parallel: DataParallel,
        steps_per_dispatch: int = 0,
    ):
        """Place the songs.

        Raises:
          ValueError: if they have more samples than a device can count.
        """
        self._recipe, self._parallel = recipe, parallel
        self._steps = steps_per_dispatch or (1 if jax.default_backend() == "cpu" else _STEPS_PER_DISPATCH)
        self._share = recipe.batch_size // jax.process_count()
        self._first = jax.process_index() * self._share
        self._songs = {
            split: ResidentSongs.of(store, recipe.crop, parallel.replicate)
            for split, store in stores.items()
        }
        self._valid_table = stores["valid"].table
        places = (self._first + np.arange(self._share)).astype(np.uint32)
        self._places = parallel.shard(places)
        self._counts: dict[int, Any] = {}

    def wrap_training(self, step: TrainStep) -> CompiledStep:
        """See `Feed`."""
        recipe = self._recipe

        def one(state: Any, places: Any, songs: ResidentSongs) -> tuple[Any, Any]:
            index = state.step.astype(jnp.uint32) * np.uint32(recipe.batch_size) + places
            plan = sampling.training_plan(
                recipe.seed, index, songs.table, recipe.crop, recipe.augmentation, jnp
            )
            crops = songs.cut(plan, recipe.crop, jnp.ones(places.shape, jnp.float32))
            return step(state, patches(crops, recipe.stft))

        def several(state: Any, places: Any, songs: ResidentSongs, count: Any) -> tuple[Any, Any]:
            # A loop whose length is an argument: one compiled program, however many steps are asked for.
            start = (state, jnp.zeros((), jnp.float32))
            return lax.fori_loop(0, count, lambda _, carry: one(carry[0], places, songs), start)

        if self._steps == 1:
            return self._parallel.wrap(one, donate=True, shared=1)
        return self._parallel.wrap(several, donate=True, shared=2)

    def training(self, first: int, last: int, until: Callable[[int], int]) -> Iterator[Work]:
        """See `Feed`."""
        step = first
        while step < last:
            steps = min(self._steps, until(step) - step, last - step)
            count = () if self._steps == 1 else (self._count(steps),)
            yield Work(steps, self._places, (self._songs["train"], *count))
            step += steps

    def _count(self, steps: int) -> Any:
        """A number of steps on the devices, sent once."""
        if steps not in self._counts:
            self._counts[steps] = self._parallel.replicate(np.int32(steps))
        return self._counts[steps]

    def wrap_evaluation(self, step: EvalStep) -> CompiledStep:
        """See `Feed`."""
        recipe = self._recipe

        def evaluate(variables: Any, samples: Any, songs: ResidentSongs) -> Any:
            plan, weight = samples
            return step(variables, patches(songs.cut(plan, recipe.crop, weight), recipe.stft))

        return self._parallel.wrap(evaluate, donate=False, shared=1)

    def validation(self) -> Iterator[Work]:
        """See `Feed`."""
        recipe = self._recipe
        plan, steps = sampling.validation_batches(
            recipe.valid_patches, self._valid_table, recipe.crop, recipe.batch_size
        )
        for step in range(steps):
            samples = self._parallel.shard(plan(step, self._first, self._share))
            yield Work(1, samples, (self._songs["valid"],))

    def example(self, split: str) -> Work:
        """See `Feed`."""
        work = self.training(0, 1, lambda step: step + 1) if split == "train" else self.validation()
        return next(work)


class OpenedSongs(NamedTuple):
    """The songs of a run, prepared and placed.

    Attributes:
      feed: what training takes its patches from.
      lengths: by split, name and samples of each song: what must be the same to resume a run.
      valid: the validation songs.
    """

    feed: Feed
    lengths: dict[str, list[list[Any]]]
    valid: SongStore


def open_songs(library: Library, config: Any, recipe: Recipe, parallel: DataParallel) -> OpenedSongs:
    """Prepare the songs of a library, and place them as `config.data.placement` says.

    `auto` places them on the devices if they fit there, else on the host; `config.data.stft_on` says where
    the host's batches are transformed. Without TensorFlow there is no song cache and no host feed: the
    songs are read from their files every time.

    Raises:
      ValueError: if the songs cannot be where `data.placement` wants them.
      SongError: if a song cannot be read or the cache cannot be written.
    """
    placement, rate = config.data.placement, config.audio.sample_rate
    has_tensorflow = all(importlib.util.find_spec(x) for x in ("tensorflow", "tensorflow_datasets"))
    stores: dict[str, Any]
    if has_tensorflow:
        from vocalsep_jax.data.tfds_songs import prepare

        stores = dict(prepare(library, rate, config.data.cache))
    else:
        if placement == "host":
            raise ValueError("data.placement host needs TensorFlow: pip install 'vocalsep_jax[train]'")
        log.info("songs: without TensorFlow there is no cache of them; reading their files")
        stores = dict(prepared.load_all(library, rate))

    lengths = {split: store.table.samples.tolist() for split, store in stores.items()}
    samples = sum(map(sum, lengths.values()))
    size = prepared.memory_bytes(samples)
    host_memory = prepared.available_memory() // processes_on_this_host()
    forced = placement == "resident" or not has_tensorflow
    # Devices that do not say are tried only where there is no other way.
    device_memory = parallel.memory_per_device(host_memory) or (_UNKNOWN if forced else 0)
    # Without TensorFlow they are in the host's memory already.
    needed = host_memory if has_tensorflow else host_memory + size
    fit = fits(samples, recipe.crop, device_memory=device_memory, host_memory=needed)
    if any_process(not fit):
        if forced:
            raise ValueError(
                f"data.placement {placement}: {size / 1e9:.3g} GB of songs, but only half of the "
                f"{device_memory / 1e9:.3g} GB of a device's memory is for them (the host has "
                f"{host_memory / 1e9:.3g} GB); use data.placement host, which needs TensorFlow"
            )
        placement = "host"
    elif placement == "auto":
        placement = "resident"
    in_memory = placement == "resident" or size <= host_memory // 2
    if in_memory and has_tensorflow:  # records have to be decompressed each time they are read
        stores = {split: MemoryStore.copy_of(store) for split, store in stores.items()}
    feed: Feed
    if placement == "resident":
        feed = ResidentFeed(stores, recipe, parallel, config.steps_per_dispatch)
        log.info("songs: %.2g GB, on each device", size / 1e9)
    else:
        feed = HostFeed(stores, recipe, parallel, config.data.stft_on)
        where = "memory" if in_memory else "the cache"
        log.info("songs: %.2g GB, read from %s; STFT on the %s", size / 1e9, where, config.data.stft_on)
    named = {s: [list(x) for x in zip(stores[s].names, lengths[s], strict=True)] for s in lengths}
    return OpenedSongs(feed, named, stores["valid"])


def loudest_patch(store: SongStore, recipe: Recipe) -> Batch:
    """Of the first validation patches, that in which the voice is loudest: `[1, F, T]` each, NumPy."""
    count = min(recipe.valid_patches, _LOOKED_AT)
    plan = sampling.validation_plan(recipe.valid_patches, store.table, recipe.crop)
    crops = read_crops(store, sampling.Plan(*(x[:count] for x in plan)), recipe.crop, np.ones(count))
    batch = jax.device_get(jax.jit(lambda crops: patches(crops, recipe.stft))(crops))
    best = int(np.argmax(np.sum(np.square(batch.vocals), axis=(1, 2))))
    return Batch(*(x[best : best + 1] for x in batch))
