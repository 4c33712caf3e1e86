"""Fuzz the separation command: many generated calls, each checked for what the command promises.

    python tools/fuzz_separate.py --count 2000 --seed 0

runs `vocalsep_jax.separate.main` in this process with a tiny random network on files of every kind, good
and damaged, and random options. A case depends on nothing but its seed: `--count 1 --seed S` repeats
case S. The exit code is 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import faulthandler
import importlib.util
import io
import json
import logging
import math
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import soundfile

from vocalsep_jax import audio, containers, runs, separate, streaming

CONFIG = {
    "name": "tiny",
    "audio": {"sample_rate": 8000, "n_fft": 62, "hop": 21, "patch_frames": 32},
    "model": {"width": 2, "depth": 5, "dtype": "float32"},
    "input_transform": "raw",
    "frequency_scale": "linear",
    "frequency_bins": 256,
}

RATES = (1, 100, 4000, 8000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000)
CONTAINERS = {
    "WAV": ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "IMA_ADPCM"),
    "FLAC": ("PCM_S8", "PCM_16", "PCM_24"),
    "OGG": ("VORBIS",),
    "MP3": ("MPEG_LAYER_III",),
    "AIFF": ("PCM_16", "PCM_24", "FLOAT"),
    "AU": ("PCM_16", "PCM_32", "DOUBLE"),
    "W64": ("PCM_16",),
    "CAF": ("PCM_24",),
    "OPUS": ("OPUS",),
}
SUFFIXES_OF = {"AIFF": (".aiff", ".aif"), "OGG": (".ogg", ".oga"), "WAV": (".wav", ".WAV")}
LIBSNDFILE_SUFFIXES = tuple(x for x in audio.SUFFIXES if x not in containers.SUFFIXES)
STEM_FILE_SUFFIX = ".stem.mp4"
CODECS = {
    ".m4a": ("mp4", ("aac", "alac")),
    ".aac": ("adts", ("aac",)),
    ".mp4": ("mp4", ("aac",)),
    STEM_FILE_SUFFIX: ("mp4", ("aac",)),
    ".mov": ("mov", ("aac", "pcm_s16le")),
    ".mkv": ("matroska", ("aac", "flac", "ac3", "libmp3lame", "libopus", "pcm_s16le")),
    ".webm": ("webm", ("libopus",)),
    ".avi": ("avi", ("mp2", "libmp3lame", "pcm_s16le")),
    ".ts": ("mpegts", ("aac", "mp2")),
    ".3gp": ("3gp", ("aac",)),
}
"""FFmpeg's names of formats and encoders, by suffix."""
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
PRIMING = 3000
"""Samples that a lossy codec adds to a sound, at most."""
VALUES = ("noise", "sine", "quiet", "silent", "full", "beyond", "denormal", "impulse")
BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24}
LOSSY = ("VORBIS", "MPEG_LAYER_III", "OPUS")
SUBTYPES = {"int16": "PCM_16", "int24": "PCM_24", "float32": "FLOAT"}
MP3_RATES = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
OPUS_RATES = (8000, 12_000, 16_000, 24_000, 48_000)
BIT_RATES = {"mp3": (8, 320), "ogg": (64, 500)}
MP3_BIT_RATES = {
    32_000: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    16_000: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    0: (8, 16, 24, 32, 40, 48, 56, 64),
}
"""kbit/s, by the lowest sample rate that has them."""
BATCH_SIZES = (1, 3, 8)
"""Few: each is a program to compile."""
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
FILENAMES = (
    "{track} - {stem}.{ext}",
    "{stem}/{track}.{ext}",
    "{stem}.{ext}",
    "{track}{stem}",
    "./a//b/{track}/{stem}..{ext}",
    "{track:>100}{stem}.{ext}",
    "{stem}\n{track}.{ext}",
)
BAD_FILENAMES = (
    "{song}{stem}",
    "{track.x}{stem}",
    "{track[a]}{stem}",
    "{track[99]}{stem}",
    "{stem",
    "{0}{stem}",
    "{stem!z}",
    "{stem:d}",
    "{track}",
    "",
    "../{stem}.{ext}",
    "a/{track}/../../../../{stem}",
    "/{stem}.{ext}",
)
BAD_TIMES = ("-1", "x", "", ":", "1:2:3:4", "1:-5", "nan", "inf", "1:nan", "1e308:0", "9" * 400)
TIME_LIMIT = 30


class TimeLimit(BaseException):
    """A case took too long; nothing may take it for an error of its own."""


@dataclass
class Song:
    """A SONG of the command line.

    Attributes:
      path: as it is given: of a file or folder, or a pattern.
      kind: for the counts.
      usable: whether it must be separated; None where that is for the decoders to say.
      files: that a pattern must match.
    """

    path: Path
    kind: str
    usable: bool | None
    files: tuple[Path, ...] | None = None


@dataclass
class Case:
    """One call of the command, and what is known of it.

    Attributes:
      relative: whether songs are given as seen from their folder.
      settings: of the `Separator`.
      report: what `--json` names.
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
    stems: tuple[str, ...] = separate.STEMS
    filename: str = "{track}/{stem}.{ext}"
    clip_mode: str = "clamp"
    start: float = 0.0
    duration: float | None = None
    jobs: int = 1
    report: Path | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    skip_existing: bool = False
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

    def shown(self, path: Path) -> Path:
        """An input as the command is to name it."""
        return path.relative_to(self.inputs) if self.relative else path

    def pick(self, choices: Any) -> Any:
        """One of them."""
        return choices[self.rng.integers(len(choices))]

    def chance(self, share: float) -> bool:
        """True in so many cases."""
        return bool(self.rng.random() < share)


def make_run(folder: Path) -> Path:
    """A run with a tiny network of random weights."""
    import jax
    import optax

    from vocalsep_jax.checkpoints import Checkpoints
    from vocalsep_jax.models.unet import UNet
    from vocalsep_jax.train_step import create_state

    folder.mkdir(parents=True)
    runs.write_config(folder, CONFIG, {})
    state = create_state(UNet(width=2, depth=5), optax.adamw(1e-3), 0, (32, 32))
    rng = np.random.default_rng(1)  # JAX would compile a program for every shape
    noisy = jax.tree.map(lambda x: x + rng.normal(0, 0.3, x.shape).astype(x.dtype), state.params)
    checkpoints = Checkpoints(folder)
    checkpoints.save("latest", state.replace(params=noisy), 3, {})
    checkpoints.close()
    return folder


def samples_of(case: Case, value: str, length: int, channels: int) -> np.ndarray:
    """float64 `[S, C]` of a kind of values."""
    noise = case.rng.uniform(-1, 1, (length, channels))
    if value == "sine":
        return np.sin(np.arange(length)[:, None] * case.rng.uniform(0.01, 3, channels))
    if value == "impulse":
        noise[:] = 0
        noise[length // 2 : length // 2 + 1] = 0.9
        return noise
    scale = {
        "silent": 0.0,
        "quiet": 2e-5,
        "beyond": 4.0,
        "denormal": 1e-40,
        "huge": 10.0 ** case.pick((9, 20, 38)),
    }
    if value == "full":
        return np.sign(noise)
    return noise * scale.get(value, 0.7)


def random_length(case: Case, rate: int, channels: int) -> int:
    """A length at or beside a boundary, short enough to be separated in a moment."""
    hop, n_fft, patch = 21, 62, 62 + 31 * 21
    bounds = [
        0,
        1,
        2,
        hop,
        n_fft,
        patch,
        patch + 16 * hop,
        patch + 8 * 16 * hop,
        8192,
        2**16,
        case.rng.integers(1, 20_000),
    ]
    length = int(case.pick(bounds))
    if case.chance(0.5):  # the boundary is the network's, at its own rate
        length = length * rate // 8000
    length = max(0, length + int(case.pick((-1, 0, 0, 1))))
    most = min(70_000, 70_000 * rate // 8000 if rate < 8000 else 70_000 * min(rate // 8000, 2)) // channels
    return min(length, max(most, 3))


def write_sound(
    case: Case, path: Path, container: str = "WAV", *, value: str | None = None, plain: bool = False
) -> str:
    """Write a sound file that libsndfile reads; gives its kind."""
    while True:
        subtype = "PCM_16" if plain else case.pick(CONTAINERS[container])
        rate = 8000 if plain else case.pick({"MP3": MP3_RATES, "OPUS": OPUS_RATES}.get(container, RATES))
        channels = (
            1 if plain else int(case.rng.integers(1, 3 if container == "MP3" or case.chance(0.6) else 9))
        )
        length = 500 if plain else random_length(case, rate, channels)
        samples = samples_of(case, value or case.pick(VALUES), length, channels)
        if value in ("nan", "inf", "huge"):
            container, subtype = "WAV", case.pick(("FLOAT", "DOUBLE"))
            if value != "huge" and length:
                samples[case.rng.integers(length)] = {"nan": np.nan, "inf": -np.inf}[value]
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("wb") as file:
                form = "OGG" if container == "OPUS" else container
                soundfile.write(file.fileno(), samples, rate, subtype, format=form, closefd=False)
        except soundfile.LibsndfileError:  # libsndfile has no such combination
            continue
        return f"{container.lower()} {subtype}"


def write_container(case: Case, path: Path, suffix: str) -> tuple[str, bool | None]:
    """Write a file that PyAV reads, of random form; gives its kind, and whether it must be usable."""
    import av

    form, codecs = CODECS[suffix]
    while True:
        codec, rate = case.pick(codecs), case.pick((8000, 16_000, 44_100, 48_000))
        channels = case.pick({"aac": (1, 2, 6, 8), "flac": (1, 2, 6, 8), "ac3": (2, 6)}.get(codec, (1, 2)))
        length = max(1, random_length(case, rate, channels) + case.pick((0, 2 * PRIMING)))
        pictures = suffix in (".mp4", ".mov", ".mkv", ".avi", ".ts") and case.chance(0.3)
        count = int(case.rng.integers(1, 6)) if suffix == STEM_FILE_SUFFIX else case.pick((1, 1, 1, 2))
        count *= not (pictures and case.chance(0.3))
        try:
            with av.open(str(path), "w", format=form) as container:
                if pictures:
                    video = container.add_stream("mpeg4", rate=24)
                    video.width = video.height = 64
                streams = [
                    container.add_stream(codec, rate=rate, layout=LAYOUTS[channels]) for _ in range(count)
                ]
                for stream in streams:
                    value = case.pick(("noise", "sine", "quiet", "silent", "full", "impulse"))
                    samples = samples_of(case, value, length, channels).astype(np.float32)
                    frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), "flt", LAYOUTS[channels])
                    frame.sample_rate, frame.pts = rate, 0
                    container.mux(stream.encode(frame))
                    container.mux(stream.encode(None))
                if pictures:
                    picture = av.VideoFrame.from_ndarray(np.zeros((96, 64), np.uint8), "yuv420p")
                    container.mux(video.encode(picture))
                    container.mux(video.encode(None))
        except av.FFmpegError:  # the encoder has no such rate
            continue
        kind = f"{suffix[1:]} {codec if count else 'mute'}{' video' if pictures else ''}"
        if not count:
            return kind, False
        if length < 2 * PRIMING:  # the headers of some of these formats hold nothing so short
            return kind, None
        check_container(case, path, length, rate)
        return kind, True


def check_container(case: Case, path: Path, length: int, rate: int) -> None:
    """Whether a file is read with all its samples, and not many more."""
    try:
        samples, read_rate = audio.read(path)
    except audio.AudioError as error:
        case.problems.append(f"{error}, and should be")
        return
    read = len(samples) * rate / read_rate  # Opus knows 48 kHz only
    if not length - 256 <= read <= length + PRIMING:  # AC-3 leaves out so many at the end
        case.problems.append(f"{path.name!r}: {read} samples are read, {length} were written")


def write_any(case: Case) -> tuple[Path, str, bool | None]:
    """Write a file of any format; gives it, its kind, and whether it must be usable."""
    if importlib.util.find_spec("av") and case.chance(0.35):
        suffix = case.pick(list(CODECS))
        path = case.inputs / f"song{suffix}"
        kind, usable = write_container(case, path, suffix)
        return path, kind, usable
    container = case.pick([*CONTAINERS, "WAV", "WAV", "FLAC"])
    suffixes: tuple[str, ...] = SUFFIXES_OF.get(container, (f".{container.lower()}",))
    if case.chance(0.1):  # libsndfile goes by the content
        suffixes = LIBSNDFILE_SUFFIXES
    path = case.inputs / f"song{case.pick(suffixes)}"
    return path, write_sound(case, path, container), True


def damage(case: Case, path: Path) -> str:
    """Damage a file; gives how."""
    content = bytearray(path.read_bytes())
    how = case.pick(
        ("truncated", "bit flips", "zeroed", "header", "header", "tail", "inserted", "appended")
    )
    if not content:
        return how
    if how == "truncated":
        del content[case.rng.integers(len(content)) :]
    elif how == "bit flips":
        for place in case.rng.integers(len(content), size=case.rng.integers(1, 50)):
            content[place] ^= 1 << int(case.rng.integers(8))
    elif how == "zeroed":
        start = int(case.rng.integers(len(content)))
        count = min(int(case.rng.integers(1, 4000)), len(content) - start)
        content[start : start + count] = bytes(count)
    elif how in ("header", "tail"):  # MP4's index is at the end
        most = min(len(content), 64 if how == "header" else 800)
        for place in case.rng.integers(most, size=case.rng.integers(1, 5)):
            content[place if how == "header" else len(content) - 1 - place] = int(
                case.pick((0, 1, 127, 128, 255, case.rng.integers(256)))
            )
    else:
        start = len(content) if how == "appended" else int(case.rng.integers(len(content)))
        content[start:start] = case.rng.bytes(int(case.rng.integers(1, 3000)))
    path.write_bytes(content)
    return how


def add_song(case: Case) -> None:
    """The song that a case is about."""
    case.inputs.mkdir()
    kind = case.pick(
        ("good",) * 6
        + ("damaged",) * 5
        + ("values", "content", "name", "name", "name", "folder", "missing", "link", "pattern")
    )
    path = case.inputs / f"song{case.pick(audio.SUFFIXES)}"
    usable: bool | None = True
    files: tuple[Path, ...] | None = None
    if kind == "good":
        path, form, usable = write_any(case)
        kind = f"good: {form}"
    elif kind == "damaged":
        written, form, usable = write_any(case)
        kind = f"damaged: {form.split()[0]}, {damage(case, written)}"
        path = written.rename(path) if case.chance(0.1) else written
        usable = None
    elif kind == "values":
        value = case.pick(("nan", "inf", "huge", "huge"))
        path = path.with_suffix(".wav")
        write_sound(case, path, value=value)
        kind, usable = f"values: {value}", None
    elif kind == "content":
        content = case.pick(
            (
                b"",
                b"text, not sound\n" * 40,
                bytes(5000),
                b"RIFF",
                b"fLaC",
                b"OggS",
                b"ID3",
                b"\x1aE\xdf\xa3",
            )
        )
        if case.chance(0.4):
            content = content[:4] + case.rng.bytes(int(case.rng.integers(1, 5000)))
        path.write_bytes(content)
        usable = None  # libsndfile takes some random bytes for MP3
    elif kind == "name":
        path = case.inputs / str(case.pick(NAMES))
        usable = write_named(case, path)
    elif kind == "folder":
        kind, path, usable = make_folder(case, path)
    elif kind == "missing":
        usable = False
    elif kind == "pattern":
        path, files = make_pattern(case)
        usable = files is None or len(files) > 0
        files = files or None
    else:
        path, target = path.with_suffix(".wav"), case.inputs / "target.wav"
        if case.chance(0.7):
            write_sound(case, target, plain=True)
        else:
            usable = False
        path.symlink_to(target if case.chance(0.8) else path)
        usable = usable if path.exists() else False
    case.kinds.append(kind)
    case.songs.append(Song(path, kind, usable, files))


def write_named(case: Case, path: Path) -> bool | None:
    """Write a sound under a name of its own; gives whether it must be usable."""
    suffix = path.suffix.lower()
    try:
        if suffix not in containers.SUFFIXES:
            plain = case.chance(0.5)
            write_sound(case, path, "WAV" if plain else case.pick(list(CONTAINERS)), plain=plain)
            return True
        if importlib.util.find_spec("av"):
            return write_container(case, path, suffix)[1]
    except OSError:  # too long for the file system
        pass
    return False


def make_folder(case: Case, path: Path) -> tuple[str, Path, bool | None]:
    """A folder of songs, a file that cannot be read, or a folder of none; gives its kind and what it is."""
    path.mkdir()
    if case.chance(0.5):
        for name in ("a.wav", "deep/b.flac", "deep/deep/ü.WAV", "deep/c.opus", "d.W64"):
            write_sound(case, path / name, plain=True)
        if importlib.util.find_spec("av") and case.chance(0.5):
            write_container(case, path / "deep" / f"s{STEM_FILE_SUFFIX}", STEM_FILE_SUFFIX)
            return "folder", path, None
        (path / "c.wav").mkdir()
        (path / "deep" / "notes.txt").write_text("not sound")
        return "folder", path, True
    if case.chance(0.5):
        (path / "notes.txt").write_text("not sound")
        return "folder of no audio", path, False
    path = path / "x.wav"
    write_sound(case, path, plain=True)
    if not os.geteuid():
        return "folder", path, True
    path.chmod(0)
    return "unreadable", path, False


def make_pattern(case: Case) -> tuple[Path, tuple[Path, ...] | None]:
    """A pattern, and the files that it must match; none for a name that only looks like one."""
    folder = case.inputs / "album"
    for name in ("a.wav", "b.wav", "c d.flac", "deep/e.wav", "a[1].wav", "a1.wav"):
        write_sound(case, folder / name, plain=True)
    patterns: dict[str, tuple[str, ...] | None] = {
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
    pattern = case.pick(list(patterns))
    matches = patterns[pattern]
    return folder / pattern, None if matches is None else tuple(folder / name for name in matches)


def add_options(case: Case) -> None:
    """Random options."""
    add_encoding(case)
    if case.chance(0.2):
        case.stems = case.pick((("vocals",), ("no_vocals",), ("no_vocals", "vocals")))
        case.options += ["--stems", ",".join(case.stems)]
    elif case.chance(0.1):
        case.options += ["--two-stems", "vocals"]
    if case.chance(0.25):
        case.filename = case.pick(FILENAMES)
        case.options += ["--filename", case.filename]
    if case.chance(0.3):
        case.clip_mode = case.pick(separate.CLIP_MODES)
        case.options += ["--clip-mode", case.clip_mode]
        case.kinds.append(f"--clip-mode {case.clip_mode}")
    add_settings(case)
    add_part(case)
    if case.chance(0.25):
        case.jobs = int(case.rng.integers(1, 4))
        case.options += [case.pick(("-j", "--jobs")), str(case.jobs)]
        case.kinds.append(f"-j {case.jobs}")
    if case.chance(0.4):
        names = ("report.json",) * 8 + ("new/deep/report.json", "in")
        case.report = case.folder / case.pick(names)
        case.options += ["--json", str(case.report)]
        case.kinds.append("--json")
    case.skip_existing = case.chance(0.2)
    case.options += ["--skip-existing"] * case.skip_existing
    case.relative = case.chance(0.2)
    case.kinds += ["relative names"] * case.relative
    if case.chance(0.07):
        add_wrong_option(case)


def add_encoding(case: Case) -> None:
    """Random options of the outputs' encoding."""
    if case.chance(0.6):
        case.container = case.pick(("wav", "flac", "ogg", "mp3"))
        case.options.append(f"--{case.container}")
    lossless = case.container in ("wav", "flac")
    if case.chance(0.7):
        samples = ("int16", "int24", "float32") if case.container == "wav" else ("int16", "int24")
        case.sample = case.pick(samples) if lossless else None
        if case.chance(0.02):
            case.sample = "float32"
            case.usage_error |= case.container != "wav"
        if case.sample:
            case.options.append(f"--{case.sample}")
    if lossless and not case.sample:
        case.sample = "int16"
    if case.chance(0.02 if lossless else 0.5):
        case.bitrate = int(case.pick((7, 8, 31, 32, 64, 65, 100, 128, 160, 161, 320, 321, 500, 501)))
        case.options += ["--bitrate", str(case.bitrate)]
        low, high = BIT_RATES.get(case.container, (1, 0))
        wrong = not low <= case.bitrate <= high
        case.usage_error |= wrong
        case.kinds.append("usage: --bitrate" if wrong else f"--bitrate {case.container}")


def add_settings(case: Case) -> None:
    """Random options of the separation."""
    case.settings = {
        "overlap": 0.25,
        "shifts": 1,
        "batch_size": 8,
        "device": None,
        "dtype": None,
    }
    chosen: dict[str, Any] = {}
    if case.chance(0.6):
        chosen["overlap"] = case.pick((0, 0.1, 0.25, 0.5, 0.75, 0.9))
    if case.chance(0.6):
        chosen["batch_size"] = case.pick(BATCH_SIZES)
    if case.chance(0.2):
        chosen["shifts"] = int(case.rng.integers(1, 4))
        case.kinds.append(f"--shifts {chosen['shifts']}")
    if case.chance(0.1):
        chosen["dtype"] = case.pick(("float32", "bfloat16"))
        case.kinds.append(f"--dtype {chosen['dtype']}")
    for name, value in chosen.items():
        case.options += [f"--{name.replace('_', '-')}", str(value)]
    case.settings |= chosen


def add_part(case: Case) -> None:
    """Random options of the part that is separated."""
    song = sound_of(case.songs[0].path)
    seconds, step = (len(song.samples) / song.rate, 1 / song.rate) if song else (1.0, 1.0)
    if case.chance(0.15):
        starts = (
            0.0,
            step / 2,
            seconds / 10,
            seconds / 2,
            seconds / 2,
            seconds - step,
            seconds,
            99.0,
            1e308,
        )
        text, case.start = time_of(case, max(0.0, case.pick(starts)))
        case.options.append(f"--start={text}")
        case.kinds.append("--start")
    if case.chance(0.15):
        durations = (1e-9, step, seconds / 3, seconds / 2, seconds, 99.0, 1e308)
        text, case.duration = time_of(case, case.pick(durations) or 1.0)
        case.options.append(f"--duration={text}")
        case.kinds.append("--duration")


def time_of(case: Case, seconds: float) -> tuple[str, float]:
    """A time as text of some form, and the seconds that the text says."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    forms = [(repr(seconds), seconds)]
    if seconds < 1e6:
        forms.append((f"{60 * hours + minutes:g}:{rest!r}", 60 * (60 * hours + minutes) + rest))
        forms.append((f"{hours:.0f}:{minutes:02.0f}:{rest!r}", 60 * (60 * hours + minutes) + rest))
    return case.pick(forms)


def add_wrong_option(case: Case) -> None:
    """An option that is none, or does not go with the others."""
    wrong: list[list[str]] = [["--overlap", x] for x in ("1", "-0.1", "nan", "x")]
    wrong += [["--batch-size", x] for x in ("0", "-3", "1.5")] + [["--shifts", x] for x in ("0", "-1", "x")]
    wrong += [["--stems", x] for x in ("", "drums", "vocals,")]
    wrong += [["--filename", x] for x in BAD_FILENAMES] + [["-d", "abacus"], ["--wav", "--mp3"]]
    wrong += [["--clip-mode", "limit"], ["--dtype", "float16"], ["--jobs", "0"], ["-j", "x"]]
    wrong += [["--two-stems", "no_vocals"], ["--two-stems", "vocals", "--stems", "vocals"]]
    wrong += [["--bitrate", x] for x in ("x", "0", "-1", "1000")] + [
        ["--duration", x] for x in ("0", "0:0")
    ]
    wrong += [[f"{name}={x}"] for name in ("--start", "--duration") for x in BAD_TIMES]
    places = ("missing", "x" * 300, "a file", "an empty folder", "~nobody-of-this-name/run", "damaged", "")
    wrong += [["--checkpoint", x] for x in places] + [["--json", ""], ["--json", "the song"]]
    extra = list(case.pick(wrong))
    case.kinds.append("usage: " + " ".join(extra)[:60])
    if extra == ["--json", "the song"]:
        song = case.songs[0].path
        extra[1] = str(case.shown(song)) if song.is_file() else ""
    case.usage_error = True
    if extra == ["--filename", "{track}"]:
        extra += ["--stems", "vocals,no_vocals"]
    elif extra[0] == "--checkpoint" and extra[1] and extra[1][0] != "~":
        extra[1] = str(make_no_checkpoint(case, extra[1]))
    case.options += extra


def make_no_checkpoint(case: Case, what: str) -> Path:
    """What is no run."""
    path = case.inputs / "not a run" / what
    if what in ("an empty folder", "damaged"):
        path.mkdir(parents=True)
    if what == "damaged":
        (path / "config.json").write_text(
            case.pick(("", "{", "[]", '{"config": {}}', '{"config": {"audio": 3}}'))
        )
    if what == "a file":
        path.parent.mkdir()
        path.write_text("not a run")
    return path


def arrange(case: Case) -> None:
    """What is around the songs: another song, the same one again, and where the outputs go."""
    if case.chance(0.4):
        path = case.inputs / "good.wav"
        write_sound(case, path, plain=True)
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
        with contextlib.suppress(OSError, *FORMAT_ERRORS):
            (output_of(case, song.stem, case.pick(case.stems))).mkdir(parents=True)
    elif around == "full disk":
        case.file_limit = int(case.pick((0, 1, 43, 44, 500, 4096, 30_000)))
    if around != "nothing":
        case.kinds.append(around)


FORMAT_ERRORS = (KeyError, IndexError, ValueError, TypeError, AttributeError)


def output_of(case: Case, track: str, stem: str) -> Path:
    """Where the README says that an output goes."""
    return case.out / "tiny" / case.filename.format(track=track, stem=stem, ext=case.container)


def track_of(name: str) -> str:
    """A file's name without its suffix."""
    cut = len(STEM_FILE_SUFFIX)
    is_stem_file = name.lower().endswith(STEM_FILE_SUFFIX) and len(name) > cut
    return name[:-cut] if is_stem_file else Path(name).stem


def is_folder(path: Path) -> bool:
    """Whether a path of any length is a folder's."""
    with contextlib.suppress(OSError):
        return path.is_dir()
    return False


def tracks_of(song: Song) -> list[tuple[Path, str]]:
    """The files and tracks of a SONG."""
    tracks: list[tuple[Path, str]] = []
    paths = (song.path,) if song.files is None else song.files
    for path in paths:
        if not is_folder(path):
            tracks.append((path, track_of(path.name)))
            continue
        found = [p for p in sorted(path.rglob("*")) if p.suffix.lower() in audio.SUFFIXES and p.is_file()]
        tracks += [(p, (p.relative_to(path).parent / track_of(p.name)).as_posix()) for p in found]
        if not found:
            tracks.append((path, path.name))
    return tracks


@dataclass
class Called:
    """What a call left."""

    code: int
    stdout: str
    errors: list[str]


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextlib.contextmanager
def limits(seconds: int, file_size: int | None) -> Iterator[None]:
    """Bounds on time and on the size of a file; a write beyond it fails as on a full disk."""

    def stop(*_: object) -> None:
        raise TimeLimit

    before = signal.signal(signal.SIGALRM, stop)
    size = resource.getrlimit(resource.RLIMIT_FSIZE)
    faulthandler.dump_traceback_later(seconds + 60, exit=True, file=2)  # for what no signal interrupts
    signal.alarm(seconds)
    if file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, size[1]))
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_FSIZE, size)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


def call(case: Case) -> Called | None:
    """Run the command; None if it did not come back as it should."""
    songs = [str(case.shown(song.path)) for song in case.songs]
    arguments = ["--checkpoint", str(case.run), "-o", str(case.out), *case.options, "--", *songs]
    records = _Records()
    logger = logging.getLogger(separate.__name__)
    logger.addHandler(records)
    if case.report is not None and case.report.is_file():  # of the call before
        case.report.unlink()
    printed = io.BytesIO()
    stdout = io.TextIOWrapper(printed, encoding="utf-8", newline="\n")  # strict, as a terminal's is
    stderr = io.StringIO()
    code: int | None = None
    try:
        with (
            warnings.catch_warnings(record=True) as warned,
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
            contextlib.chdir(case.inputs),
            limits(TIME_LIMIT, case.file_limit),
        ):
            warnings.simplefilter("always")
            try:
                code = separate.main(arguments)
            except SystemExit as stop:  # argparse's
                code = stop.code if isinstance(stop.code, int) else -1
                records.messages.append("error: usage")
        for warning in warned:
            if "compilation cache" in str(warning.message):  # its files meet the limit on files, too
                continue
            if not issubclass(warning.category, (DeprecationWarning, ResourceWarning, FutureWarning)):
                case.problems.append(f"warning: {warning.category.__name__}: {warning.message}")
    except TimeLimit:
        case.problems.append(f"took more than {TIME_LIMIT} s")
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        case.problems.append(f"escaped: {type(error).__name__}: {error} ({where})")
    finally:
        logger.removeHandler(records)
    if code is None:
        return None
    stdout.flush()
    text = printed.getvalue().decode("utf-8", "surrogateescape")
    return Called(code, text, records.messages)


@dataclass
class Sound:
    """What a file holds, read at once: float32 `[S, C]` and what is to be known of it."""

    samples: np.ndarray
    rate: int
    subtype: str

    @property
    def channels(self) -> int:
        """C."""
        return self.samples.shape[1]


def by_libsndfile(path: Path) -> Sound | None:
    """What libsndfile reads of a file; None if it cannot."""
    try:
        with path.open("rb") as file, soundfile.SoundFile(file.fileno(), closefd=False) as sound:
            frames = min(sound.frames, 2**22)  # a damaged header may promise any number
            samples = sound.read(frames, dtype="float32", always_2d=True)
            return Sound(samples, sound.samplerate, sound.subtype)
    except (soundfile.SoundFileError, OSError, ValueError, MemoryError, AssertionError):
        return None


def by_pyav(path: Path) -> Sound | None:
    """What PyAV reads of the first audio stream of a file; None if it cannot."""
    try:
        import av

        with av.open(f"file:{path}", metadata_errors="replace") as container:
            stream = container.streams.audio[0]
            floats = av.AudioResampler("flt", stream.layout, stream.rate)
            frames = [f.to_ndarray() for frame in container.decode(stream) for f in floats.resample(frame)]
            samples = np.concatenate(frames, axis=1).reshape(-1, stream.channels)
            return Sound(samples, stream.rate, stream.codec.name)
    except Exception:  # a damaged file can raise anything
        return None


def sound_of(path: Path) -> Sound | None:
    """What is read of an input by another way than the project's; None if nothing is."""
    return by_pyav(path) if path.suffix.lower() in containers.SUFFIXES else by_libsndfile(path)


def in_blocks(path: Path) -> np.ndarray | None:
    """What the project reads of a file."""
    try:
        with audio.Reader(path) as reader:
            return np.concatenate(list(reader.blocks()))
    except audio.AudioError:
        return None


def part_of(case: Case, sound: Sound) -> np.ndarray:
    """The part of a sound that the options ask for, `[S, C]`."""
    first = min(case.start * sound.rate, 1e18)
    count = math.inf if case.duration is None else max(1, round(min(case.duration * sound.rate, 1e18)))
    return sound.samples[round(first) : int(min(round(first) + count, 1e18))]


@dataclass
class Expected:
    """What the outputs of a sound are to be.

    Attributes:
      stems: float64 `[S, C]` each, before they are rounded and cut off.
      scale: what they were multiplied by.
      error: how far they may be off, from other orders of the same sums.
    """

    stems: dict[str, np.ndarray]
    scale: float
    error: float

    def peak(self, stems: tuple[str, ...]) -> float:
        """The largest sample of some stems."""
        return max(float(np.abs(self.stems[stem]).max()) for stem in stems)


def full_scale(case: Case) -> float:
    """The largest sample that rescaled stems may have."""
    return 1 - 2.0 ** (1 - case.bits) if case.bits else 1.0


def expected_of(case: Case, mixture: np.ndarray, rate: int) -> Expected | None:
    """What the outputs are to be, from the stems of the whole array; None if it cannot be separated."""
    try:
        stems = separate.Separator(str(case.run), **case.settings).separate(mixture, rate)
    except ValueError:
        return None
    exact = {stem: samples.astype(np.float64) for stem, samples in stems.items()}
    error = (0.05 if case.settings["dtype"] == "bfloat16" else 2e-5) * float(np.abs(mixture).max())
    result = Expected(exact, 1.0, error)
    peak = result.peak(separate.STEMS)
    if case.clip_mode == "rescale" and peak > full_scale(case):
        result.scale = full_scale(case) / peak
        result.stems = {stem: samples * result.scale for stem, samples in exact.items()}
    return result


def holds(case: Case, rate: int, channels: int) -> bool | None:
    """Whether the outputs' container holds such sound; None where the encoder is to say."""
    if case.container == "mp3":
        rates = next(rates for lowest, rates in MP3_BIT_RATES.items() if rate >= lowest)
        if channels > 2 or rate > 48_000 or not rates[0] <= (case.bitrate or rates[0]) <= rates[-1]:
            return False
        return rate in MP3_RATES or None
    if case.container == "ogg":
        return rate in RATES[3:8] or None
    return case.container == "wav" or (channels <= 8 and rate <= 655_350)


def check(case: Case, called: Called, before: dict[Path, int]) -> None:
    """Add what is wrong with a call to `case.problems`; `before`: files there were, and when written."""
    wrong = case.problems.append
    if called.code not in (0, 1, 2):
        wrong(f"exit code {called.code}")
    errors = [e for e in called.errors if not e.endswith("songs failed")]
    for error in errors:
        if len(error.splitlines()) != 1 or not error.startswith("error: ") or len(error) > 3000:
            wrong(f"not one line: {error!r}")
    there = [p for p in case.out.rglob("*") if p.is_file()] if case.out.is_dir() else []
    written = {p for p in there if before.get(p) != p.stat().st_mtime_ns}
    outside = set(case.folder.iterdir()) - {case.out, case.inputs}
    if case.report is not None and called.code != 2:
        outside -= {case.folder / case.report.relative_to(case.folder).parts[0]}
    if outside:
        wrong(f"written outside of OUT: {outside}")
    if any(p.suffix == ".partial" for p in case.folder.rglob("*")):
        wrong("a .partial is left")
    for path in there:
        if by_libsndfile(path) is None:
            wrong(f"unreadable output {path.name!r}")
    if case.usage_error != (called.code == 2):
        wrong(f"exit code {called.code}, {'wrong' if case.usage_error else 'right'} usage, {errors}")
    if called.code == 2:
        if written or called.stdout or len(errors) != 1:
            wrong(f"exit code 2 with outputs or {len(errors)} errors: {errors}")
        return
    if bool(errors) != (called.code == 1):
        wrong(f"exit code {called.code} with {len(errors)} errors")
    texts: list[str] = []
    taken: set[Path] = set()
    results: list[Result] = []
    usable = {named: song.usable for song in case.songs for named in tracks_of(song)}  # each once
    for (path, track), may_be_done in usable.items():
        result = check_track(case, called, may_be_done, path, track, taken, before, written)
        results.append(result)
        if result.status == "done":
            texts.append("".join(f"{output}\n" for output in result.outputs.values()))
    printed = "".join(texts)
    if (case.jobs == 1 and printed != called.stdout) or len(printed) != len(called.stdout):
        wrong(f"printed {called.stdout!r}, which is not {printed!r}")
    if case.report is not None:
        check_report(case, case.report, errors, results)


@dataclass
class Result:
    """What became of a track: as the report has it, and what its outputs were to be."""

    path: Path
    status: str
    outputs: dict[str, Path]
    expected: Expected | None = None
    rate: int = 0


def check_track(
    case: Case,
    called: Called,
    usable: bool | None,
    path: Path,
    track: str,
    taken: set[Path],
    before: dict[Path, int],
    written: set[Path],
) -> Result:
    """Check what became of a track; `taken` are the outputs of those before, and then of it, too."""
    wrong = case.problems.append
    outputs = {stem: output_of(case, track, stem) for stem in case.stems}
    result = Result(path, "failed", outputs)
    said = any(
        plain(str(p)) in plain(e) for p in (case.shown(path), *outputs.values()) for e in called.errors
    )
    if any(".." in output.parts[len(case.out.parts) :] for output in outputs.values()):  # of `...wav`
        if not said:
            wrong(f"{path.name!r} is to be written outside of OUT, and nothing was said")
        return result
    if taken & set(outputs.values()):
        if not said:
            wrong(f"{path.name!r} was to overwrite another's output, and nothing was said")
        return result
    if not is_folder(path):
        taken |= set(outputs.values())
    must = must_succeed(case, usable, path, outputs)
    if "".join(f"{output}\n" for output in outputs.values()) in called.stdout:
        result.status = "done"
        if must is False:
            wrong(f"{path.name!r} was to fail and has outputs")
        if missing := [stem for stem, output in outputs.items() if output not in written]:
            wrong(f"{missing} of {path.name!r} are said to be written and are not")
        else:
            check_outputs(case, usable, result)
        return result
    if any(output in written for output in outputs.values()):
        wrong(f"outputs of {path.name!r} written, and not said so; {called.errors}")
    if case.skip_existing and all(output in before for output in outputs.values()):
        result.status = "skipped"
        return result
    if not said:
        wrong(f"{path.name!r}: neither written nor named in an error: {called.errors}")
    if must:
        wrong(f"{path.name!r} is good and failed: {called.errors}")
    return result


def must_succeed(case: Case, usable: bool | None, path: Path, outputs: dict[str, Path]) -> bool | None:
    """Whether a song must be separated (True), must fail (False), or may do either."""
    if usable is False or case.out.is_file() or any(map(is_folder, outputs.values())):
        return False
    if any(len(os.fsencode(part)) > 255 for output in outputs.values() for part in output.parts):
        return False
    sound = sound_of(path)
    if usable is None or sound is None or case.file_limit is not None:
        return None
    part = part_of(case, sound)
    if not len(part) or not np.isfinite(part).all():
        return False
    fits = holds(case, sound.rate, sound.channels)
    if fits and case.clip_mode == "none" and case.sample != "float32":
        expected = expected_of(case, part, sound.rate)
        if expected is None:
            return False
        margin = expected.error + (2.0 ** (2 - case.bits) if case.bits else 0.0)
        beyond = expected.peak(case.stems) - full_scale(case)
        return None if abs(beyond) <= margin else beyond < 0
    return fits


def plain(text: str) -> str:
    """The letters and digits of a message: names may stand in it with escapes for odd characters."""
    escaped = text.encode("unicode_escape", "surrogatepass").decode("ascii")
    return "".join(c for c in escaped if c.isalnum())


def check_outputs(case: Case, usable: bool | None, result: Result) -> None:
    """Compare the outputs of a song with it, and note what they were to be."""
    wrong, path = case.problems.append, result.path
    blocks, sound = in_blocks(path), sound_of(path)
    before_damage = blocks is not None or case.duration is not None
    if usable is None and sound is None and before_damage:
        return
    if sound is None:
        wrong(f"{path.name!r} cannot be read, and has outputs")
        return
    allowed = 1e-4 * (sound.subtype in LOSSY)
    if usable and (blocks is None or not np.allclose(blocks, sound.samples, rtol=0, atol=allowed)):
        wrong(f"{path.name!r}: reading in blocks gives something else than reading at once")
    if blocks is not None:
        sound.samples = blocks
    mixture = part_of(case, sound)
    stems = {}
    subtype = SUBTYPES.get(
        case.sample or "", {"ogg": "VORBIS", "mp3": "MPEG_LAYER_III"}.get(case.container)
    )
    for stem, output in result.outputs.items():
        written = by_libsndfile(output)
        if written is None:
            return  # reported already
        stems[stem] = written.samples
        if (written.rate, written.channels) != (sound.rate, sound.channels):
            wrong(
                f"{stem}: {written.rate} Hz, {written.channels} channels of {sound.rate}, {sound.channels}"
            )
        if written.subtype != subtype:
            wrong(f"{stem}: subtype {written.subtype}, not {subtype}")
        if not np.isfinite(written.samples).all():
            wrong(f"{stem} is not finite")
        length = len(written.samples)
        if length < len(mixture) or (length > len(mixture) and case.container != "mp3"):
            wrong(f"{stem}: {length} samples, not {len(mixture)}")
        if (
            not mixture.any()
            and len(mixture)
            and np.abs(written.samples).max(initial=0) > (0 if case.sample else 1e-3)
        ):
            wrong(f"{stem} of silence is not silent")
        if case.container == "mp3" and case.bitrate:
            check_bitrate(case, case.bitrate, output, sound.rate)
    if not len(mixture) or not all(len(s) >= len(mixture) for s in stems.values()):
        return
    result.rate, result.expected = sound.rate, expected_of(case, mixture, sound.rate)
    if result.expected is None:
        wrong(f"{path.name!r} cannot be separated at once, and has outputs")
    elif case.sample and all(s.shape == mixture.shape for s in stems.values()):
        check_stems(case, path, stems, result.expected)
        if len(stems) == 2 and result.expected.scale == 1:
            exact = [s.astype(np.float64) for s in stems.values()]
            check_sum(case, path, mixture, exact, sound.subtype)


def check_stems(case: Case, path: Path, stems: dict[str, np.ndarray], expected: Expected) -> None:
    """Whether lossless stems are what they are to be, within rounding."""
    step = 2.0 ** (1 - case.bits) if case.bits else 0.0
    top = 1 - step if case.bits else math.inf
    for stem, samples in stems.items():
        error = np.abs(samples - np.clip(expected.stems[stem], -1 if case.bits else -math.inf, top)).max()
        if error > 1.001 * step + expected.error:
            case.problems.append(
                f"{path.name!r}: {stem} is off by {error:.3g} (scale {expected.scale:.3g})"
            )
    if case.clip_mode == "rescale" and max(np.abs(s).max() for s in stems.values()) > 1:
        case.problems.append(f"{path.name!r}: a rescaled stem is beyond full scale")


def check_bitrate(case: Case, asked: int, output: Path, rate: int) -> None:
    """Whether an MP3 file has the bit rate that was asked for, or one beside it.

    FFmpeg takes no file of a frame or two for MP3.
    """
    import av

    with contextlib.suppress(av.EOFError), av.open(f"file:{output}") as file:
        written = file.streams.audio[0].codec_context.bit_rate / 1000
        rates = next(rates for lowest, rates in MP3_BIT_RATES.items() if rate >= lowest)
        below = max(r for r in rates if r <= asked)
        above = min(r for r in rates if r >= asked)
        if not below <= written <= above:
            case.problems.append(f"{output.name!r} has {written} kbit/s, not {asked}")


def check_report(case: Case, path: Path, errors: list[str], results: list[Result]) -> None:
    """Whether the report says what happened."""
    wrong = case.problems.append
    if not path.is_file():
        if case.file_limit is None and not path.is_dir():
            wrong("there is no report")
        if not any(plain(str(path)) in plain(e) for e in errors):
            wrong(f"there is no report, and nothing was said: {errors}")
        return
    entries = json.loads(path.read_text(), parse_constant=lambda name: wrong(f"the report holds {name}"))[
        "songs"
    ]
    if [entry["song"] for entry in entries] != [str(case.shown(result.path)) for result in results]:
        wrong(f"the report has other songs: {entries}")
        return
    for entry, result in zip(entries, results, strict=True):
        name = result.path.name
        if entry["status"] != result.status:
            wrong(f"{name!r} is {result.status}, in the report {entry}")
        elif result.status == "failed":
            if f"error: {entry['error']}" not in errors:
                wrong(f"{name!r}: {entry['error']!r} in the report, and not in {errors}")
        elif entry["outputs"] != {stem: str(output) for stem, output in result.outputs.items()}:
            wrong(f"{name!r}: other outputs in the report: {entry}")
        elif result.status == "done" and result.expected:
            check_entry(case, entry, result, result.expected)


def check_entry(case: Case, entry: dict[str, Any], result: Result, expected: Expected) -> None:
    """Whether the report is right about a song that was separated."""
    wrong, name = case.problems.append, result.path.name
    shape = entry["samples"], entry["channels"]
    if shape != expected.stems["vocals"].shape or entry["sample_rate"] != result.rate:
        wrong(f"{name!r} has another form in the report: {entry}")
    if abs(entry["scale"] / expected.scale - 1) > 0.1 * (case.settings["dtype"] == "bfloat16") + 1e-4:
        wrong(f"{name!r} is scaled by {entry['scale']}, not {expected.scale}")
    margin = expected.error + (2.0 ** (2 - case.bits) if case.bits else 0.0)
    beyond = expected.peak(case.stems) - full_scale(case)
    holds_all = case.sample == "float32" or case.clip_mode != "clamp"
    if entry["clipped_samples"] and (holds_all or beyond < -margin):
        wrong(f"{name!r}: {entry['clipped_samples']} samples are said to be clipped")
    if not entry["clipped_samples"] and not holds_all and beyond > margin:
        wrong(f"{name!r}: clipped samples are not counted")


def check_sum(case: Case, path: Path, mixture: np.ndarray, stems: list[np.ndarray], subtype: str) -> None:
    """Whether the stems sum to the mixture, where they do not clip."""
    error = np.abs(sum(stems) - mixture.astype(np.float64))
    if case.sample == "float32":
        allowed = 1e-6 * max(1.0, float(np.abs(mixture).max()))
    else:
        bits = 16 if case.sample == "int16" else 24
        full = 2.0 ** (bits - 1)
        inside = np.all([(s > -1) & (s < 1 - 1 / full) for s in stems], axis=0)
        error = error[inside]
        allowed = (0 if BITS.get(subtype, 99) <= bits else 1) / full
    if error.size and error.max() > allowed:
        case.problems.append(
            f"{path.name!r}: the stems sum to it within {error.max():.3g}, not {allowed:.3g}"
        )


def run_case(seed: int, run: Path, folder: Path) -> Case:
    """Make, run and check one case; `folder` is not there yet."""
    folder.mkdir()
    case = Case(np.random.default_rng(seed), folder, run)
    add_song(case)
    add_options(case)
    arrange(case)
    blocks = audio._BLOCK, streaming._BLOCK
    audio._BLOCK, streaming._BLOCK = case.pick((blocks, blocks, (1000, 1000), (333, 64), (21, 65_536)))
    before: dict[Path, int] = {}
    try:
        called = call(case)
        if called is not None:
            check(case, called, before)
        if (
            called is not None and case.out.is_dir() and case.chance(0.2)
        ):  # the same again, on what is there
            case.kinds.append("again")
            if case.chance(0.3) and not case.usage_error:
                gone = case.songs[int(case.rng.integers(len(case.songs)))]
                is_file = gone.path.is_file() or gone.path.is_symlink()
                if is_file and "[" not in gone.path.name:  # which would be a pattern then, of another file
                    gone.path.unlink()
                    gone.usable = False
            before = {p: p.stat().st_mtime_ns for p in case.out.rglob("*") if p.is_file()}
            if (called := call(case)) is not None:
                check(case, called, before)
    finally:
        audio._BLOCK, streaming._BLOCK = blocks
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                path.chmod(0o600)
        shutil.rmtree(folder)
    return case


@contextlib.contextmanager
def one_network() -> Iterator[None]:
    """Networks are loaded and compiled once for all cases that use the same options."""
    original = separate.Separator
    loaded: dict[Any, separate.Separator] = {}
    programs: dict[str, Any] = {}

    def separator(checkpoint: str, **settings: Any) -> separate.Separator:
        key = checkpoint, *settings.items()
        if key not in loaded:
            loaded[key] = original(checkpoint, **settings)
            loaded[key]._apply = programs.setdefault(settings["dtype"] or "float32", loaded[key]._apply)
        return loaded[key]

    separate.Separator = separator  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        separate.Separator = original  # type: ignore[misc]


def fuzz(
    count: int, seed: int, folder: Path, report: Callable[[int, Case], None] | None = None
) -> tuple[collections.Counter[str], list[str]]:
    """Run `count` cases from `seed` on.

    Returns:
      How many cases there were of each kind, and what was broken.
    """
    run = make_run(folder / "runs" / "tiny")
    kinds: collections.Counter[str] = collections.Counter()
    broken = []
    with one_network():
        for number in range(seed, seed + count):
            case = run_case(number, run, folder / f"case {number}")
            kinds.update(case.kinds)
            broken += [f"seed {number} ({', '.join(case.kinds)}): {problem}" for problem in case.problems]
            if report:
                report(number, case)
    return kinds, broken


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=2000, help="cases (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first case (%(default)s)")
    options = parser.parse_args()
    logging.getLogger().addHandler(logging.NullHandler())  # the command's messages are looked at, not shown

    def report(number: int, case: Case) -> None:
        for problem in case.problems:
            print(f"seed {number} ({', '.join(case.kinds)}): {problem!r} {case.options}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        kinds, broken = fuzz(options.count, options.seed, Path(folder), report)
    for kind, number in sorted(kinds.items()):
        print(f"{number:6}  {kind}")
    print(f"{options.count} cases, {len(broken)} violations")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
