"""Where the songs of a run are: on the devices, in the host's memory, or in the cache on its disk."""

from __future__ import annotations

import importlib.util
import logging
from typing import Any, NamedTuple

import jax
import numpy as np

from vocalsep_jax.data import prepared
from vocalsep_jax.data.crops import Batch, patches, read_crops
from vocalsep_jax.data.feed import Feed, Recipe
from vocalsep_jax.data.host_feed import HostFeed
from vocalsep_jax.data.prepared import MemoryStore, SongStore
from vocalsep_jax.data.resident import fits
from vocalsep_jax.data.resident_feed import ResidentFeed
from vocalsep_jax.data.sampling import SamplePlan, validation_plan
from vocalsep_jax.data.songs import Library
from vocalsep_jax.runtime.data_parallel import DataParallel, any_process, processes_on_this_host
from vocalsep_jax.runtime.memory import available_memory

log = logging.getLogger(__name__)

PLACEMENTS = ("host", "resident", "auto")
STFT_ON = ("host", "device")

_UNKNOWN = 2**62
"""Bytes of memory that a device is taken to have where that is not known."""

_LOOKED_AT = 16
"""Number of validation patches from which the one for the figure is chosen."""


class OpenedSongs(NamedTuple):
    """The songs of a run, prepared and placed.

    Attributes:
      feed: what training takes its patches from.
      lengths: by split, name and samples of each song: what must be the same to resume a run.
      valid: the validation songs.
    """

    feed: Feed
    lengths: dict[str, list[tuple[str, int]]]
    valid: SongStore


def has_song_cache() -> bool:
    """Whether what the song cache needs is installed."""
    return all(importlib.util.find_spec(x) for x in ("tensorflow", "tensorflow_datasets"))


def open_songs(
    library: Library,
    recipe: Recipe,
    parallel: DataParallel,
    *,
    sample_rate: int,
    placement: str = "auto",
    stft_on: str = "host",
    cache: str = "",
    steps_per_dispatch: int = 0,
) -> OpenedSongs:
    """Prepare the songs of a library, and place them.

    Without TensorFlow there is no song cache and no host feed: the songs are read from their files each
    time.

    Args:
      library: the songs.
      recipe: how samples of them become batches.
      parallel: the devices.
      sample_rate: Hz.
      placement: one of `PLACEMENTS`; `auto` is on the devices if they fit there, whole or in parts, else on
        the host.
      stft_on: one of `STFT_ON`: where the host's batches are transformed.
      cache: folder for prepared songs; the default one if empty.
      steps_per_dispatch: most steps that one call takes, of resident songs; see `ResidentFeed`.

    Raises:
      ValueError: if the songs cannot be where `placement` wants them.
      SongError: if a song cannot be read or the cache cannot be written.
    """
    cached = has_song_cache()
    if placement == "host" and not cached:
        raise ValueError("data.placement host needs TensorFlow: pip install 'vocalsep_jax[train]'")
    stores: dict[str, Any]
    if cached:
        from vocalsep_jax.data.tfds_songs import prepare

        stores = dict(prepare(library, sample_rate, cache))
    else:
        log.info("songs: without TensorFlow there is no cache of them; reading their files")
        stores = dict(prepared.load_all(library, sample_rate))

    lengths = {split: store.table.samples.tolist() for split, store in stores.items()}
    size = prepared.memory_bytes(sum(map(sum, lengths.values())))
    host_memory = available_memory() // processes_on_this_host()
    forced = placement == "resident" or not cached
    # Devices that do not tell their memory are tried only where there is no other way.
    device_memory = parallel.memory_per_device(host_memory) or (_UNKNOWN if forced else 0)
    parts = 0
    if placement != "host":
        parts = _parts(lengths, recipe.crop, parallel, device_memory=device_memory, host_memory=host_memory)
    if forced and not parts:
        raise ValueError(
            f"data.placement {placement}: {size / 1e9:.3g} GB of songs do not fit, shared by "
            f"{parallel.devices} device(s): half of the {device_memory / 1e9:.3g} GB of a device's memory "
            f"holds a share, of less than 2^31 samples, and the host, which has {host_memory / 1e9:.3g} "
            "GB, one on the way; use data.placement host, which needs TensorFlow"
        )
    feed: Feed
    if parts:
        feed = ResidentFeed(stores, recipe, parallel, steps_per_dispatch, parts)
        where = f"in {parts} parts on the devices" if parts > 1 else "on each device"
        log.info("songs: %.2g GB, %s", size / 1e9, where)
    else:
        in_memory = size <= host_memory // 2
        if in_memory:  # records have to be decompressed each time they are read
            stores = {split: MemoryStore.copy_of(store) for split, store in stores.items()}
        feed = HostFeed(stores, recipe, parallel, stft_on)
        where = "memory" if in_memory else "the cache"
        log.info("songs: %.2g GB, read from %s; STFT on the %s", size / 1e9, where, stft_on)
    named = {s: list(zip(stores[s].names, lengths[s], strict=True)) for s in lengths}
    return OpenedSongs(feed, named, stores["valid"])


def _parts(
    lengths: dict[str, list[int]],
    crop: int,
    parallel: DataParallel,
    *,
    device_memory: int,
    host_memory: int,
) -> int:
    """In how many parts songs fit on the devices: as few as can be, the same on all processes; or 0.

    `lengths` are those of the songs, by split.
    """
    samples = sum(map(sum, lengths.values()))
    longest = max(max(songs, default=0) for songs in lengths.values())
    for parts in (n for n in range(1, parallel.devices + 1) if parallel.devices % n == 0):
        fit = fits(samples, longest, crop, parts, device_memory=device_memory, host_memory=host_memory)
        if not any_process(not fit):
            return parts
    return 0


def loudest_patch(store: SongStore, recipe: Recipe) -> Batch:
    """Of the first validation patches, that in which the voice is loudest: arrays of one patch, NumPy."""
    count = min(recipe.valid_patches, _LOOKED_AT)
    plan = validation_plan(recipe.valid_patches, store.table, recipe.crop, recipe.augmentation)
    crops = read_crops(store, SamplePlan(*(x[:count] for x in plan)), recipe.crop, np.ones(count))
    batch = jax.device_get(jax.jit(lambda crops: patches(crops, recipe.stft))(crops))
    best = int(np.argmax(np.sum(np.square(batch.vocals).reshape(count, -1), axis=1)))
    return Batch(*(x[best : best + 1] for x in batch))
