"""Measure how fast the network trains, predicts and separates, and how fast its input is made.

    python tools/benchmark.py train-step --batch-size 8 --against torch
    python tools/benchmark.py all --width 16 --json benchmark.json

What is compared takes turns in one process, round by round: a noisy machine is then noisy for all of it.
Times are medians over rounds, with the fastest and the slowest. The ceilings, a large matrix product in
the same dtype and a large copy, are measured in the same call. `input` is the making of batches from songs
in memory: on the device, by tf.data where TensorFlow is, by Grain where that is, and by a PyTorch
DataLoader. Needs the core; --against torch PyTorch too.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vocalsep_jax.runtime.huge_pages import restart_with_huge_pages

if __name__ == "__main__":
    restart_with_huge_pages()  # as the commands do; PyTorch then has them too

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tools.measuring import Case, ceilings, measure, rows, table
from vocalsep_jax.audio.masks import patch_count, patch_step
from vocalsep_jax.audio.stft import Stft
from vocalsep_jax.data.crops import Batch
from vocalsep_jax.data.feed import Recipe
from vocalsep_jax.data.prepared import MemoryStore, PreparedSong
from vocalsep_jax.data.resident import ResidentSongs
from vocalsep_jax.data.resident_feed import training_batch
from vocalsep_jax.data.sampling import Augmentation
from vocalsep_jax.measures import losses
from vocalsep_jax.models import convolutions
from vocalsep_jax.models.unet import UNet, layer_channels
from vocalsep_jax.runs.folder import package_versions
from vocalsep_jax.runtime import disk
from vocalsep_jax.runtime.console import start_logging
from vocalsep_jax.runtime.cores import available_cores
from vocalsep_jax.runtime.data_parallel import DataParallel
from vocalsep_jax.separation.compiled_filter import CompiledFilter, VoiceProgram, one_program_suits
from vocalsep_jax.separation.streaming import Filter, MaskFilter, channel_groups
from vocalsep_jax.training.step import AXIS, create_state, kept_bytes, make_objective, make_train_step

log = logging.getLogger(__name__)

_SIDE = 256
_STFT = Stft()
_RATE = 44_100
_SONGS, _SONG_SECONDS = 4, 60
_INPUT_BATCHES = 64
"""Batches in a run of `input`: many more than are made ahead while the others have their turn."""


class Layer(NamedTuple):
    """A convolution of the network.

    Attributes:
      name: `down1`, `up1`, ...
      side: of its square input.
      inputs, outputs: channels.
    """

    name: str
    side: int
    inputs: int
    outputs: int

    @property
    def down(self) -> bool:
        """Whether it halves the sides; else it doubles them."""
        return self.name.startswith("down")

    @property
    def operations(self) -> float:
        """Floating point operations for one patch, forward, as the definition has them."""
        positions = (self.side // 2 if self.down else self.side) ** 2
        return 2.0 * 16 * positions * self.inputs * self.outputs


def network_layers(width: int, depth: int) -> list[Layer]:
    """The convolutions of the network for a 256 x 256 patch."""
    down, up = layer_channels(width, depth)
    result, side, inputs = [], _SIDE, 1
    for n, outputs in enumerate(down, start=1):
        result.append(Layer(f"down{n}", side, inputs, outputs))
        side, inputs = side // 2, outputs
    for n, (outputs, skip) in enumerate(zip(up, [*down[-2::-1], 0], strict=True), start=1):
        result.append(Layer(f"up{n}", side, inputs, outputs))
        side, inputs = 2 * side, outputs + skip
    return result


def patch_flops(width: int, depth: int) -> float:
    """Floating point operations of the convolutions for one 256 x 256 patch, forward."""
    return sum(layer.operations for layer in network_layers(width, depth))


def random_batch(size: int) -> Batch:
    """Magnitudes of noise: what they are does not change the speed."""
    rng = np.random.default_rng(0)
    vocals, other = rng.random((2, size, _SIDE, _SIDE), np.float32)
    return Batch(vocals + other, vocals, other, np.ones(size, np.float32))


def jax_train_step(options: argparse.Namespace, form: str) -> Case:
    """Our training step on `options.devices` devices."""
    parallel = DataParallel("pmap", jax.devices()[: options.devices])
    parallel.check_batch_size(options.batch_size)
    model = _network(options, form).clone(axis_name=AXIS)
    optimizer = optax.adamw(1e-5, weight_decay=1e-6)
    state = parallel.replicate(create_state(model, optimizer, 0, (_SIDE, _SIDE)))
    batch = parallel.shard(random_batch(options.batch_size))
    step = parallel.wrap(
        make_train_step(model, optimizer, losses.mse, rematerialise=options.rematerialise), donate=True
    )

    def run() -> None:
        nonlocal state
        state, loss = step(state, batch)
        jax.block_until_ready((state, loss))

    case = Case(_name(form), run, options.batch_size)
    case.compile(step, state, batch)
    # `auto` would count what the forms of all platforms keep.
    known = form if form != "auto" else ("cpu" if jax.default_backend() == "cpu" else "lax")
    objective = make_objective(_network(options, known), losses.mse, rematerialise=options.rematerialise)
    one, two = (kept_bytes(objective, state, random_batch(n)) for n in (1, 2))
    case.kept_bytes = two - one
    return case


def jax_forward(options: argparse.Namespace, form: str) -> Case:
    """Our network's mask of a batch, in evaluation mode, on one device."""
    apply, variables = _jax_network(options, form)
    x = jnp.asarray(random_batch(options.batch_size).mixture)

    def run() -> None:
        jax.block_until_ready(apply(variables, x))

    case = Case(_name(form), run, options.batch_size)
    case.compile(apply, variables, x)
    return case


def _network(options: argparse.Namespace, form: str) -> UNet:
    """Our network, its convolutions in one of `convolutions.FORMS`."""
    return UNet(options.width, options.depth, dtype=jnp.dtype(options.dtype), convolutions=form)


def _name(form: str) -> str:
    return "vocalsep_jax" if form == "auto" else f"vocalsep_jax, {form}"


def _jax_network(options: argparse.Namespace, form: str) -> tuple[Any, Any]:
    """Our network for predicting, compiled when it is first called, and random variables for it."""
    model = _network(options, form)
    key = jax.random.key(0, impl="rbg")  # the quickest to compile for
    variables = jax.device_get(jax.jit(model.init)(key, jnp.zeros((1, _SIDE, _SIDE))))
    if form == "auto":
        model, variables = model.for_prediction(variables, _SIDE, _SIDE, jax.default_backend())
    return jax.jit(model.apply), jax.device_put(variables)


def jax_separate(options: argparse.Namespace, form: str) -> Case:
    """Separation of stereo noise: STFT, masks of overlapping patches, inverse STFT."""
    return _jax_separation(options, form, one_program_suits(jax.default_backend()), _name(form))


def jax_separate_otherwise(options: argparse.Namespace) -> Case:
    """The same the other way: in one program, or, where that is how it is done, with the host's STFT."""
    in_one_program = not one_program_suits(jax.default_backend())
    name = "vocalsep_jax, one program" if in_one_program else "vocalsep_jax, STFT on the host"
    return _jax_separation(options, "auto", in_one_program, name)


def _jax_separation(options: argparse.Namespace, form: str, in_one_program: bool, name: str) -> Case:
    apply, variables = _jax_network(options, form)
    if not in_one_program:
        return _separation(name, _host_filter(lambda x: apply(variables, x), options), options)
    program = VoiceProgram(_STFT, apply, groups=channel_groups(2, 1), **_sizes(options))
    return _separation(name, lambda: CompiledFilter(program, variables, jax.devices()[0]), options)


def _host_filter(predict: Callable[[np.ndarray], Any], options: argparse.Namespace) -> Callable[[], Filter]:
    return lambda: MaskFilter(_STFT, predict, channels=2, **_sizes(options))


def _sizes(options: argparse.Namespace) -> dict[str, Any]:
    return {"patch_frames": _SIDE, "batch_size": options.batch_size, "overlap": options.overlap}


def _separation(name: str, new_filter: Callable[[], Filter], options: argparse.Namespace) -> Case:
    song = np.random.default_rng(0).standard_normal((options.seconds * _RATE, 2)).astype(np.float32) / 4
    step = patch_step(_SIDE, options.overlap)
    patches = 2 * patch_count(_STFT.frames(len(song)), _SIDE, step)

    def run() -> None:
        mask_filter = new_filter()
        mask_filter.push(song)
        mask_filter.finish()

    return Case(name, run, patches)


def noise_songs() -> MemoryStore:
    """Songs of noise, in memory."""
    rng = np.random.default_rng(0)
    songs = []
    for number in range(_SONGS):
        vocals, other = rng.integers(-32_767, 32_767, (2, 2, _SONG_SECONDS * _RATE), np.int16)
        stems = {"vocals": vocals, "accompaniment": other}
        songs.append(PreparedSong(f"{number}", 1 / 32_767, np.zeros(0, np.int64), stems))
    return MemoryStore.of(songs)


def input_cases(options: argparse.Namespace) -> list[Case]:
    """Batches from songs in memory, without augmentation: on the device, by tf.data, and by PyTorch."""
    store, size = noise_songs(), options.batch_size
    cases = [_resident_input(store, Recipe(0, _STFT, _SIDE, size, Augmentation(), valid_patches=1))]
    try:
        from vocalsep_jax.data.pipeline import PatchPipeline
    except ModuleNotFoundError as error:
        log.warning("input by tf.data: left out (no %s)", error.name)
    else:
        for stft_on in ("device", "host"):
            pipeline = PatchPipeline(store, _STFT, _SIDE, size, Augmentation(), stft_on=stft_on)
            batches = pipeline.training(0, 0, 2**31 // size)
            cases.append(Case(f"tf.data, STFT on the {stft_on}", _taking(batches), _INPUT_BATCHES * size))
    if find_spec("grain"):
        from tools import grain_peer

        for processes in (False, True):
            name = f"Grain, {grain_peer.WORKERS} {'processes' if processes else 'threads'}"
            batches = grain_peer.loader(store, _STFT, _SIDE, size, processes=processes)
            cases.append(Case(name, _taking(batches), _INPUT_BATCHES * size))
    if options.against == "torch":
        from tools import torch_peer

        name = f"PyTorch DataLoader, {torch_peer.LOADER_WORKERS} workers"
        batches = torch_peer.loader(store, _STFT, _SIDE, size)
        cases.append(Case(name, _taking(batches), _INPUT_BATCHES * size))
    return cases


def _taking(batches: Iterator[Any]) -> Callable[[], None]:
    def run() -> None:
        for _ in range(_INPUT_BATCHES):
            next(batches)

    return run


def _resident_input(store: MemoryStore, recipe: Recipe) -> Case:
    songs = ResidentSongs.of(store, recipe.crop, jax.device_put)

    @jax.jit
    def make(first: jax.Array, songs: ResidentSongs) -> Batch:
        return training_batch(songs, first + jnp.arange(recipe.batch_size, dtype=jnp.uint32), recipe)

    def run() -> None:
        for step in range(_INPUT_BATCHES):
            jax.block_until_ready(make(np.uint32(step * recipe.batch_size), songs))

    case = Case("vocalsep_jax, on the device", run, _INPUT_BATCHES * recipe.batch_size)
    case.compile(make, np.uint32(0), songs)
    return case


def network_cases(
    ours: Callable[[argparse.Namespace, str], Case],
    peers: Callable[[Any, argparse.Namespace], Case],
    options: argparse.Namespace,
) -> list[Case]:
    """Our network, in other forms too, and PyTorch's, eager and compiled, if asked for."""
    cases = [ours(options, form) for form in ("auto", *options.forms)]
    if options.against == "torch":
        from tools.torch_peer import TorchPeer

        for compiled in (False, True):
            peer = TorchPeer(options.width, options.depth, options.dtype, _torch_device(), compiled)
            cases.append(peers(peer, options))
    return cases


def _torch_device() -> str:
    return "cuda" if jax.default_backend() == "gpu" else "cpu"


def torch_train_step(peer: Any, options: argparse.Namespace) -> Case:
    """The peer's training step."""
    return Case(peer.name, peer.train_step(random_batch(options.batch_size)), options.batch_size)


def torch_forward(peer: Any, options: argparse.Namespace) -> Case:
    """The peer's mask of a batch, in evaluation mode."""
    return Case(peer.name, peer.forward(random_batch(options.batch_size)), options.batch_size)


def torch_separate(peer: Any, options: argparse.Namespace) -> Case:
    """The separation of ours with the peer's network."""
    return _separation(peer.name, _host_filter(peer.predict, options), options)


Comparison = tuple[str, list[Case], float | None]
"""What is compared, its cases, ours first, and the floating point operations for a patch."""


def compare_network(
    what: str,
    passes: int,
    ours: Callable[[argparse.Namespace, str], Case],
    peers: Callable[[Any, argparse.Namespace], Case],
    options: argparse.Namespace,
) -> Iterator[Comparison]:
    """The whole network; `passes` is how often it takes the convolutions' operations."""
    operations = passes * patch_flops(options.width, options.depth)
    yield what, network_cases(ours, peers, options), operations


def compare_separation(options: argparse.Namespace) -> Iterator[Comparison]:
    """Separation as it is done here, the other way if that is asked for, and by peers."""
    ours, *others = network_cases(jax_separate, torch_separate, options)
    both = [jax_separate_otherwise(options)] if options.both_ways else []
    yield "separate", [ours, *both, *others], patch_flops(options.width, options.depth)


def compare_input(options: argparse.Namespace) -> Iterator[Comparison]:
    """The making of batches."""
    yield "input", input_cases(options), None


def compare_layers(options: argparse.Namespace) -> Iterator[Comparison]:
    """Each convolution with its bias, forward, and forward with its gradients."""
    rng, dtype = np.random.default_rng(0), jnp.dtype(options.dtype)
    for layer in network_layers(options.width, options.depth):
        direction = "down" if layer.down else "up"
        after = layer.side // 2 if layer.down else layer.side * 2
        x = rng.standard_normal((options.batch_size, layer.side, layer.side, layer.inputs), np.float32)
        kernel = 0.02 * rng.standard_normal((4, 4, layer.inputs, layer.outputs), np.float32)
        gradient = rng.standard_normal((options.batch_size, after, after, layer.outputs), np.float32)
        arrays = [jnp.asarray(a, dtype) for a in (x, kernel, gradient)]
        calls = {
            _name(form): _layer_calls(
                partial(convolutions.convolve, convolutions.FORMS[form][0 if layer.down else 1]), *arrays
            )
            for form in ("auto", *options.forms)
        }
        if options.against == "torch":
            from tools import torch_peer

            name = f"PyTorch {torch_peer.torch.__version__}"
            calls[name] = torch_peer.layer(direction, x, kernel, gradient, options.dtype, _torch_device())
        for place, (what, passes) in enumerate((("forward", 1), ("forward and backward", 3))):
            cases = [Case(name, both[place], options.batch_size) for name, both in calls.items()]
            yield f"{layer.name} {what}", cases, passes * layer.operations


def _layer_calls(
    form: Callable[..., jax.Array], x: jax.Array, kernel: jax.Array, gradient: jax.Array
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A convolution, forward; and with its gradients by kernel, bias and, if it is not the first, input."""
    bias = jnp.zeros(kernel.shape[-1], kernel.dtype)

    def convolve(kernel: jax.Array, bias: jax.Array, x: jax.Array) -> jax.Array:
        return form(x, kernel) + bias.reshape(1, 1, 1, -1)

    @jax.jit
    def with_gradients(kernel: jax.Array, bias: jax.Array, x: jax.Array, gradient: jax.Array) -> Any:
        if x.shape[-1] == 1:
            y, pull = jax.vjp(lambda k, b: convolve(k, b, x), kernel, bias)
        else:
            y, pull = jax.vjp(convolve, kernel, bias, x)
        return y, pull(gradient)

    forward = jax.jit(convolve)
    return (
        lambda: jax.block_until_ready(forward(kernel, bias, x)),
        lambda: jax.block_until_ready(with_gradients(kernel, bias, x, gradient)),
    )


# A training step takes the convolutions three times: forward, and for the gradients by input and by kernel.
WHAT: dict[str, Callable[[argparse.Namespace], Iterator[Comparison]]] = {
    "train-step": partial(compare_network, "train-step", 3, jax_train_step, torch_train_step),
    "forward": partial(compare_network, "forward", 1, jax_forward, torch_forward),
    "separate": compare_separation,
    "input": compare_input,
    "layers": compare_layers,
}


def benchmark(what: str, options: argparse.Namespace, ceiling: dict[str, float]) -> list[dict[str, Any]]:
    """Measure one of `WHAT`."""
    return [
        row
        for title, cases, operations in WHAT[what](options)
        for row in rows(title, measure(cases, options.steps), operations, ceiling)
    ]


def command() -> argparse.ArgumentParser:
    """The command's arguments, and what they are where nothing is said."""
    parser = argparse.ArgumentParser(
        prog="python tools/benchmark.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=[*WHAT, "all"])
    parser.add_argument("--batch-size", type=int, default=8, help="(%(default)s)")
    parser.add_argument("--width", type=int, default=64, help="(%(default)s)")
    parser.add_argument("--depth", type=int, default=7, help="(%(default)s)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="(%(default)s)")
    parser.add_argument("--rematerialise", action="store_true", help="in our training step")
    parser.add_argument("--devices", type=int, default=1, help="of the training step (%(default)s)")
    parser.add_argument("--steps", type=int, default=5, help="rounds (%(default)s)")
    parser.add_argument("--seconds", type=int, default=30, help="of song to separate (%(default)s)")
    parser.add_argument("--overlap", type=float, default=0.25, help="of its patches (%(default)s)")
    parser.add_argument(
        "--forms",
        nargs="*",
        default=(),
        choices=[form for form in convolutions.FORMS if form != "auto"],
        help="convolutions of ours to measure besides the one that is used",
    )
    parser.add_argument(
        "--both-ways",
        action="store_true",
        help="separate with the STFT on the host and in one program with the network",
    )
    parser.add_argument("--against", choices=("torch",))
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0 done, 1 failed, 2 wrong usage."""
    parser = command()
    options = parser.parse_args(argv)
    start_logging()
    for name in ("batch_size", "width", "devices", "steps", "seconds"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    if options.devices > jax.device_count():
        parser.error(f"--devices {options.devices}: there are {jax.device_count()}")
    machine = {
        "device": jax.devices()[0].device_kind,
        "processor": platform.processor() or platform.machine(),
        "cores": available_cores(),
        "python": platform.python_version(),
        **package_versions(),
    }
    try:
        if options.against == "torch":
            import torch

            machine["torch"] = torch.__version__
        ceiling = ceilings(options.dtype)
        wanted = list(WHAT) if options.what == "all" else [options.what]
        results = [row for what in wanted for row in benchmark(what, options, ceiling)]
    except ModuleNotFoundError as error:
        log.error("error: --against torch needs the convert extra (no %s)", error.name)
        return 1
    except ValueError as error:
        log.error("error: %s", error)
        return 1
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()}
    print(f"{machine}\n{settings}")
    print(
        f"ceilings: matmul {ceiling['matmul_flops'] / 1e9:.4g} GFLOP/s ({options.dtype}), "
        f"copy {ceiling['copy_bytes'] / 1e9:.3g} GB/s"
    )
    print(table(results))
    if options.json:
        content = {"machine": machine, "options": settings, "ceilings": ceiling, "results": results}
        try:
            disk.write_text(options.json, json.dumps(content, indent=2) + "\n")
        except OSError as error:
            log.error("error: %s: cannot be written (%s)", options.json, error.strerror)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
