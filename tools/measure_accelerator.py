"""Measure everything docs/performance.md tells of an accelerator, in one bounded run.

    scripts/measure_accelerator.sh OUT
    python tools/measure_accelerator.py OUT --small        # in seconds, to see that it works

Each part is a process of its own with a time limit: one that fails, hangs or runs out of memory costs the
others nothing, and what it had measured until then is kept. Leaves OUT/table.md, OUT/results.json and a
log of each part. All limits together are under nine minutes. Needs the core; PyTorch is compared where it
is. The default device is measured, whatever it is.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.processes import end_group
from vocalsep_jax.runtime import disk
from vocalsep_jax.runtime.console import start_logging

# The process that starts the parts must not hold the device: jax is touched by the parts alone.

log = logging.getLogger(__name__)

_TRACED_CALLS = 10
_OPERATIONS = 15
"""Of a trace, those that take the most time."""


class Part(NamedTuple):
    """A part of the measurement.

    Attributes:
      seconds: its time limit.
      what: for the reader.
      measure: of the sizes, gives results one after the other; see `Result`.
    """

    seconds: float
    what: str
    measure: Callable[[Sizes], Iterator[Result]]


Result = dict[str, Any]
"""`rows` as `measuring.rows` has them, or `facts`, names and numbers; and `title`; or `left_out`, why."""


class Sizes(NamedTuple):
    """What is measured.

    Attributes:
      width, depth: of the network.
      steps: `(batch, dtype, rematerialise)` of training steps, the most telling first.
      rounds: turns of each comparison.
      layer_batch: patches for the layers and the forward pass.
      songs: seconds of song to separate.
      input_batch: patches of a batch that is made.
      training_steps: of the training from end to end.
    """

    width: int
    depth: int
    steps: tuple[tuple[int, str, bool], ...]
    rounds: int
    layer_batch: int
    songs: tuple[int, ...]
    input_batch: int
    training_steps: int


FULL = Sizes(
    width=64,
    depth=7,
    steps=(
        (64, "bfloat16", False),
        (256, "bfloat16", False),
        (64, "float32", False),
        (256, "float32", False),
        (1024, "bfloat16", True),
        (1024, "bfloat16", False),
        (8, "bfloat16", False),
        (8, "float32", False),
        (1024, "float32", True),
        (256, "bfloat16", True),
    ),
    rounds=5,
    layer_batch=64,
    songs=(240, 3600),
    input_batch=256,
    training_steps=300,
)

SMALL = Sizes(
    width=1,
    depth=4,
    steps=((2, "float32", False), (2, "bfloat16", True)),
    rounds=1,
    layer_batch=2,
    songs=(2,),
    input_batch=2,
    training_steps=20,
)


def _options(sizes: Sizes, **changes: Any) -> argparse.Namespace:
    """Options as `benchmark.py` has them."""
    from tools import benchmark

    options = {
        "batch_size": sizes.layer_batch,
        "width": sizes.width,
        "depth": sizes.depth,
        "dtype": "bfloat16",
        "steps": sizes.rounds,
        "against": "torch" if find_spec("torch") else None,
    }
    return argparse.Namespace(**vars(benchmark.command().parse_args(["all"])) | options | changes)


def _compared(what: str, title: str, options: argparse.Namespace) -> Iterator[Result]:
    """Results of one of `benchmark.WHAT`, or why there are none."""
    import jax

    from tools import benchmark
    from tools.measuring import measure, rows

    try:
        for name, cases, operations in benchmark.WHAT[what](options):
            measured = measure(cases, options.steps)
            whole = title if name == what else f"{title} {name}"
            if measured[:1] != cases[:1]:
                yield {"title": whole, "left_out": "ours cannot run here: the log tells why"}
                continue
            yield {
                "title": whole,
                "rows": rows(whole, measured, operations, _ceilings(options.dtype)),
                "peak_bytes": (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use"),
            }
    except Exception as error:  # no memory, no kernel: the other sizes are to be measured all the same
        log.warning("%s", title, exc_info=True)
        yield {"title": title, "left_out": (str(error).strip() or repr(error)).splitlines()[0][:300]}


@functools.cache
def _ceilings(dtype: str) -> dict[str, float]:
    from tools.measuring import ceilings

    return ceilings(dtype)


def measure_machine(sizes: Sizes) -> Iterator[Result]:
    """What the device is, and its ceilings."""
    import jax

    from vocalsep_jax.runs.folder import package_versions

    device = jax.devices()[0]
    facts = {"device": device.device_kind, "platform": device.platform, "devices": jax.device_count()}
    yield {"title": "machine", "facts": facts | package_versions()}
    for dtype in ("float32", "bfloat16"):
        found = _ceilings(dtype)
        facts = {
            "matrix product, TFLOP/s": round(found["matmul_flops"] / 1e12, 3),
            "copy, GB/s": round(found["copy_bytes"] / 1e9, 1),
        }
        yield {"title": f"ceilings, {dtype}", "facts": facts}


def measure_steps(sizes: Sizes) -> Iterator[Result]:
    """Training steps at several batches, beside PyTorch's."""
    for batch, dtype, rematerialise in sizes.steps:
        title = f"training step, batch {batch}, {dtype}{', rematerialised' if rematerialise else ''}"
        options = _options(sizes, batch_size=batch, dtype=dtype, rematerialise=rematerialise)
        if rematerialise:  # only memory and the own time are of interest: PyTorch's are as without
            options.against = None
        yield from _compared("train-step", title, options)


def measure_forward(sizes: Sizes) -> Iterator[Result]:
    """The mask of a batch."""
    for dtype in ("bfloat16", "float32"):
        yield from _compared("forward", f"forward, {dtype}", _options(sizes, dtype=dtype))


def measure_layers(sizes: Sizes) -> Iterator[Result]:
    """Each convolution in the forms it can have."""
    yield from _compared("layers", "layer", _options(sizes, forms=("matmul",)))


def measure_input(sizes: Sizes) -> Iterator[Result]:
    """Batches made of songs in memory."""
    yield from _compared("input", "input", _options(sizes, batch_size=sizes.input_batch))


def measure_separation(sizes: Sizes) -> Iterator[Result]:
    """Songs of several lengths, in and out by the host."""
    for seconds in sizes.songs:
        options = _options(sizes, seconds=seconds, both_ways=True)
        if seconds > 600:  # the ratios are known from the shorter one
            options.against, options.both_ways, options.steps = None, False, 1
        yield from _compared("separate", f"separation of {seconds} s of stereo", options)


def measure_training(sizes: Sizes) -> Iterator[Result]:
    """`configs/base.py` from start to end on generated songs, with a trace of some steps."""
    from vocalsep_jax.config import Config, parse, to_fields
    from vocalsep_jax.runs.history import read_history
    from vocalsep_jax.training.loop import train_and_evaluate

    fields = to_fields(Config())  # its defaults are base.py
    fields["name"] = "base"
    fields["model"] |= {"width": sizes.width, "depth": sizes.depth}
    fields["data"]["builtin"] |= {"train_songs": 4, "valid_songs": 1, "seconds": 15.0}
    fields["data"]["placement"] = "resident"
    fields |= {"epochs": 1, "patches_per_epoch": sizes.training_steps * fields["batch_size"]}
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        begin = time.perf_counter()
        train_and_evaluate(parse(fields), run, profile_calls=_TRACED_CALLS)
        seconds = time.perf_counter() - begin
        lines = [line for line in read_history(run) if line["kind"] == "train"]
        facts = {
            "steps": sizes.training_steps,
            "seconds from start to end": round(seconds, 1),
            "patches/s at the end": round(lines[-1]["patches_per_second"], 1),
            "waiting for data": lines[-1].get("waiting_for_data"),
        }
        yield {"title": "training of base.py", "facts": facts}
        yield {"title": "operations of a traced step", "facts": trace_summary(run / "profile")}


def trace_summary(folder: Path) -> dict[str, str]:
    """Of a trace that JAX' profiler wrote, the operations that took the most time, and their shares.

    Raises:
      FileNotFoundError: if there is no trace.
    """
    traces = sorted(folder.rglob("*.trace.json.gz"))
    if not traces:
        raise FileNotFoundError(f"{folder}: no trace")
    with gzip.open(traces[-1]) as file:
        events = json.load(file)["traceEvents"]
    processes, threads = {}, {}
    for event in events:
        if event.get("ph") == "M" and event["name"] == "process_name":
            processes[event["pid"]] = event["args"]["name"]
        elif event.get("ph") == "M" and event["name"] == "thread_name":
            threads[event["pid"], event["tid"]] = event["args"]["name"]
    # Of a device's lines others hold steps and modules, which contain the operations. A CPU is no device in
    # a trace: its operations are on XLA's threads.
    on_devices = {place for place in threads if processes.get(place[0], "").startswith("/device:")}
    lines = {place for place in on_devices if threads[place] == "XLA Ops"}
    lines = lines or {place for place in on_devices if "Stream" in threads[place]}
    lines = lines or {place for place, name in threads.items() if name.startswith("tf_XLA")}
    spent: Counter[str] = Counter()
    for event in events:
        if event.get("ph") == "X" and (event["pid"], event.get("tid")) in lines:
            spent[event["name"]] += event.get("dur", 0)
    total = sum(spent.values()) or 1
    return {name: f"{100 * time / total:.1f} %" for name, time in spent.most_common(_OPERATIONS)}


PARTS: dict[str, Part] = {
    "machine": Part(30, "the machine and its ceilings", measure_machine),
    "steps": Part(190, "training steps", measure_steps),
    "training": Part(70, "300 steps of base.py from start to end", measure_training),
    "separation": Part(80, "separation", measure_separation),
    "layers": Part(80, "the forms of each layer", measure_layers),
    "forward": Part(40, "forward passes", measure_forward),
    "input": Part(40, "making batches on the device", measure_input),
}


def run_part(name: str, sizes: Sizes, file: Path) -> None:
    """Measure a part in this process; `file` has what is measured so far, at any time."""
    results: list[Result] = []
    for result in PARTS[name].measure(sizes):
        results.append(result)
        disk.write_text(file, json.dumps(results, indent=1) + "\n")


def start_part(name: str, out: Path, *, small: bool, seconds: float) -> str:
    """Measure a part in a process of its own; gives how it ended."""
    command = [sys.executable, __file__, str(out), "--part", name, *(["--small"] if small else [])]
    # JAX would take three quarters of the memory at once, and PyTorch shares the device with it.
    variables = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    with (out / f"{name}.log").open("w") as written:
        process = subprocess.Popen(
            command, stdout=written, stderr=subprocess.STDOUT, start_new_session=True, env=variables
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return f"ended after {seconds:g} s"
        finally:  # however it ends, nothing of it may hold the device
            end_group(process)
    return "done" if code == 0 else f"failed with exit code {code}: {name}.log"


def report(ends: dict[str, str], results: dict[str, list[Result]]) -> str:
    """All results as Markdown."""
    from tools.measuring import table

    lines = []
    for name, end in ends.items():
        lines += [f"## {PARTS[name].what} ({end})", ""]
        measured = [row for result in results[name] for row in result.get("rows", ())]
        if measured:
            lines += [table(measured), ""]
        for result in results[name]:
            if "left_out" in result:
                lines += [f"{result['title']}: left out ({result['left_out']})", ""]
            if facts := result.get("facts"):
                lines += [f"{result['title']}:", ""]
                lines += [f"* {key}: {value}" for key, value in facts.items()] + [""]
            if peak := result.get("peak_bytes"):
                lines += [f"{result['title']}: {peak / 2**30:.2f} GiB at most on the device so far", ""]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit code: 0 all was measured, 1 some was not, 2 wrong usage.",
    )
    parser.add_argument(
        "out", type=Path, nargs="?", default="runs/accelerator", metavar="OUT", help="(%(default)s)"
    )
    parser.add_argument("--small", action="store_true", help="small sizes, to see that it works")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="these parts")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    start_logging()
    if options.part:
        run_part(options.part, SMALL if options.small else FULL, options.out / f"{options.part}.json")
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options.out.mkdir(parents=True, exist_ok=True)
    ends: dict[str, str] = {}
    results: dict[str, list[Result]] = {}
    for name in options.only:
        file = options.out / f"{name}.json"
        file.unlink(missing_ok=True)  # of an earlier run
        ends[name] = start_part(name, options.out, small=options.small, seconds=PARTS[name].seconds)
        results[name] = json.loads(file.read_text()) if file.exists() else []
        log.info("%s: %s", PARTS[name].what, ends[name])
        disk.write_text(options.out / "results.json", json.dumps({"ends": ends, "results": results}) + "\n")
        disk.write_text(options.out / "table.md", report(ends, results))
    print(options.out / "table.md")
    left_out = any("left_out" in result for part in results.values() for result in part)
    return 0 if set(ends.values()) == {"done"} and not left_out else 1


if __name__ == "__main__":
    sys.exit(main())
