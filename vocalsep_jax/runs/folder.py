"""The folder that a run leaves: where its files are.

`record` reads and writes its `config.json`.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vocalsep_jax import __version__
from vocalsep_jax.runs.shipped import default_model, shipped_models
from vocalsep_jax.runtime.console import reason_of
from vocalsep_jax.runtime.places import place, resolved

_PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")


class RunError(Exception):
    """A run's folder cannot be used; the message names it and says what to do."""


@contextlib.contextmanager
def one_line_errors(path: str | os.PathLike[str], done: str) -> Iterator[None]:
    """Turn whatever a library raises into a RunError; `done` is what the path cannot be."""
    try:
        yield
    except Exception as error:  # some have none of their own: a damaged file can raise anything
        raise RunError(f"{path}: cannot be {done} ({reason_of(error)})") from error


def config_path(run: Path) -> Path:
    """The path of a run's `config.json`."""
    return run / "config.json"


def checkpoint_folder(run: Path) -> Path:
    """The path of a run's checkpoints."""
    return run / "checkpoints"


def find_checkpoint(checkpoint: str | os.PathLike[str] | None = None) -> Path:
    """The path that a checkpoint is given by.

    Args:
      checkpoint: a path, or the name of a model that comes with this package (a path that is there is
        preferred); the default model if None.

    Raises:
      RunError: if there is no such path nor model.
    """
    models = shipped_models()
    if checkpoint is None:
        if (default := default_model()) in models:
            return models[str(default)]
        others = f", or one of {', '.join(models)}" if models else ""
        raise RunError(
            f"no model comes with this package by default: name a run or an exported model{others}"
        )
    try:
        path = place(checkpoint)
        is_there = path.exists()
    except (OSError, RuntimeError) as error:  # a name that is too long, or of a user there is not
        raise RunError(f"{checkpoint}: {getattr(error, 'strerror', None) or error}") from error
    if is_there:
        return path
    if (name := os.fspath(checkpoint)) in models:
        return models[name]
    others = f"; the models of this package are {', '.join(models)}" if models else ""
    raise RunError(f"{path}: no such checkpoint or run folder{others}")


def find_run(checkpoint: str | os.PathLike[str] | None = None) -> Path:
    """The run, or the exported model, that a checkpoint is or lies in; arguments as `find_checkpoint`.

    Raises:
      RunError: if there is none.
    """
    path = find_checkpoint(checkpoint)
    for folder in (path, *resolved(path).parents):
        if config_path(folder).is_file():
            return folder
    raise RunError(f"{path}: not a run or checkpoint (no config.json in it or above it)")


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
      RunError: if the file is missing, damaged, or holds something else.
    """
    try:
        if path.exists() and not path.is_file():  # reading a pipe would wait for ever
            raise RunError(f"{path}: is not a file")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: damaged ({error})") from error
    if not isinstance(content, dict):
        raise RunError(f"{path}: damaged (it holds no object)")
    return content


def package_versions() -> dict[str, str]:
    """Versions of this package and of those that decide what it computes."""
    versions = {"vocalsep_jax": __version__}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "unknown"
    return versions
