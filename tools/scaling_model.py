"""What training takes of each chip of a TPU pod slice, of 8 to 256 chips, from the compiled step.

    pip install libtpu                     # the TPU compiler; it needs no TPU
    python tools/scaling_model.py          # the tables of docs/scaling.md; --help has its flags

Compiles the training step of a config, cutting its patches from resident songs as it does on a pod, for
topologies that are not there, and reads off the compiled program: operations, bytes of memory moved,
memory that it needs, and each collective with its bytes. Of that and the published speeds of the chips it
says what a step takes at least, and what limits it. A model: nothing is run.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

# Of the TPU compiler: no TPU is looked for.
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import NamedSharding, PartitionSpec

from vocalsep_jax.config import parse
from vocalsep_jax.data.feed import TrainStep
from vocalsep_jax.data.prepared import STEMS
from vocalsep_jax.data.resident import Part, Spread, part_rows, part_samples
from vocalsep_jax.data.resident_feed import wrap_training
from vocalsep_jax.data.sampling import SongTable
from vocalsep_jax.runtime.data_parallel import AXIS, CompiledStep, DataParallel
from vocalsep_jax.training.compiled import training_step
from vocalsep_jax.training.plan import Plan
from vocalsep_jax.training.step import create_state


@dataclass(frozen=True)
class Kind:
    """A kind of TPU, by what its maker publishes of each chip.

    Attributes:
      shapes: topologies by number of chips.
      flops: bfloat16 operations a second.
      memory: bytes.
      bandwidth: bytes a second of its memory.
      links: bytes a second, to and from all its neighbours together.
    """

    shapes: dict[int, str]
    flops: float
    memory: float
    bandwidth: float
    links: float


KINDS = {
    "v5e": Kind({8: "2x4", 64: "8x8", 256: "16x16"}, 197e12, 16e9, 819e9, 200e9),
    "v5p": Kind({8: "2x2x2", 64: "4x4x4", 256: "4x8x8"}, 459e12, 95e9, 2765e9, 600e9),
    "v6e": Kind({8: "2x4", 64: "8x8", 256: "16x16"}, 918e12, 32e9, 1640e9, 448e9),
}

_SAMPLES = 60 * 44_100
"""Of the one song that programs are compiled for."""


@dataclass(frozen=True)
class Compiled:
    """What one step takes of each chip, as the compiled program has it.

    Attributes:
      patches: of a chip.
      flops: operations.
      moved: bytes read and written in its memory.
      memory: bytes needed: state, activations, program; without the songs, which take 21 MB a minute.
      collectives: the bytes of each collective on `[chips]`, by its name.
      parts: that songs are spread in: chips of one group exchange crops, all chips reduce.
    """

    patches: int
    flops: float
    moved: float
    memory: float
    collectives: dict[str, list[int]]
    parts: int = 1

    def seconds(self, kind: Kind, chips: int) -> dict[str, float]:
        """What a step takes at least, by what may limit it.

        An all-reduce on a ring sends and receives all but a share of its bytes twice (Patarasu & Yuan 2009,
        "Bandwidth optimal all-reduce algorithms"); what a group exchanges goes once.
        """
        sizes = {name: sum(sizes) for name, sizes in self.collectives.items()}
        sent = 2 * (chips - 1) / chips * sizes.pop("all-reduce", 0)
        sent += (self.parts - 1) / self.parts * sum(sizes.values())
        return {
            "operations": self.flops / kind.flops,
            "memory": self.moved / kind.bandwidth,
            "links": sent / kind.links,
        }


class _Songs:
    """Stands for a feed of resident songs, of which nothing but the step is asked."""

    def __init__(self, plan: Plan, parallel: DataParallel, spread: Spread):
        self._plan, self._parallel, self._spread = plan, parallel, spread

    def wrap_training(self, step: TrainStep) -> CompiledStep:
        return wrap_training(step, self._plan.recipe, self._parallel, 10, self._spread)


def _abstract_song(crop: int, parts: int) -> tuple[Part, tuple[SongTable, Any]]:
    """The shapes of one song: a device's part, and what all devices have."""

    def shape(n: int, dtype: Any = jnp.int32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((n,), dtype)

    table = SongTable(shape(1), shape(240), shape(1), shape(1), shape(1))
    stem = jax.ShapeDtypeStruct(part_rows(part_samples(_SAMPLES, parts), crop), jnp.int16)
    return Part(shape(1), dict.fromkeys(STEMS, (stem, stem))), (table, shape(1, jnp.float32))


def compile_step(config: Any, devices: Sequence[jax.Device], parts: int = 1) -> Compiled:
    """Compile the step of a config for devices that need not be there; songs are in so many parts."""
    parallel = DataParallel("shard_map", list(devices))
    parallel.check_batch_size(config.batch_size)
    plan = Plan.of(config)
    step = training_step(config, plan.phases[0], _Songs(plan, parallel, Spread(parts, len(devices))))  # type: ignore[arg-type]
    state = jax.eval_shape(
        partial(create_state, config.network(), step.optimizer, config.seed, config.network_input)
    )
    split = NamedSharding(parallel.replicated.mesh, PartitionSpec(AXIS))
    on_all = partial(
        jax.tree.map, lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=parallel.replicated)
    )
    on_each = partial(
        jax.tree.map,
        lambda x: jax.ShapeDtypeStruct((len(devices) * len(x), *x.shape[1:]), x.dtype, sharding=split),
    )
    places = jax.ShapeDtypeStruct((config.batch_size // len(devices),), jnp.uint32)
    part, about = _abstract_song(plan.recipe.crop, parts)
    count = jax.ShapeDtypeStruct((), jnp.int32)
    program = step.run.lower(on_all(state), on_each((places, part)), on_all(about), on_all(count)).compile()
    text, memory = program.as_text(), program.memory_analysis()
    needed = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return Compiled(
        config.batch_size // len(devices),
        program.cost_analysis()["flops"],
        moved(text),
        needed + memory.temp_size_in_bytes + memory.generated_code_size_in_bytes,
        collectives(text),
        parts,
    )


_COLLECTIVE = re.compile(
    r"= (?P<type>.+?) "
    r"(?P<name>all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
)
_ARRAY = re.compile(r"\b(?:pred|(?:bf|f|s|u)(\d+))\[([\d,]*)\](\{[^{}]*\})?")
"""An array's type: bits of a number, axes, and layout; `S(1)` in it says that it is kept on the chip."""

_INSTRUCTION = re.compile(
    r"^\s+(?:ROOT )?%(?P<name>[\w.-]+) = (?P<type>.+?) (?P<what>[a-z][a-z-]*)\((?P<operands>.*)$",
    re.MULTILINE,
)
_MOVE_NOTHING = {"bitcast", "constant", "get-tuple-element", "parameter", "tuple", "while", "conditional"}


def collectives(program: str) -> dict[str, list[int]]:
    """The bytes that each collective of a compiled program gives, by its name; the largest first."""
    found: dict[str, list[int]] = {}
    for match in _COLLECTIVE.finditer(program):
        found.setdefault(match["name"], []).append(sum(_sizes(match["type"])))
    return {name: sorted(sizes, reverse=True) for name, sizes in found.items()}


def moved(program: str) -> int:
    """Bytes that the largest computation of a compiled program, one step, reads and writes in memory.

    What its instructions take and give; but what the compiler keeps on the chip is not counted, and of an
    array that is brought there slice by slice, each slice is. (The compiler's own count has all of both.)
    """
    step = max(re.split(r"\n\n", program), key=lambda computation: computation.count(" fusion("))
    sizes: dict[str, int] = {}
    total = 0
    for match in _INSTRUCTION.finditer(step):
        what, arrays = match["what"], _sizes(match["type"])
        sizes[match["name"]] = sum(_sizes(match["type"], on_chip=False))
        if what in _MOVE_NOTHING or what.endswith("-done"):
            continue
        if what == "slice-start":
            total += arrays[1]
        elif what == "copy-start":
            total += arrays[0]
        else:
            taken = re.findall(r"%([\w.-]+)", match["operands"].split("), ")[0])
            total += sizes[match["name"]] + sum(sizes.get(name, 0) for name in taken)
    return total


def _sizes(types: str, *, on_chip: bool = True) -> list[int]:
    """The bytes of each array in a type; without those on the chip, if so asked."""
    return [
        int(bits or 8) // 8 * math.prod(map(int, filter(None, axes.split(","))))
        for bits, axes, layout in _ARRAY.findall(re.sub(r"/\*.*?\*/", "", types))
        if on_chip or "S(1)" not in layout
    ]


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="configs/tpu_pod.py", help="default: %(default)s")
    parser.add_argument("--batch-size", type=int, help="of all chips (default: the config's)")
    parser.add_argument("--kind", choices=KINDS, default="v5e", help="to compile for (default: v5e)")
    parser.add_argument("--chips", type=int, nargs="+", default=[8, 64, 256], help="default: 8 64 256")
    parser.add_argument("--parts", type=int, default=1, help="that songs are spread in (default: 1)")
    parser.add_argument(
        "--json", type=Path, help="add the numbers to this file; those in it are not compiled"
    )
    options = parser.parse_args()
    if options.parts < 1 or any(chips % options.parts for chips in options.chips):
        parser.error("--parts must divide the number of chips")

    spec = importlib.util.spec_from_file_location("config", options.config)
    if spec is None or spec.loader is None:
        sys.exit(f"error: {options.config}: not a config file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    fields = module.get_config()
    if options.batch_size:
        fields.batch_size = options.batch_size
    config = parse(fields)

    done = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    for chips in options.chips:
        key = f"{options.kind} {chips} {config.batch_size}"
        if options.parts > 1:
            key += f" in {options.parts} parts"
        if key not in done:
            topology = f"{options.kind}:{KINDS[options.kind].shapes[chips]}"
            try:
                devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
            except Exception as error:  # of the TPU library: a plain RuntimeError
                reason = str(error).splitlines()[0]
                sys.exit(f"error: the TPU compiler cannot be had (pip install libtpu): {reason}")
            begin = time.monotonic()
            done[key] = asdict(compile_step(config, devices, options.parts))
            print(f"{key}: compiled in {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
            if options.json:
                options.json.write_text(json.dumps(done, indent=1) + "\n")
        print(_describe(Compiled(**done[key]), options.kind, chips), flush=True)
    return 0


def _describe(step: Compiled, kind: str, chips: int) -> str:
    """Lines of a table: what the program takes of each chip, and how long that is on each kind."""
    large = {name: [x for x in sizes if x >= 1e6] for name, sizes in step.collectives.items()}
    counts = ", ".join(
        f"{len(sizes)} {name} ({len(large[name])} of them of {sum(large[name]) / 1e6:.0f} MB together)"
        for name, sizes in step.collectives.items()
    )
    lines = [
        f"{chips} chips ({kind}), {step.patches} patches each: {step.flops / 1e12:.3f} TFLOP, "
        f"{step.moved / 1e9:.2f} GB moved, {step.memory / 1e9:.2f} GB of memory, {counts}"
    ]
    for name, chip in KINDS.items():
        seconds = step.seconds(chip, chips)
        limit = max(seconds, key=lambda x: seconds[x])
        rate = step.patches * chips / max(seconds.values())
        parts = " | ".join(f"{1e3 * x:.2f}" for x in seconds.values())
        lines.append(f"| {name} | {chips} | {step.patches} | {parts} | {limit} | {rate:,.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
