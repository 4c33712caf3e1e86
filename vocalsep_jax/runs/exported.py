"""A model that was exported: `weights.npz`, its arrays in one file, and `model.json`, which tells of them.

Reading it needs neither Orbax nor the run it came from.
"""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vocalsep_jax.runs.folder import RunError, read_json
from vocalsep_jax.runtime.console import reason_of

FACTS = "model.json"
WEIGHTS = "weights.npz"

WEIGHT_DTYPES = ("float32", "float16")
"""What weights may be stored as. They are float32 once they are read."""


def is_exported(folder: Path) -> bool:
    """Whether a folder holds an exported model's weights; models of earlier versions hold a checkpoint."""
    return (folder / WEIGHTS).is_file()


def write_weights(folder: Path, arrays: Mapping[str, np.ndarray], dtype: str) -> str:
    """Write `weights.npz`; the same arrays always make the same file.

    Args:
      folder: where to.
      arrays: float32, by names such as `params/down1/kernel`.
      dtype: one of `WEIGHT_DTYPES`. As float16 only what has two axes or more is stored, which is nearly
        all: a variance may be larger than float16 holds.

    Returns:
      The file's SHA-256.

    Raises:
      RunError: if a value is not finite, or not as float16.
    """
    stored = {}
    for name, x in arrays.items():
        with np.errstate(over="ignore"):
            stored[name] = x.astype(dtype if x.ndim > 1 else np.float32)
        if not np.isfinite(stored[name]).all():
            raise RunError(f"{name} holds values that are not finite as {stored[name].dtype}")
    buffer = io.BytesIO()
    np.savez(buffer, **stored)  # type: ignore[arg-type]
    (folder / WEIGHTS).write_bytes(buffer.getbuffer())
    return hashlib.sha256(buffer.getbuffer()).hexdigest()


def read_weights(folder: Path) -> tuple[dict[str, Any], int]:
    """The trees of float32 arrays in `weights.npz`, `{"params": {"down1": ...}, ...}`, and their step.

    Raises:
      RunError: if the file, or `model.json`, is missing or damaged.
    """
    facts, path = read_facts(folder), folder / WEIGHTS
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}") from error
    try:
        step, checksum = int(facts["step"]), facts["weights"]["sha256"]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise RunError(f"{folder / FACTS}: tells neither step nor checksum of the weights") from error
    if hashlib.sha256(content).hexdigest() != checksum:
        raise RunError(f"{path}: damaged, its SHA-256 is not the one in {FACTS}; get the model again")
    tree: dict[str, Any] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
            if not stored or sum(member.file_size for member in members) > len(content):
                raise ValueError("its arrays are not stored as they are")
            for member in members:
                _put(tree, member.filename.removesuffix(".npy"), _array(archive.read(member)))
    except Exception as error:  # a damaged archive can raise anything
        raise RunError(f"{path}: not the weights of a model ({reason_of(error)})") from error
    return tree, step


def _put(tree: dict[str, Any], name: str, array: np.ndarray) -> None:
    """Put an array in its place; ValueError if that is taken, or cannot be."""
    *above, last = name.split("/")
    place = tree
    for part in above:
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise ValueError(f"{name!r} lies in an array")
    if last in place:
        raise ValueError(f"{name!r} is there twice")
    place[last] = array


def _array(content: bytes) -> np.ndarray:
    """A float32 copy of the array in a `.npy` file; takes no memory for what the file does not hold."""
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("an array is of another format")
    shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype not in WEIGHT_DTYPES:
        raise ValueError(f"an array is of {dtype}")
    values = np.frombuffer(content, dtype, offset=file.tell())
    if len(values) != math.prod(shape):
        raise ValueError("an array is not as large as it says")
    return values.reshape(shape, order="F" if by_columns else "C").astype(np.float32)


def read_facts(folder: Path) -> dict[str, Any]:
    """The contents of an exported model's `model.json`.

    Raises:
      RunError: if it is missing or damaged.
    """
    return read_json(folder / FACTS)
