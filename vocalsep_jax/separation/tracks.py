"""Which songs a call of the separation command is about, and where the stems of each go."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from vocalsep_jax.audio.files import SUFFIXES, track_name

Outputs = dict[str, Path]
"""Where each stem of a song goes."""

FILENAME = "{track}/{stem}.{ext}"
"""What outputs are called, below `OUT/<model>`, unless that is chosen."""


def find_tracks(songs: Sequence[str], out: Path) -> Iterator[tuple[Path, str]]:
    """Files and their track names: the files given, and the audio files in the folders given.

    A track is named after its file, without the suffix; in a folder, after the file's path in that folder.
    A folder without audio files is yielded itself. Files in `out` are earlier outputs: one is taken only if
    it is named itself.

    Args:
      songs: files, folders and patterns.
      out: the folder of the outputs.

    Raises:
      ValueError: if a name is empty.
    """
    out = absolute(out)
    for path in (Path(match) for song in songs for match in _matches(song, out)):
        if not is_folder(path):
            yield path, track_name(path)
            continue
        within = sorted(
            p
            for p in path.rglob("*")
            if p.suffix.lower() in SUFFIXES and p.is_file() and out not in absolute(p).parents
        )
        for file in within:
            yield file, (file.relative_to(path).parent / track_name(file)).as_posix()
        if not within and absolute(path) not in (out, *out.parents):
            yield path, path.name


def output_files(template: str, stems: Sequence[str], track: str, ext: str, folder: Path) -> Outputs:
    """Where each stem of a track goes.

    Args:
      template: of the name below `folder`, with `{track}`, `{stem}` and `{ext}`.
      stems, track, ext: what is filled in.
      folder: above all of them.

    Raises:
      ValueError: if the template or the track make that no file below `folder`.
    """
    try:
        names = {stem: Path(template.format(track=track, stem=stem, ext=ext)) for stem in stems}
    except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
        raise ValueError(
            f"--filename {template!r}: only {{track}}, {{stem}} and {{ext}} are filled in"
        ) from error
    for name in names.values():
        if name.is_absolute() or ".." in name.parts or not name.name:
            raise ValueError(f"--filename {template!r}: {str(name)!r} is no file below {folder}")
    return {stem: folder / name for stem, name in names.items()}


def plan_outputs(
    tracks: Sequence[tuple[Path, str]], template: str, stems: Sequence[str], ext: str, folder: Path
) -> list[tuple[Path, Outputs | str]]:
    """Each song with its outputs, or the reason why it has none; arguments as `output_files` has them."""
    taken: dict[Path, Path] = {}
    planned: list[tuple[Path, Outputs | str]] = []
    for song, track in tracks:
        try:
            if is_folder(song):
                raise ValueError("no audio files in this folder")
            outputs = output_files(template, stems, track, ext, folder)
            for output in outputs.values():
                if (earlier := taken.setdefault(output, song)) is not song:
                    raise ValueError(f"its output would overwrite that of {earlier}")
            planned.append((song, outputs))
        except ValueError as error:
            planned.append((song, str(error)))
    return planned


def absolute(path: Path) -> Path:
    """A path from the root, without `..`; links stay as they are."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - `resolve` would follow links


def is_folder(path: Path) -> bool:
    """Whether a path is a folder's; a name that no file can have is not."""
    try:
        return path.is_dir()
    except OSError:  # as for a name that is too long; reading it says so
        return False


def _matches(song: str, out: Path) -> list[str]:
    """The files that a name or a pattern stands for; a pattern without any stands for itself."""
    if not song:  # an empty variable of a shell, say; as a path it would be the folder we are in
        raise ValueError("a song's name is empty")
    if not glob.has_magic(song) or os.path.lexists(song):
        return [song]
    found = (x for x in glob.glob(song, recursive=True) if out not in absolute(Path(x)).parents)
    return sorted(found) or [song]
