"""What a run is: `RUN/config.json`.

It holds the config, the number of its format, the versions of the packages it ran with, and the songs it
was trained and validated on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from vocalsep_jax.config import FORMAT, Config, ConfigError, parse_run, to_fields
from vocalsep_jax.runs.folder import RunError, config_path, package_versions, read_json
from vocalsep_jax.runtime import disk
from vocalsep_jax.runtime.options import shown

SongLengths = dict[str, list[tuple[str, int]]]
"""By split, the name and the samples of each song."""


@dataclass(frozen=True)
class RunRecord:
    """The contents of a run's `config.json`.

    Attributes:
      config: the run's config, with today's names of fields.
      songs: those it was trained and validated on; empty for an exported model.
      format: number of the format that the file was written in.
    """

    config: Config
    songs: SongLengths
    format: int = FORMAT


def read_record(run: Path) -> RunRecord:
    """The contents of `config.json`, of this format or an earlier one.

    Raises:
      RunError: if it is missing, damaged, or of a newer format.
    """
    path = config_path(run)
    content = read_json(path)
    if "config" not in content:
        raise RunError(f"{path}: not the config of a run")
    number = content.get("format", 0)
    if not isinstance(number, int) or number > FORMAT:
        raise RunError(f"{path}: written by a newer version (format {shown(number)}, this reads {FORMAT})")
    try:
        songs = {
            split: [(str(name), int(samples)) for name, samples in listed]
            for split, listed in dict(content.get("songs", {})).items()
        }
        return RunRecord(parse_run(content["config"], number), songs, number)
    except (ConfigError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise RunError(f"{path}: not the config of a run ({error})") from error


def write_record(run: Path, record: RunRecord) -> None:
    """Write `config.json`, in this format."""
    content = {
        "format": FORMAT,
        "config": to_fields(record.config),
        "songs": record.songs,
        "versions": package_versions(),
    }
    disk.write_text(config_path(run), json.dumps(content, indent=2) + "\n")
