"""Folders of songs that are damaged, or odd."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np

from tools.fuzz_runs.cases import Attempt, Case
from tools.fuzz_runs.commands import CommandError, run_command
from tools.fuzz_runs.damage import damage_folder
from tools.fuzz_runs.templates import RATE
from tools.fuzz_separate.songs import CONTENTS, NAMES
from tools.fuzzing import damage
from vocalsep_jax import data_tools
from vocalsep_jax.data import prepared
from vocalsep_jax.data import songs as data_songs
from vocalsep_jax.data.songs import SongError, check_trainable, find_instrumentals, find_library

_ROOTS = ("missing", "x" * 300, "x" * 1500, "~nobody-of-this-name/songs", "a\0b", "a file", "\udcff")


def attempt(case: Case) -> Attempt:
    """A folder with something wrong, and one of those that read it."""
    root = case.folder / "songs"
    shutil.copytree(case.templates / "songs", root)
    harm = case.pick((*(_audio,) * 4, *(_anywhere,) * 3, _links, *(_names,) * 2, _root, _extra))
    case.kinds.append(harm.__name__.strip("_"))
    root = harm(case, root) or root
    way = case.pick(("load", "load", "load", "vanishing", "check", "instrumentals"))
    case.kinds.append(way)
    if way == "check":
        # Its text has escapes for what no name can be.
        folder = os.fsdecode(os.fsencode(case.folder / root)).replace("\0", "0")
        arguments = ["check", folder, "--json", "found.json"]
        return Attempt(lambda: run_command(data_tools.main, arguments, [1, 2]), (CommandError,))
    if way == "instrumentals":
        return Attempt(lambda: [song.load(RATE) for song in find_instrumentals(root)], (SongError,))

    def call() -> list[prepared.PreparedSong]:
        with _vanishing(case) if way == "vanishing" else contextlib.nullcontext():
            library = find_library(root)
        check_trainable(library)
        return [prepared.prepare_song(song, RATE) for x in library.splits.values() for song in x]

    return Attempt(call, (SongError,), _check)


def _check(songs: list[prepared.PreparedSong]) -> str | None:
    sound = all(song.stems["vocals"].shape == song.stems["accompaniment"].shape for song in songs)
    return None if sound and all(np.isfinite(song.scale) for song in songs) else "songs are no songs"


def _audio(case: Case, root: Path) -> None:
    for path in sorted(root.rglob("*.wav")):
        if case.chance(0.3):
            case.kinds.append(f"audio: {damage(case, path)}")
    if case.chance(0.2):
        case.pick(sorted(root.rglob("*.wav"))).write_bytes(case.pick(CONTENTS))


def _anywhere(case: Case, root: Path) -> None:
    damage_folder(case, root)


def _links(case: Case, root: Path) -> None:
    """Links in circles, among songs and inside of one."""
    song = root / "train" / "A - One"
    links = (
        (song / "again", str(song)),
        (root / "train" / "all", str(root)),
        (root / "valid", "valid"),
        (root / "test", "train"),
        (song / "mixture.wav", "mixture.wav"),
        (root / "train" / "X", "Y"),
        (root / "train" / "pipe", "/dev/zero"),
        (song / "mixture.wav", "/dev/zero"),
    )
    link, target = case.pick(links)
    link.symlink_to(target)
    if target == "Y":
        (root / "train" / "Y").symlink_to("X")


def _names(case: Case, root: Path) -> None:
    song, name = case.pick(sorted((root / "train").iterdir())), case.pick(NAMES)
    with contextlib.suppress(OSError):  # too long for the file system
        if case.chance(0.3):
            shutil.copy(song / "vocals.wav", root / name)
        elif case.chance(0.5):
            song.rename(song.with_name(name))
        else:
            (song / "vocals.wav").rename(song / name)


def _root(case: Case, root: Path) -> Path:
    name = case.pick(_ROOTS)
    if name == "a file":
        (root / name).write_text("no folder")
    return Path(name) if name.startswith("~") else root / name


def _extra(case: Case, root: Path) -> None:
    """Entries that are not as songs are."""
    song = root / case.pick(("train", "valid", "test", ".")) / "A - One"
    what = case.pick(("empty", "again", "two", "many", "pipe", "stem file"))
    song.mkdir(parents=True, exist_ok=True)
    if what == "again":
        shutil.copytree(root / "train" / "B - Two", song, dirs_exist_ok=True)
    elif what == "two":
        (song / "VOCALS.flac").write_bytes(b"fLaC")
    elif what == "many":
        for number in range(2000):
            (song / f"{number}.wav").touch()
    elif what == "pipe":
        os.mkfifo(song / "mixture.wav")
    elif what == "stem file":
        (song.parent / "D - Four.stem.mp4").write_bytes(case.pick(CONTENTS))


@contextlib.contextmanager
def _vanishing(case: Case) -> Iterator[None]:
    """Files go away between being listed and being looked at."""
    make = data_songs._song

    def song(name: str, load: object, files: dict[str, Path]) -> data_songs.Song:
        if case.chance(0.5):
            case.pick(list(files.values())).unlink(missing_ok=True)
        return make(name, load, files)  # type: ignore[arg-type]

    with mock.patch.object(data_songs, "_song", song):
        yield
