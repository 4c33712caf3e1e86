"""Songs that live in device memory: crops are cut, augmented and transformed inside the compiled step.

The stream of samples is that of `sampling`, as it is for songs on the host: same songs, same places, same
changes for the same (seed, i).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vocalsep_jax.data.crops import Crops, gains
from vocalsep_jax.data.prepared import STEMS, MemoryStore, memory_bytes
from vocalsep_jax.data.sampling import SamplePlan, SongTable

Array = jax.Array

_COUNTABLE = 2**31
"""Limit of places in the songs, which are int32."""


class ResidentSongs(NamedTuple):
    """Songs of one split as arrays of a device; places are counted in 32 bits.

    Attributes:
      table: lengths and voiced blocks, for `sampling`.
      first: int32 `[songs]`, a song's first sample.
      scales: float32 `[songs]`.
      stems: by stem, left and right: int16 `[S]` each, all songs one after the other. (One-dimensional: a
        short second axis would be padded many times over in a TPU's memory.)
    """

    table: SongTable
    first: Any
    scales: Any
    stems: dict[str, tuple[Any, Any]]

    @classmethod
    def of(cls, store: MemoryStore, crop: int, place: Callable[[Any], Any]) -> ResidentSongs:
        """Place the songs of a store in memory on devices.

        Args:
          store: the songs of one split.
          crop: samples of a crop.
          place: puts arrays on the devices.

        Raises:
          ValueError: if there are more samples than a device can count.
        """
        samples = int(store.table.samples.sum(dtype=np.int64))
        if samples + crop >= _COUNTABLE:
            raise ValueError(f"data.placement resident: {samples} samples of songs are too many, use host")

        def padded(x: np.ndarray) -> Any:
            # A crop is sliced whole: behind the last song there has to be room for one. No two copies are
            # alive at once, since each is waited for.
            return jax.block_until_ready(place(np.pad(x, (0, crop))))

        stems = {s: tuple(padded(x) for x in store.stems[s]) for s in STEMS}
        table, first, scales = place((store.table, store.first.astype(np.int32), store.scales))
        return cls(table, first, scales, stems)

    def cut(self, plan: SamplePlan, samples: int, weight: Array) -> Crops:
        """The crops of a plan of B samples, zeros where a song has ended.

        Args:
          plan: on the device.
          samples: length S of a crop.
          weight: float32 `[B]`, passed on.
        """

        def read(stem: str, song: Array, start: Array) -> Array:
            place = self.first[song] + start
            there = jnp.arange(samples)[None, :] < (self.table.samples[song] - start)[:, None]
            slices = [
                jax.vmap(lambda at, x=channel: lax.dynamic_slice(x, (at,), (samples,)))(place)
                for channel in self.stems[stem]
            ]
            return jnp.stack([jnp.where(there, x, jnp.int16(0)) for x in slices], axis=1)

        return Crops(
            read("vocals", plan.voice_song, plan.voice_start),
            read("accompaniment", plan.other_song, plan.other_start),
            *gains(plan, self.scales),
            weight,
            plan.voice_bends,
            plan.other_bends,
        )


def fits(samples: int, crop: int, *, device_memory: int, host_memory: int) -> bool:
    """Whether songs of so many samples can be resident.

    They may fill half of a device's memory. On the way there the host holds them once, and a quarter of
    them (a channel of a stem) a second time.
    """
    size = memory_bytes(samples)
    return samples + crop < _COUNTABLE and size <= device_memory // 2 and 5 * size // 4 <= host_memory
