"""The folder a run leaves: where its files are, and its resolved config.

`RUN/config.json` holds the config, a format version, the versions of the packages it ran with, and the
songs it was trained and validated on.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vocalsep_jax import __version__, files

FORMAT = 3

MAY_CHANGE = (
    "name",
    "parallel",
    "log_every_steps",
    "max_minutes",
    "init_from",
    "init_encoder",
    "data.root",
    "data.cache",
    "data.placement",
    "data.stft_on",
    "steps_per_dispatch",
    "rematerialise",
    "checkpoint.every_steps",
    "checkpoint.every_minutes",
)
"""Fields that do not change what a run computes, beyond rounding; others must be the same to resume it."""

_ABSENT = object()
_PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")


class RunError(Exception):
    """A run's folder cannot be used; the message names it and says what to do."""


def config_path(run: Path) -> Path:
    """Where the config of a run is."""
    return run / "config.json"


def checkpoint_folder(run: Path) -> Path:
    """Where the checkpoints of a run are."""
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


def read_config(run: Path) -> dict[str, Any]:
    """The contents of `config.json`.

    Raises:
      RunError: if it is missing, damaged, or of a newer format.
    """
    path = config_path(run)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise RunError(f"{path}: damaged ({error})") from error
    if not isinstance(content, dict) or "config" not in content:
        raise RunError(f"{path}: not the config of a run")
    if content.get("format", 0) > FORMAT:
        raise RunError(
            f"{path}: written by a newer version (format {content['format']}, this reads {FORMAT})"
        )
    if content.get("format") == 1:
        _upgrade(content["config"])
        content["format"] = 2  # what it is now, if it is written again
    return content


def write_config(run: Path, config: Mapping[str, Any], songs: Mapping[str, Any]) -> None:
    """Write `config.json`; `songs` says what the run is trained and validated on."""
    content = {"format": FORMAT, "config": config, "songs": songs, "versions": package_versions()}
    files.write_text(config_path(run), json.dumps(content, indent=2) + "\n")


def plain(config: Any) -> dict[str, Any]:
    """A config as nested dictionaries; an ml_collections ConfigDict, or dictionaries already."""
    return dict(config.to_dict() if hasattr(config, "to_dict") else config)


class Fields:
    """Nested dictionaries as an object whose attributes are the fields.

    One that is absent is a RunError.
    """

    def __init__(self, fields: Mapping[str, Any], path: str = ""):
        """`path` is where the fields are in the config: empty, or ending in a dot."""
        self._path = path
        for name, value in fields.items():
            within = isinstance(value, Mapping)
            setattr(self, name, Fields(value, f"{path}{name}.") if within else value)

    def __getattr__(self, name: str) -> Any:
        raise RunError(f"the config has no field {self._path}{name}; configs/base.py has them all")


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Fields in which two configs differ beyond `MAY_CHANGE`, as `field: old -> new`."""
    flat_old, flat_new = _flatten(old), _flatten(new)
    return [
        f"{name}: {_show(flat_old, name)} -> {_show(flat_new, name)}"
        for name in sorted(flat_old.keys() | flat_new.keys())
        if name not in MAY_CHANGE and flat_old.get(name, _ABSENT) != flat_new.get(name, _ABSENT)
    ]


def _upgrade(config: dict[str, Any]) -> None:
    """Give the config of a run of format 1 the fields that the network's front end has had since."""
    config["input_transform"] = config.get("model", {}).pop("input_transform", "raw")
    config |= {"frequency_scale": "linear", "frequency_bins": 256}


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat


def _show(flat: Mapping[str, Any], name: str) -> str:
    return json.dumps(flat[name]) if name in flat else "(absent)"


def package_versions() -> dict[str, str]:
    """Versions of this package and of those that decide what it computes."""
    versions = {"vocalsep_jax": __version__}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "unknown"
    return versions
