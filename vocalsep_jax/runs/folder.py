"""The folder that a run leaves: where its files are.

`record` reads and writes its `config.json`.
"""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

from vocalsep_jax import __version__

_PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")


class RunError(Exception):
    """A run's folder cannot be used; the message names it and says what to do."""


def config_path(run: Path) -> Path:
    """The path of a run's `config.json`."""
    return run / "config.json"


def checkpoint_folder(run: Path) -> Path:
    """The path of a run's checkpoints."""
    return run / "checkpoints"


def find_run(path: str | os.PathLike[str]) -> Path:
    """The run that `path` is, or lies in (as a checkpoint folder does).

    Raises:
      RunError: if there is none.
    """
    try:
        path = Path(path).expanduser()
        is_there = path.exists()
    except (OSError, RuntimeError) as error:  # a name that is too long, or of a user there is not
        raise RunError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if not is_there:
        raise RunError(f"{path}: no such checkpoint or run folder")
    for folder in (path, *path.resolve().parents):
        if config_path(folder).is_file():
            return folder
    raise RunError(f"{path}: not a run or checkpoint (no config.json in it or above it)")


def package_versions() -> dict[str, str]:
    """Versions of this package and of those that decide what it computes."""
    versions = {"vocalsep_jax": __version__}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "unknown"
    return versions
