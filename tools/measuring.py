"""Timing things that are compared: in turns, beside what the machine can do, as a table."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

log = logging.getLogger(__name__)


@dataclass
class Case:
    """Something that is timed.

    Attributes:
      name: who does it.
      run: does it once, and waits until it is done.
      patches: patches it takes in, or makes.
      first: seconds of the first run, with compilation.
      seconds: of each further run.
      compiling: seconds that compiling took, where that was apart from the first run.
      temporary_bytes: memory the program needs beside its inputs and outputs, where that is known.
      moved_bytes: memory it reads and writes in a run, as the compiler counts, where that is known.
      kept_bytes: what a training step's backward pass keeps for each patch.
    """

    name: str
    run: Callable[[], Any]
    patches: int
    first: float = 0.0
    seconds: list[float] = field(default_factory=list)
    compiling: float = 0.0
    temporary_bytes: int | None = None
    moved_bytes: float | None = None
    kept_bytes: int | None = None

    def compile(self, function: Any, *arguments: Any) -> None:
        """Compile what `run` calls, once for it and for what the compiler tells of it."""
        begin = time.perf_counter()
        compiled = function.lower(*arguments).compile()
        self.compiling = time.perf_counter() - begin
        if (memory := compiled.memory_analysis()) is not None:
            self.temporary_bytes = int(memory.temp_size_in_bytes)
        self.moved_bytes = (compiled.cost_analysis() or {}).get("bytes accessed")


def ceilings(dtype: str) -> dict[str, float]:
    """What the default device can do: FLOP/s of a large matrix product, bytes/s of a large copy."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    a = jnp.ones((size, size), jnp.dtype(dtype))
    long = jnp.ones(2**26, jnp.float32)
    product, copy = jax.jit(lambda x: x @ x), jax.jit(lambda x: x + 1)
    return {
        "matmul_flops": 2.0 * size**3 / _fastest(lambda: product(a)),
        "copy_bytes": 2.0 * long.nbytes / _fastest(lambda: copy(long)),
    }


def _fastest(function: Callable[[], Any], rounds: int = 5) -> float:
    jax.block_until_ready(function())
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - begin)
    return min(times)


def measure(cases: Sequence[Case], rounds: int) -> list[Case]:
    """Time the cases in turn, `rounds` times each; those that cannot run are said and left out.

    Each turn is two runs, of which the second is timed.
    """
    able = []
    for case in cases:
        begin = time.perf_counter()
        try:
            case.run()
        except Exception as error:  # a peer that cannot run here (no compiler, no memory) ends nothing
            log.warning("%s: left out (%s)", case.name, (str(error).strip() or repr(error)).splitlines()[0])
            continue
        case.first = case.compiling + time.perf_counter() - begin
        able.append(case)
    for done in range(rounds):
        for case in able:
            # The first run of a turn pays for the memory that the one before gave back to the kernel, up to
            # twice its time, which no loop of steps ever does.
            case.run()
            begin = time.perf_counter()
            case.run()
            case.seconds.append(time.perf_counter() - begin)
        log.info("round %d of %d", done + 1, rounds)
    return able


def rows(
    what: str, cases: Sequence[Case], patch_operations: float | None, ceiling: dict[str, float]
) -> list[dict[str, Any]]:
    """The results of measured cases; `ratio` is how many times as fast as each peer ours is.

    `patch_operations` are the floating point operations for one patch, of the convolutions alone; None
    where there are none.
    """
    result = []
    for case in cases:
        median = float(np.median(case.seconds))
        rate = None if patch_operations is None else case.patches * patch_operations / median
        moved = case.moved_bytes
        result.append(
            {
                "what": what,
                "who": case.name,
                "seconds": median,
                "fastest": min(case.seconds),
                "slowest": max(case.seconds),
                "patches_per_second": case.patches / median,
                "flops_per_second": rate,
                "share_of_matmul": None if rate is None else rate / ceiling["matmul_flops"],
                "share_of_copy": moved / median / ceiling["copy_bytes"] if moved else None,
                "compile_seconds": case.compiling,
                "first_seconds": case.first,
                "temporary_bytes": case.temporary_bytes,
                "kept_bytes_per_patch": case.kept_bytes,
                "ratio": median / float(np.median(cases[0].seconds)),
            }
        )
    return result


def table(results: Sequence[dict[str, Any]]) -> str:
    """The results as Markdown."""
    lines = [
        "| what | who | median s | fastest to slowest | patches/s | GFLOP/s | of matmul | of copy "
        "| first s | temporary MB | kept MB a patch | ours is faster by |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        cells = [
            r["what"],
            r["who"],
            f"{r['seconds']:.4g}",
            f"{r['fastest']:.4g} to {r['slowest']:.4g}",
            f"{r['patches_per_second']:.3g}",
            "" if r["flops_per_second"] is None else f"{r['flops_per_second'] / 1e9:.4g}",
            "" if r["share_of_matmul"] is None else f"{100 * r['share_of_matmul']:.0f} %",
            "" if r["share_of_copy"] is None else f"{100 * r['share_of_copy']:.0f} %",
            f"{r['first_seconds']:.3g}",
            "" if r["temporary_bytes"] is None else f"{r['temporary_bytes'] / 1e6:.0f}",
            "" if r["kept_bytes_per_patch"] is None else f"{r['kept_bytes_per_patch'] / 1e6:.1f}",
            f"{r['ratio']:.2f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
