"""How a per-device step is spread over the devices of one or many processes.

The state is one replicated tree, `NamedSharding(mesh, P())`, whichever wrapper runs the step: there
is no leading device axis on it and nothing to unreplicate. Batches are split along their first axis.
"""

from __future__ import annotations

import socket
import zlib
from collections.abc import Callable
from typing import Any, Protocol

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

AXIS = "data"
"""Name of the device axis that collectives in a step run over."""

MODES = ("pmap", "shard_map")


class CompiledStep(Protocol):
    """A step over all devices, compiled when it is first called, or ahead of that."""

    def __call__(self, *arguments: Any) -> Any:
        """Run it."""

    def lower(self, *arguments: Any) -> Any:
        """Lower the step for such arguments, to be compiled; their memory is not donated."""


class DataParallel:
    """Data parallelism over all devices, or over the given ones.

    Attributes:
      mode: `pmap` (the default) or `shard_map`; both give the same numbers.
      devices: how many devices take part, in all processes.
      local: those of them that belong to this process.
    """

    def __init__(self, mode: str = "pmap", devices: list[jax.Device] | None = None):
        """Lay out the devices.

        Raises:
          ValueError: if `mode` is not one of `MODES`.
        """
        if mode not in MODES:
            raise ValueError(f"parallel must be one of {', '.join(MODES)}, not {mode!r}")
        self.mode = mode
        chosen = list(jax.devices() if devices is None else devices)
        self.devices = len(chosen)
        self._chosen = chosen
        self.local = [d for d in chosen if d.process_index == jax.process_index()]
        self._mesh = _data_mesh(chosen)
        self.replicated = NamedSharding(self._mesh, PartitionSpec())
        self._split = NamedSharding(self._mesh, PartitionSpec(AXIS))
        self._split_local = NamedSharding(_data_mesh(self.local), PartitionSpec(AXIS))

    def check_batch_size(self, batch_size: int) -> None:
        """Raise ValueError unless a global batch can be shared equally among the devices."""
        if batch_size % self.devices:
            raise ValueError(
                f"batch_size {batch_size} cannot be split over {self.devices} devices: "
                f"make it a multiple of {self.devices}"
            )

    def memory_per_device(self, host_memory: int) -> int:
        """Bytes of memory of the smallest of this process's devices; 0 if they do not tell.

        CPUs share `host_memory`, this process's part of the host's.
        """
        if self.local[0].platform == "cpu":
            return host_memory // len(self.local)
        stats = [device.memory_stats() or {} for device in self.local]
        return min(int(s.get("bytes_limit", 0)) for s in stats)

    def replicate(self, tree: Any) -> Any:
        """Place a tree (the same on every process) on all devices."""
        if jax.process_count() == 1:
            return jax.device_put(tree, self.replicated)

        def place(x: Any) -> Any:
            host = np.asarray(x)
            return jax.make_array_from_callback(host.shape, self.replicated, lambda index: host[index])

        # With several processes, device_put gathers the values of all of them on each, to compare them: too
        # much for songs.
        return jax.tree.map(place, tree)

    def shard(self, batch: Any) -> Any:
        """Place this process's share of a global batch, `[B / processes, ...]`, on its devices."""
        if self.mode == "pmap":  # wants a leading axis over this process's devices
            devices = len(self.local)
            return jax.tree.map(
                lambda x: jax.device_put(
                    # Not -1: there may be axes of length 0.
                    np.asarray(x).reshape(devices, len(x) // devices, *np.shape(x)[1:]),
                    self._split_local,
                ),
                batch,
            )
        return jax.tree.map(
            lambda x: jax.make_array_from_process_local_data(self._split, np.asarray(x)), batch
        )

    def place_parts(self, part: Callable[[int], Any], parts: int) -> Any:
        """Place arrays that differ from device to device; in a step, each has its own, split like a batch.

        Args:
          part: makes part n, a tree of arrays, on the host; each is made once, and let go before the next.
          parts: how many there are; device n, of all processes' devices, gets part `n % parts`.
        """
        numbers = [self._chosen.index(device) % parts for device in self.local]
        per_process = self.mode == "pmap"  # wants a leading axis over this process's devices
        placed: list[Any] = [None] * len(self.local)
        for number in sorted(set(numbers)):
            tree = part(number)
            if per_process:
                tree = jax.tree.map(lambda x: x[None], tree)
            for n, device in enumerate(self.local):
                if numbers[n] == number:
                    placed[n] = jax.block_until_ready(jax.device_put(tree, device))
            del tree

        def joined(*pieces: jax.Array) -> jax.Array:
            rows, *rest = pieces[0].shape
            count, sharding = (
                (len(pieces), self._split_local) if per_process else (self.devices, self._split)
            )
            return jax.make_array_from_single_device_arrays((count * rows, *rest), sharding, list(pieces))

        return jax.tree.map(joined, *placed)

    def wrap(self, step: Callable[..., Any], *, donate: bool, shared: int = 0) -> CompiledStep:
        """Compile `step(replicated, batch, *shared) -> replicated` over the devices.

        Args:
          step: per device, with collectives over `AXIS`; its results must be equal on all devices.
          donate: reuse the memory of the first argument for the result.
          shared: how many arguments follow the batch; they are replicated, and never donated.
        """
        donated = (0,) if donate else ()
        if self.mode == "shard_map":
            # check_vma=True would sum the gradients of replicated parameters by itself, and the
            # step's own pmean would then leave them too large by the number of devices.
            mapped = jax.shard_map(
                step,
                mesh=self._mesh,
                in_specs=(PartitionSpec(), PartitionSpec(AXIS), *[PartitionSpec()] * shared),
                out_specs=PartitionSpec(),
                check_vma=False,
            )
            return jax.jit(mapped, donate_argnums=donated)
        mapped = jax.pmap(
            step,
            axis_name=AXIS,
            in_axes=(None, 0, *[None] * shared),
            out_axes=None,
            donate_argnums=donated,
            devices=self._chosen,
        )
        if jax.process_count() == 1:
            return mapped

        return _WithGlobalResult(mapped, self._mesh)


class _WithGlobalResult:
    """A step under pmap, of several processes, that returns global arrays.

    pmap returns arrays of this process's devices only; Orbax and the next step want the global ones.
    """

    def __init__(self, mapped: CompiledStep, mesh: jax.sharding.Mesh):
        self._mapped, self._mesh = mapped, mesh

    def __call__(self, *arguments: Any) -> Any:
        result = self._mapped(*arguments)
        return multihost_utils.host_local_array_to_global_array(result, self._mesh, PartitionSpec())

    def lower(self, *arguments: Any) -> Any:
        return self._mapped.lower(*arguments)


def _data_mesh(devices: list[jax.Device]) -> jax.sharding.Mesh:
    return jax.make_mesh((len(devices),), (AXIS,), (AxisType.Auto,), devices=devices)


def to_host(tree: Any) -> Any:
    """A replicated tree as NumPy arrays, from this process's own copy."""
    return jax.tree.map(lambda x: np.asarray(x.addressable_data(0)), tree)


def processes_on_this_host() -> int:
    """How many of the run's processes are on this machine. A collective: every process must call it."""
    if jax.process_count() == 1:
        return 1
    mine = np.uint32(zlib.crc32(socket.gethostname().encode()))
    return int(np.sum(multihost_utils.process_allgather(mine) == mine))


def any_process(flag: bool) -> bool:
    """Whether `flag` is true on any process. A collective: every process must call it."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.array(flag)).any())
