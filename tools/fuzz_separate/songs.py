"""The songs of a case: what they are, and what is around them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from tools.fuzz_separate.cases import Case, Song
from tools.fuzz_separate.formats import CONTAINERS, STEM_FILE_SUFFIX
from tools.fuzz_separate.sounds import (
    have_pyav,
    write_any,
    write_container,
    write_plain,
    write_sound,
)
from tools.fuzzing import damage
from vocalsep_jax.audio import files, pyav

NAMES = (
    "Füße 歌.wav",
    "a b  c.wav",
    " .wav",
    "line\nbreak.wav",
    "tab\tand\x1b[31mred.wav",
    "-d.wav",
    "--help.wav",
    "{track}{0}{x!z}.wav",
    "{",
    "%s %d.wav",
    "x" * 251 + ".wav",
    "x" * 300 + ".wav",
    "歌" * 83 + ".wav",
    ".wav",
    "..wav",
    "...wav",
    "a.raw",
    "no suffix",
    "a.flac.mp3",
    "bytes\udcff\udce9.wav",
    "nel\x85line\u2028sep.wav",
    "a[1].wav",
    "[ab]*?.flac",
    "part 1: a.m4a",
    "file:a.mkv",
    "http:a.mp4",
    "bytes\udcff.mp4",
    "x" * 251 + ".m4a",
    "%03d.mov",
    STEM_FILE_SUFFIX,
    "A - B.STEM.MP4",
    "~.wav",
)

CONTENTS = (
    b"",
    b"text, not sound\n" * 40,
    bytes(5000),
    b"RIFF",
    b"fLaC",
    b"OggS",
    b"ID3",
    b"\x1aE\xdf\xa3",
)
"""Of files that hold no sound."""

PATTERNS: dict[str, tuple[str, ...] | None] = {
    "?.wav": ("a.wav", "b.wav"),
    "[ab].*": ("a.wav", "b.wav"),
    "**/?.wav": ("a.wav", "b.wav", "deep/e.wav"),
    "*d.flac": ("c d.flac",),
    "d*": ("deep",),
    "a[[]*": ("a[1].wav",),
    "*.mp3": (),
    "[!a": (),
    "nothing/**/*": (),
    "a[1].wav": None,
}
"""What each must match in an album; None for a name that only looks like a pattern."""


def add_song(case: Case) -> None:
    """The song that a case is about."""
    case.inputs.mkdir()
    make = case.pick(_MAKERS)
    song = make(case, case.inputs / f"song{case.pick(files.SUFFIXES)}")
    case.kinds.append(song.kind)
    case.songs.append(song)


def arrange(case: Case) -> None:
    """What is around the songs: another song, the same one again, and where the outputs go."""
    if case.chance(0.4):
        path = case.inputs / "good.wav"
        write_plain(case, path)
        case.songs.insert(int(case.rng.integers(2)), Song(path, "companion", True))
    around = case.pick(
        ("nothing",) * 12 + ("twice", "out is a file", "in the way", "full disk", "full disk")
    )
    if around == "twice":
        case.songs.append(case.songs[0])
    elif around == "out is a file":
        case.out.write_text("in the way")
    elif around == "in the way":  # of one of the outputs of the last song
        song = case.songs[-1].path
        # Wrong options may have a template that cannot be filled in.
        with contextlib.suppress(OSError, KeyError, IndexError, ValueError, TypeError, AttributeError):
            case.output(song.stem, case.pick(case.stems)).mkdir(parents=True)
    elif around == "full disk":
        case.file_limit = int(case.pick((0, 1, 43, 44, 500, 4096, 30_000)))
    if around != "nothing":
        case.kinds.append(around)


def _good(case: Case, path: Path) -> Song:
    path, form, usable = write_any(case)
    return Song(path, f"good: {form}", usable)


def _damaged(case: Case, path: Path) -> Song:
    written, form, _ = write_any(case)
    kind = f"damaged: {form.split()[0]}, {damage(case, written)}"
    return Song(written.rename(path) if case.chance(0.1) else written, kind, None)


def _odd_values(case: Case, path: Path) -> Song:
    value = case.pick(("nan", "inf", "huge", "huge"))
    path = path.with_suffix(".wav")
    write_sound(case, path, value=value)
    return Song(path, f"values: {value}", None)


def _no_sound(case: Case, path: Path) -> Song:
    content = case.pick(CONTENTS)
    if case.chance(0.4):
        content = content[:4] + case.rng.bytes(int(case.rng.integers(1, 5000)))
    path.write_bytes(content)
    return Song(path, "content", None)  # libsndfile takes some random bytes for MP3


def _named(case: Case, path: Path) -> Song:
    """A sound under a name of its own."""
    path = path.with_name(case.pick(NAMES))
    usable: bool | None = False
    with contextlib.suppress(OSError):  # too long for the file system
        if path.suffix.lower() in pyav.SUFFIXES:
            if have_pyav():
                _, usable = write_container(case, path, path.suffix.lower())
        else:
            if case.chance(0.5):
                write_plain(case, path)
            else:
                write_sound(case, path, case.pick(list(CONTAINERS)))
            usable = True
    return Song(path, "name", usable)


def _folder(case: Case, path: Path) -> Song:
    """A folder of songs, one of none, or one of a file that cannot be read, which is then the song."""
    path.mkdir()
    if case.chance(0.5):
        for name in ("a.wav", "deep/b.flac", "deep/deep/ü.WAV", "deep/c.opus", "d.W64"):
            write_plain(case, path / name)
        if have_pyav() and case.chance(0.5):
            write_container(case, path / "deep" / f"s{STEM_FILE_SUFFIX}", STEM_FILE_SUFFIX)
            return Song(path, "folder", None)
        (path / "c.wav").mkdir()
        (path / "deep" / "notes.txt").write_text("not sound")
        return Song(path, "folder", True)
    if case.chance(0.5):
        (path / "notes.txt").write_text("not sound")
        return Song(path, "folder of no audio", False)
    path = path / "x.wav"
    write_plain(case, path)
    if not os.geteuid():  # who may read everything
        return Song(path, "folder", True)
    path.chmod(0)
    return Song(path, "unreadable", False)


def _missing(case: Case, path: Path) -> Song:
    return Song(path, "missing", False)


def _link(case: Case, path: Path) -> Song:
    """A link to a sound, to nothing, or to itself."""
    path, target = path.with_suffix(".wav"), case.inputs / "target.wav"
    if case.chance(0.7):
        write_plain(case, target)
    path.symlink_to(target if case.chance(0.8) else path)
    return Song(path, "link", path.exists())


def _pattern(case: Case, path: Path) -> Song:
    album = case.inputs / "album"
    for name in ("a.wav", "b.wav", "c d.flac", "deep/e.wav", "a[1].wav", "a1.wav"):
        write_plain(case, album / name)
    pattern = case.pick(list(PATTERNS))
    matches = PATTERNS[pattern]
    found = tuple(album / name for name in matches or ())
    return Song(album / pattern, "pattern", matches is None or bool(found), found or None)


_MAKERS: tuple[Callable[[Case, Path], Song], ...] = (
    *(_good,) * 6,
    *(_damaged,) * 5,
    _odd_values,
    _no_sound,
    *(_named,) * 3,
    _folder,
    _missing,
    _link,
    _pattern,
)
"""Each makes a song of a case, under the path given or another one; as often as they are here."""
