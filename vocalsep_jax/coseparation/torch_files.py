"""PyTorch: reading and writing its files, and running the blocks of a network it keeps."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from vocalsep_jax.coseparation import keys
from vocalsep_jax.coseparation.keys import ConversionError, TorchNetwork
from vocalsep_jax.runtime import disk

VERSION = torch.__version__

_MOST_PACKED = 20
"""By how much weights may be larger than the archive that they are packed in."""


def load(path: Path) -> tuple[dict[str, np.ndarray], set[str], str]:
    """Read a state dict; nothing in the file is executed.

    Args:
      path: as `torch.save` writes it, today or in the past.

    Returns:
      Its arrays (floating point ones as float32), the dtypes of these in the file, and how the state
      dict lay in it.

    Raises:
      ConversionError: if it cannot be read, or holds anything but a state dict of tensors.
    """
    try:
        if path.is_fifo():  # reading one would wait for ever
            raise ConversionError(f"{path}: is a pipe, not a file")
        with path.open("rb"):  # what is wrong after this is wrong with its contents
            pass
    except OSError as error:
        raise ConversionError(f"{path}: {error.strerror}") from error
    try:
        mapped = _check_archive(path)
        with warnings.catch_warnings(action="ignore"):  # of formats it may not know; it says so if not
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # a damaged file can raise anything
        raise ConversionError(f"{path}: {_reason(error)}") from error
    with keys.about(path):
        state, layout = keys.unwrap(content)
        return *_arrays(state), layout


def save(state: Mapping[str, np.ndarray], path: Path) -> None:
    """Write arrays as a PyTorch state dict, whole or not at all. Raises OSError as the file system does."""
    tensors = {key: torch.from_numpy(x) for key, x in state.items()}
    with disk.replacing(path) as partial, partial.open("wb") as file:
        torch.save(tensors, file)


def activations(
    state: Mapping[str, np.ndarray], network: TorchNetwork, x: np.ndarray, *, full: bool
) -> Any:
    """Outputs of all blocks of the PyTorch network, in evaluation mode.

    The network is put together from PyTorch's own operations; the visual feature, where its first up layer
    takes one, is zero.

    Args:
      state: arrays of the network.
      network: which network that is.
      x: float32 `[B, F, T]`.
      full: whether to run the decoder too.

    Returns:
      float32 `[B, F, T, C]` for each of `down1`, ..., and `up1`, ...
    """

    def tensor(block: str, suffix: str) -> Any:
        return torch.from_numpy(state[f"{keys.block_key(network, block)}.{suffix}"])

    def norm(y: Any, block: str) -> Any:
        mean, var = tensor(block, "1.running_mean"), tensor(block, "1.running_var")
        scale, offset = tensor(block, "1.weight"), tensor(block, "1.bias")
        return functional.batch_norm(y, mean, var, scale, offset, eps=1e-5)

    outputs = {}
    with torch.no_grad():
        y = torch.from_numpy(x)[:, None]
        for n in range(1, network.depth + 1):
            block = f"down{n}"
            y = functional.conv2d(
                y, tensor(block, "0.weight"), tensor(block, "0.bias"), stride=2, padding=1
            )
            y = functional.leaky_relu(norm(y, block), 0.2)
            outputs[block] = y
        y = torch.cat([torch.zeros(y.shape[0], network.visual, *y.shape[2:]), y], dim=1)
        for n in range(1, network.depth + 1 if full else 1):
            block = f"up{n}"
            if n > 1:
                y = torch.cat([y, outputs[f"down{network.depth + 1 - n}"]], dim=1)
            weight, bias = tensor(block, "0.weight"), tensor(block, "0.bias")
            y = functional.conv_transpose2d(y, weight, bias, stride=2, padding=1)
            y = torch.relu(norm(y, block)) if n < network.depth else torch.sigmoid(y)
            outputs[block] = y
    return {block: y.permute(0, 2, 3, 1).numpy() for block, y in outputs.items()}


def _check_archive(path: Path) -> bool:
    """Whether a file's tensors can be mapped into memory: what is not converted is then not read.

    Raises:
      RuntimeError: if it is a zip archive and damaged inside, which torch.load would not notice.
    """
    if not zipfile.is_zipfile(path):  # before PyTorch 1.6
        return False
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > _MOST_PACKED * path.stat().st_size:
            raise RuntimeError("it says to be far larger unpacked than weights can be")
        if damaged := archive.testzip():
            raise RuntimeError(f"the checksum of {damaged!r} is wrong")
        return all(member.compress_type == zipfile.ZIP_STORED for member in members)


def _arrays(state: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], set[str]]:
    arrays, dtypes = {}, set()
    for key, x in state.items():
        if not isinstance(x, torch.Tensor) or x.layout != torch.strided or x.is_quantized or x.is_complex():
            raise ConversionError(f"{key!r} is no plain tensor of real numbers")
        if x.device.type != "cpu" or x.numel() * x.element_size() > x.untyped_storage().nbytes():
            raise ConversionError(f"{key!r} has not all the numbers that it says")
        if x.is_floating_point():
            dtypes.add(str(x.dtype).removeprefix("torch."))
            x = x.float()
        elif x.ndim:  # only counters are integers
            raise ConversionError(f"{key!r} is of {x.dtype}, not of floating point numbers")
        arrays[key] = x.detach().resolve_neg().numpy()
    return arrays, dtypes


def _reason(error: Exception) -> str:
    text = str(error)
    if wanted := re.search(r"GLOBAL (\S+)", text):
        return f"refused: it asks to run {wanted[1]!r} when it is loaded, which a file of weights need not"
    reason = "damaged, or not a file that torch.save wrote"
    if isinstance(error, RuntimeError):
        reason += f" ({text.strip().splitlines()[0].split('. ')[0][:200]})"
    return reason
