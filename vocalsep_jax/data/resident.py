"""Songs that live in device memory: crops are cut, augmented and transformed inside the compiled step.

The stream of samples is that of `sampling`, as it is for songs on the host: same songs, same places, same
changes for the same (seed, i).

Songs that do not fit one device are spread over several. All songs, one after the other, are cut into parts
of the same length, one for each device of a group; each group has them all. A crop may lie in two parts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vocalsep_jax.data.crops import Crops, gains
from vocalsep_jax.data.prepared import STEMS, SongStore, copy_stretch, memory_bytes
from vocalsep_jax.data.sampling import SamplePlan, SongTable
from vocalsep_jax.runtime.data_parallel import AXIS

Array = jax.Array

_COUNTABLE = 2**31
"""Limit of places in a part, which are int32."""
_ROW, _ROWS = 128, 8
"""A channel is kept in rows of so many samples, a multiple of so many rows: what a TPU keeps and reads as
it is. It would pad a short axis many times over, and copy longer rows to read them as one."""


@dataclass(frozen=True)
class Spread:
    """How songs are spread over devices.

    Attributes:
      parts: into how many they are cut: device n has part `n % parts`.
      devices: how many there are, a multiple of `parts`.
    """

    parts: int = 1
    devices: int = 1

    def gathered(self, x: Array) -> Array:
        """What the devices of a group have, one after the other: `[B, ...]` to `[parts * B, ...]`."""
        if self.parts == 1:
            return x
        return lax.all_gather(x, AXIS, axis_index_groups=self._groups, tiled=True)

    def summed(self, x: Array) -> Array:
        """For each device of a group, the sum of what all found for it: `[parts * B, ...]` to `[B, ...]`.

        Each sends on what others asked for: not an all-reduce, since not every machine sums int16.
        """
        if self.parts == 1:
            return x
        mine = lax.all_to_all(x, AXIS, 0, 0, axis_index_groups=self._groups, tiled=True)
        return jnp.sum(mine.reshape(self.parts, -1, *x.shape[1:]), axis=0, dtype=x.dtype)

    @property
    def _groups(self) -> list[list[int]] | None:
        if self.parts == self.devices:
            return None
        return np.arange(self.devices).reshape(-1, self.parts).tolist()


WHOLE = Spread()
"""Each device has all songs."""


class Part(NamedTuple):
    """What one device has of all songs.

    Attributes:
      first: int32 `[songs]`, where in the part each song begins; before it, or behind, if not in it.
      stems: by stem, left and right: int16 `[rows, _ROW]` each, which read on as `[crop + S + crop + ...]`,
        with zeros at both ends.
    """

    first: Any
    stems: dict[str, tuple[Any, Any]]

    @classmethod
    def of(cls, store: SongStore, crop: int, number: int = 0, parts: int = 1) -> Part:
        """Part `number` of `parts` of the songs of a store, on the host; crops have `crop` samples."""
        samples = store.table.samples.astype(np.int64)
        length = part_samples(int(samples.sum()), parts)
        first = firsts(samples, number, parts)
        rows, row = part_rows(length, crop)
        stems = {stem: np.zeros((2, rows * row), np.int16) for stem in STEMS}
        for song in np.flatnonzero((first < length) & (first + samples > 0)).tolist():
            begin = int(first[song])
            start, end = max(begin, 0), min(begin + int(samples[song]), length)
            into = {s: x[:, crop + start : crop + end] for s, x in stems.items()}
            copy_stretch(store, song, start - begin, into)
        in_rows = {s: x.reshape(2, rows, row) for s, x in stems.items()}
        return cls(first, {s: (x[0], x[1]) for s, x in in_rows.items()})


class ResidentSongs(NamedTuple):
    """Songs of one split, as a device sees them.

    Attributes:
      table: lengths and voiced blocks, for `sampling`.
      scales: float32 `[songs]`.
      part: what this device has of them.
    """

    table: SongTable
    scales: Any
    part: Part

    @classmethod
    def of(cls, store: SongStore, crop: int, place: Callable[[Any], Any]) -> ResidentSongs:
        """All songs of a store on one device, where `place` puts arrays; crops have `crop` samples."""
        return place(cls(store.table, store.scales, Part.of(store, crop)))

    def cut(self, plan: SamplePlan, samples: int, weight: Array, spread: Spread = WHOLE) -> Crops:
        """The crops of a plan of B samples, zeros where a song has ended.

        Args:
          plan: on the device.
          samples: length S of a crop, as it was for the part.
          weight: float32 `[B]`, passed on.
          spread: how the songs are spread; in more parts than one, inside a step over `AXIS`.
        """

        def read(stem: str, song: Array, start: Array) -> Array:
            channels = [channel.reshape(-1) for channel in self.part.stems[stem]]
            # Whatever is not in this part is read from the zeros at its ends.
            place = self.part.first[spread.gathered(song)] + spread.gathered(start) + samples
            place = jnp.clip(place, 0, len(channels[0]) - samples)
            slices = [
                jax.vmap(lambda at, x=channel: lax.dynamic_slice(x, (at,), (samples,)))(place)
                for channel in channels
            ]
            crops = spread.summed(jnp.stack(slices, axis=1))
            there = jnp.arange(samples)[None, :] < (self.table.samples[song] - start)[:, None]
            return jnp.where(there[:, None, :], crops, jnp.int16(0))

        return Crops(
            read("vocals", plan.voice_song, plan.voice_start),
            read("accompaniment", plan.other_song, plan.other_start),
            *gains(plan, self.scales),
            weight,
            plan.voice_bends,
            plan.other_bends,
        )


def firsts(samples: np.ndarray, number: int, parts: int) -> np.ndarray:
    """Where songs of these lengths, int64 `[songs]`, begin in part `number` of `parts`: int32 `[songs]`.

    All that is further away than can be counted is as far as can be; no crop of such a song is in the part.
    """
    length = part_samples(int(samples.sum()), parts)
    first = np.cumsum(samples) - samples - number * length
    return np.clip(first, -_COUNTABLE, length).astype(np.int32)


def part_rows(length: int, crop: int) -> tuple[int, int]:
    """The shape of a channel of a part of so many samples."""
    return _ROWS * -(-(crop + length + crop) // (_ROWS * _ROW)), _ROW


def part_samples(samples: int, parts: int) -> int:
    """The length of each of so many parts of songs of `samples` samples together."""
    return -(-samples // parts)


def fits(
    samples: int, longest: int, crop: int, parts: int, *, device_memory: int, host_memory: int
) -> bool:
    """Whether songs can be resident in so many parts.

    Args:
      samples: of all songs.
      longest: of the longest song.
      crop: of a crop.
      parts: a device has one.
      device_memory: bytes of a device, of which songs may fill half.
      host_memory: bytes of the host, which holds a part on the way.
    """
    part = part_samples(samples, parts)
    size = memory_bytes(part)
    countable = part + longest + 2 * crop < _COUNTABLE
    return countable and size <= device_memory // 2 and size <= host_memory
