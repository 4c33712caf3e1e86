"""The audio U-Net of the co-separation network as PyTorch keeps it, and as Flax does.

"Co-Separating Sounds of Visual Objects" (Gao & Grauman, ICCV 2019) publishes its weights as a PyTorch state
dict. This module says which of its keys becomes which of our parameters, in both directions. `proof` shows
that the network stays the same; `torch_files` reads and writes PyTorch's files, and alone needs PyTorch.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from vocalsep_jax.models.unet import is_encoder, layer_channels
from vocalsep_jax.runs.checkpoints import named_arrays

LICENCE = "CC BY 4.0"
CITATION = (
    "Ruohan Gao and Kristen Grauman. Co-Separating Sounds of Visual Objects. "
    "IEEE/CVF International Conference on Computer Vision (ICCV), 2019."
)

_ENCODER = "audionet_convlayer"
_DECODERS = ("audionet_upconvlayer", "upconvlayer")
"""What the keys of a decoder begin with: of the published one, and of ours as `to_torch` writes it."""

_MOST_LISTED = 10
"""Keys of a kind that a message names."""

_COUNTER = "1.num_batches_tracked"
_AXES = {"down": (2, 3, 1, 0), "up": (2, 3, 0, 1)}
"""From PyTorch's kernel layouts, (out, in, H, W) down and (in, out, H, W) up, to (H, W, in, out)."""


class ConversionError(Exception):
    """Weights cannot be converted; the message says why, in one line."""


@contextlib.contextmanager
def about(path: Path) -> Iterator[None]:
    """Put the file in front of the message of a ConversionError."""
    try:
        yield
    except ConversionError as error:
        raise ConversionError(f"{path}: {error}") from error


@dataclass(frozen=True)
class TorchNetwork:
    """Which network a state dict holds.

    Attributes:
      width: channels of its first layer.
      depth: number of down layers.
      decoder: what its decoder's keys begin with; empty if it has none.
      visual: channels of the visual feature that its first up layer takes before those of the audio.
    """

    width: int
    depth: int
    decoder: str = ""
    visual: int = 0


@dataclass(frozen=True)
class Entry:
    """One array of a state dict and what it becomes.

    Attributes:
      source: its key.
      shape: its shape there.
      collection, module, name: where it goes: `params` or `batch_stats`, `down1`, `kernel`.
      axes: the transposition on the way; None for a vector.
      skip: input channels at the front that are left out: those of the visual feature.
    """

    source: str
    shape: tuple[int, ...]
    collection: str
    module: str
    name: str
    axes: tuple[int, ...] | None = None
    skip: int = 0

    @property
    def target(self) -> str:
        """Its name with us, `params/down1/kernel`."""
        return f"{self.collection}/{self.module}/{self.name}"

    def to_flax(self, array: np.ndarray) -> np.ndarray:
        """The array as Flax has it: a copy."""
        array = array[self.skip :] if self.axes else array
        return np.array(array.transpose(self.axes), np.float32, order="C")

    def to_torch(self, array: np.ndarray) -> np.ndarray:
        """The array as PyTorch has it, without the channels left out: a copy."""
        back = tuple(np.argsort(self.axes)) if self.axes else None
        return np.array(array.transpose(back), np.float32, order="C")


def entries(network: TorchNetwork) -> list[Entry]:
    """Every array of a network that has a place in ours, in the order of its layers.

    The decoder's arrays are left out where `TorchNetwork.decoder` is empty.
    """
    down, up = layer_channels(network.width, network.depth)
    result = []
    for n, (inputs, outputs) in enumerate(zip([1, *down], down, strict=False), start=1):
        kernel = (outputs, inputs, 4, 4)
        result += _block(f"{_ENCODER}{n}", "down", n, kernel, outputs, norm=True)
    if network.decoder:
        skips = down[-2::-1]
        inputs = network.visual + down[-1]
        for n, outputs in enumerate(up, start=1):
            skip = network.visual if n == 1 else 0
            key, kernel = f"{network.decoder}{n}", (inputs, outputs, 4, 4)
            result += _block(key, "up", n, kernel, outputs, norm=n < network.depth, skip=skip)
            inputs = outputs + skips[n - 1] if n <= len(skips) else 0
    return result


def _block(
    key: str, direction: str, n: int, kernel: tuple[int, ...], outputs: int, *, norm: bool, skip: int = 0
) -> list[Entry]:
    conv, vector = f"{direction}{n}", (outputs,)
    result = [
        Entry(f"{key}.0.weight", kernel, "params", conv, "kernel", _AXES[direction], skip),
        Entry(f"{key}.0.bias", vector, "params", conv, "bias"),
    ]
    if norm:
        result += [
            Entry(f"{key}.1.weight", vector, "params", f"{conv}_norm", "scale"),
            Entry(f"{key}.1.bias", vector, "params", f"{conv}_norm", "bias"),
            Entry(f"{key}.1.running_mean", vector, "batch_stats", f"{conv}_norm", "mean"),
            Entry(f"{key}.1.running_var", vector, "batch_stats", f"{conv}_norm", "var"),
        ]
    return result


def unwrap(content: Any) -> tuple[dict[str, Any], str]:
    """The state dict in what a file held, and how it lay there.

    A training script may have saved it as it is, under `state_dict` or `model` of a larger dict, and with
    `module.` before every key (PyTorch's DataParallel).

    Raises:
      ConversionError: if there is none.
    """
    layout = []
    for name in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
            layout.append(f"under {name!r}")
            break
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        raise ConversionError("holds no state dict")
    state = dict(content)
    if state and all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): x for key, x in state.items()}
        layout.append("keys with the prefix 'module.'")
    return state, ", ".join(layout) or "a plain state dict"


def identify(shapes: Mapping[str, tuple[int, ...]]) -> TorchNetwork:
    """Which network a state dict of these keys and shapes holds.

    Raises:
      ConversionError: unless its keys and shapes are exactly those of an encoder (of 5 or 7 layers, or of
        as many as a network of ours can have) and of its decoder or none; the message lists what is
        missing, unexpected or misshapen.
    """
    if not any(key.startswith((_ENCODER, *_DECODERS)) for key in shapes):
        some = ", ".join(map(repr, list(shapes)[:3])) or "it is empty"
        raise ConversionError(f"none of its {len(shapes)} keys is of the co-separation network ({some})")
    decoder = next((d for d in _DECODERS if any(key.startswith(d) for key in shapes)), "")
    prefixes = "|".join(filter(None, (_ENCODER, decoder)))
    numbers = [m[1] for key in shapes if (m := re.match(rf"(?:{prefixes})(\d{{1,2}})\.", key))]
    layers = max(map(int, numbers), default=0)
    depth = 7 if layers > 5 else 5  # what was published
    if decoder == _DECODERS[1]:
        depth = min(max(layers, 4), 8)  # what a network of ours can have, on patches of 256
    width = next((s[0] for k, s in shapes.items() if k.startswith(f"{_ENCODER}1.") and s and s[0] > 0), 64)
    first_up = shapes.get(f"{decoder}1.0.weight", ())
    visual = max(first_up[0] - 8 * width, 0) if first_up else 0
    network = TorchNetwork(width, depth, decoder, visual)

    wanted = {entry.source: entry.shape for entry in entries(network)}
    optional = counters(shapes)
    missing = [f"{key} {shape}" for key, shape in wanted.items() if key not in shapes]
    extra = [
        f"{key!r} {shape}" for key, shape in shapes.items() if key not in wanted and key not in optional
    ]
    misshapen = [
        f"{key} {shapes[key]} instead of {shape}"
        for key, shape in wanted.items()
        if key in shapes and shapes[key] != shape
    ]
    problems = [
        f"{what}: {', '.join(keys[:_MOST_LISTED])}"
        + (f" and {len(keys) - _MOST_LISTED} more" if len(keys) > _MOST_LISTED else "")
        for what, keys in (("missing", missing), ("unexpected", extra), ("misshapen", misshapen))
        if keys
    ]
    if problems:
        raise ConversionError(
            f"not a co-separation network of {depth} layers and width {width}; {'; '.join(problems)}"
        )
    return network


def counters(keys: Iterable[str]) -> list[str]:
    """The keys that count BatchNorm's batches; older PyTorch did not write them, and nothing needs them."""
    names = "|".join((_ENCODER, *_DECODERS))
    return [key for key in keys if re.fullmatch(rf"({names})\d+\.{re.escape(_COUNTER)}", key)]


def to_flax(state: Mapping[str, np.ndarray], network: TorchNetwork, *, full: bool) -> dict[str, Any]:
    """Parameters and batch statistics, as our U-Net names and lays them out.

    Args:
      state: a state dict of float32 arrays.
      network: as `identify` found it.
      full: the decoder too; of its first up layer, the part of the kernel that the audio meets.

    Returns:
      `{"params": {"down1": {"kernel": ...}, ...}, "batch_stats": {...}}`, float32, on the CPU.

    Raises:
      ConversionError: if a value is not finite or a variance is negative.
    """
    tree: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for entry in taken(network, full=full):
        array = state[entry.source]
        if not np.isfinite(array).all():
            raise ConversionError(f"{entry.source} holds NaN or infinity")
        if entry.name == "var" and array.min() < 0:
            raise ConversionError(f"{entry.source} holds a negative variance")
        module = tree[entry.collection].setdefault(entry.module, {})
        module[entry.name] = jax.device_put(entry.to_flax(array), cpu_device())
    return tree


def taken(network: TorchNetwork, *, full: bool) -> list[Entry]:
    """The entries that a conversion takes: the encoder's, or all."""
    return [entry for entry in entries(network) if full or is_encoder(entry.module)]


def network_of(model: Mapping[str, Any]) -> TorchNetwork:
    """Which network `{"params": ..., "batch_stats": ...}` of ours is, whole or an encoder alone.

    Raises:
      ConversionError: if it is neither.
    """
    params = model["params"]
    depth = sum(re.fullmatch(r"down\d+", name) is not None for name in params)
    if depth < 4 or "kernel" not in params.get("down1", {}):
        raise ConversionError("holds no U-Net")
    width = params["down1"]["kernel"].shape[-1]
    network = TorchNetwork(width, depth, _DECODERS[1] if "up1" in params else "")
    found = {name: tuple(x.shape) for name, x in named_arrays(model).items()}
    wanted = {e.target: tuple(e.shape[i] for i in e.axes) if e.axes else e.shape for e in entries(network)}
    if found != wanted:
        raise ConversionError(f"holds no U-Net of {depth} layers and width {width}, but something like it")
    return network


def to_torch(model: Mapping[str, Any], network: TorchNetwork, step: int) -> dict[str, np.ndarray]:
    """A state dict of our U-Net: `audionet_convlayerN.*` down and `upconvlayerN.*` up.

    Args:
      model: `{"params": ..., "batch_stats": ...}`, whole or of an encoder alone.
      network: as `network_of` found it.
      step: training steps taken; goes into PyTorch's counters of batches.
    """
    state = {}
    for entry in entries(network):
        state[entry.source] = entry.to_torch(model[entry.collection][entry.module][entry.name])
        if entry.name == "var":
            key = entry.source.removesuffix("1.running_var") + _COUNTER
            state[key] = np.asarray(step, np.int64)
    return state


def block_key(network: TorchNetwork, block: str) -> str:
    """What the keys of a block (`down1`, `up1`) begin with in a state dict."""
    number = re.sub(r"\D", "", block)
    return f"{_ENCODER if is_encoder(block) else network.decoder}{number}"


def cpu_device() -> jax.Device:
    """The CPU, whatever the default device is: others may multiply with fewer digits."""
    return jax.local_devices(backend="cpu")[0]
