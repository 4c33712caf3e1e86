"""A case of the fuzz: one call of the command, and what is known of it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tools.fuzz_separate.formats import STEM_FILE_SUFFIX
from tools.fuzzing import Chances
from vocalsep_jax.audio import files
from vocalsep_jax.separation.stem_files import STEMS


@dataclass
class Song:
    """A SONG of the command line.

    Attributes:
      path: as it is given: of a file or folder, or a pattern.
      kind: what it is, in some words.
      usable: whether it must be separated; None where that is for the decoders to say.
      files: that a pattern must match.
    """

    path: Path
    kind: str
    usable: bool | None
    files: tuple[Path, ...] | None = None

    def tracks(self) -> list[tuple[Path, str]]:
        """The files and tracks that it stands for."""
        tracks: list[tuple[Path, str]] = []
        for path in (self.path,) if self.files is None else self.files:
            if not is_folder(path):
                tracks.append((path, _track_of(path.name)))
                continue
            found = [
                p for p in sorted(path.rglob("*")) if p.suffix.lower() in files.SUFFIXES and p.is_file()
            ]
            tracks += [(p, (p.relative_to(path).parent / _track_of(p.name)).as_posix()) for p in found]
            if not found:
                tracks.append((path, path.name))
        return tracks


@dataclass
class Case(Chances):
    """One call of the command, and what is known of it.

    Attributes:
      rng: all its random numbers; their order makes the case.
      folder: all its files are in here.
      run: what `--checkpoint` names, unless it is wrong.
      kinds: what it is about, for the counts.
      songs: of the command line.
      options: of the command line.
      usage_error: whether the options are wrong.
      relative: whether songs are given as seen from their folder.
      container, sample, bitrate, stems, filename, clip_mode, start, duration, jobs, skip_existing: what the
        options say.
      report: what `--json` names.
      settings: of the `Separator`.
      file_limit: bytes that a file may have, as on a full disk.
      problems: what was found to be wrong.
    """

    rng: np.random.Generator
    folder: Path
    run: Path
    kinds: list[str] = field(default_factory=list)
    songs: list[Song] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    usage_error: bool = False
    relative: bool = False
    container: str = "wav"
    sample: str | None = None
    bitrate: int | None = None
    stems: tuple[str, ...] = STEMS
    filename: str = "{track}/{stem}.{ext}"
    clip_mode: str = "clamp"
    start: float = 0.0
    duration: float | None = None
    jobs: int = 1
    skip_existing: bool = False
    report: Path | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    file_limit: int | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def out(self) -> Path:
        """The output folder."""
        return self.folder / "out"

    @property
    def inputs(self) -> Path:
        """The folder of the songs."""
        return self.folder / "in"

    @property
    def bits(self) -> int | None:
        """Bits of the outputs' samples, None if they are no integers."""
        return {"int16": 16, "int24": 24}.get(self.sample or "")

    @property
    def step(self) -> float:
        """From one of the outputs' sample values to the next; 0 if they are no integers."""
        return 2.0 ** (1 - self.bits) if self.bits else 0.0

    @property
    def full_scale(self) -> float:
        """The largest sample that rescaled stems may have."""
        return 1 - self.step

    def output(self, track: str, stem: str) -> Path:
        """Where the README says that a stem goes."""
        return self.out / self.run.name / self.filename.format(track=track, stem=stem, ext=self.container)

    def shown(self, path: Path) -> Path:
        """An input as the command is to name it."""
        return path.relative_to(self.inputs) if self.relative else path


def is_folder(path: Path) -> bool:
    """Whether a path of any length is a folder's."""
    with contextlib.suppress(OSError):
        return path.is_dir()
    return False


def _track_of(name: str) -> str:
    """A file's name without its suffix."""
    cut = len(STEM_FILE_SUFFIX)
    is_stem_file = name.lower().endswith(STEM_FILE_SUFFIX) and len(name) > cut
    return name[:-cut] if is_stem_file else Path(name).stem
