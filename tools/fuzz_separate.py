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
import copy
import faulthandler
import functools
import io
import logging
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

from vocalsep_jax import audio, runs, separate, spectral, streaming

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
}
VALUES = ("noise", "sine", "quiet", "silent", "full", "beyond", "denormal", "impulse")
BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24}
LOSSY = ("VORBIS", "MPEG_LAYER_III")
SUBTYPES = {"int16": "PCM_16", "int24": "PCM_24", "float32": "FLOAT"}
MP3_RATES = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
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
TIME_LIMIT = 30


class TimeLimit(BaseException):
    """A case took too long; nothing may take it for an error of its own."""


@dataclass
class Song:
    """A SONG of the command line.

    Attributes:
      path: its file or folder.
      kind: for the counts.
      usable: whether it must be separated; None where that is for libsndfile to say.
    """

    path: Path
    kind: str
    usable: bool | None


@dataclass
class Case:
    """One call of the command, and what is known of it."""

    rng: np.random.Generator
    folder: Path
    kinds: list[str] = field(default_factory=list)
    songs: list[Song] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    usage_error: bool = False
    container: str = "wav"
    sample: str | None = None
    stems: tuple[str, ...] = separate.STEMS
    filename: str = "{track}/{stem}.{ext}"
    skip_existing: bool = False
    file_limit: int | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def out(self) -> Path:
        """The output folder."""
        return self.folder / "out"

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
    noisy = jax.tree.map(lambda x: x + 0.3 * jax.random.normal(jax.random.key(1), x.shape), state.params)
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


def write_sound(case: Case, path: Path, *, value: str | None = None, plain: bool = False) -> str:
    """Write a sound file of random form; gives its kind."""
    while True:
        container = "WAV" if plain else case.pick([*CONTAINERS, "WAV", "WAV", "FLAC"])
        subtype = "PCM_16" if plain else case.pick(CONTAINERS[container])
        rate = 8000 if plain else case.pick(MP3_RATES if container == "MP3" else RATES)
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
                soundfile.write(file.fileno(), samples, rate, subtype, format=container, closefd=False)
        except soundfile.LibsndfileError:  # libsndfile has no such combination
            continue
        return f"{container.lower()} {subtype}"


def damage(case: Case, path: Path) -> str:
    """Damage a file; gives how."""
    content = bytearray(path.read_bytes())
    how = case.pick(("truncated", "bit flips", "zeroed", "header", "header", "inserted", "appended"))
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
    elif how == "header":
        for place in case.rng.integers(min(len(content), 64), size=case.rng.integers(1, 5)):
            content[place] = int(case.pick((0, 1, 127, 128, 255, case.rng.integers(256))))
    else:
        start = len(content) if how == "appended" else int(case.rng.integers(len(content)))
        content[start:start] = case.rng.bytes(int(case.rng.integers(1, 3000)))
    path.write_bytes(content)
    return how


def add_song(case: Case) -> None:
    """The song that a case is about."""
    folder = case.folder / "in"
    folder.mkdir(exist_ok=True)
    kind = case.pick(
        ("good",) * 6
        + ("damaged",) * 5
        + ("values", "content", "name", "name", "folder", "missing", "link")
    )
    path = folder / f"song{case.pick(audio.SUFFIXES)}"
    usable: bool | None = True
    if kind == "good":
        kind = f"good: {write_sound(case, path)}"
    elif kind == "damaged":
        form, usable = write_sound(case, path), None
        kind = f"damaged: {form.split()[0]}, {damage(case, path)}"
    elif kind == "values":
        value = case.pick(("nan", "inf", "huge", "huge"))
        write_sound(case, path, value=value)
        kind, usable = f"values: {value}", None
    elif kind == "content":
        content = case.pick(
            (b"", b"text, not sound\n" * 40, bytes(5000), b"RIFF", b"fLaC", b"OggS", b"ID3")
        )
        if case.chance(0.4):
            content = content[:4] + case.rng.bytes(int(case.rng.integers(1, 5000)))
        path.write_bytes(content)
        usable = None  # libsndfile takes some random bytes for MP3
    elif kind == "name":
        path = folder / str(case.pick(NAMES))
        try:
            write_sound(case, path, plain=case.chance(0.5))
        except OSError:  # too long for the file system
            usable = False
    elif kind == "folder":
        path.mkdir()
        if case.chance(0.5):
            for name in ("a.wav", "deep/b.flac", "deep/deep/ü.WAV"):
                write_sound(case, path / name, plain=True)
            (path / "c.wav").mkdir()
            (path / "deep" / "notes.txt").write_text("not sound")
        elif case.chance(0.5):
            path = path / "x.wav"
            write_sound(case, path, plain=True)
            if os.geteuid():
                path.chmod(0)
                kind, usable = "unreadable", False
        else:
            case.usage_error = True
    elif kind == "missing":
        usable = False
    else:
        target = folder / "target.wav"
        if case.chance(0.7):
            write_sound(case, target, plain=True)
        else:
            usable = False
        path.symlink_to(target if case.chance(0.8) else path)
        usable = usable if path.exists() else False
    case.kinds.append(kind)
    case.songs.append(Song(path, kind, usable))


def add_options(case: Case) -> None:
    """Random options."""
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
    if case.chance(0.2):
        case.stems = case.pick((("vocals",), ("no_vocals",), ("no_vocals", "vocals")))
        case.options += ["--stems", ",".join(case.stems)]
    if case.chance(0.25):
        case.filename = case.pick(FILENAMES)
        case.options += ["--filename", case.filename]
    if case.chance(0.6):
        case.options += ["--overlap", str(case.pick((0, 0.1, 0.25, 0.5, 0.75, 0.9)))]
    if case.chance(0.6):
        case.options += ["--batch-size", str(case.rng.integers(1, 10))]
    case.skip_existing = case.chance(0.2)
    case.options += ["--skip-existing"] * case.skip_existing
    if case.chance(0.04):
        wrong = [["--overlap", x] for x in ("1", "-0.1", "nan", "x")]
        wrong += [["--batch-size", x] for x in ("0", "-3", "1.5")]
        wrong += [["--stems", x] for x in ("", "drums", "vocals,")]
        wrong += [["--filename", x] for x in BAD_FILENAMES] + [["-d", "abacus"], ["--wav", "--mp3"]]
        extra = case.pick(wrong)
        if extra == ["--filename", "{track}"]:
            extra = [*extra, "--stems", "vocals,no_vocals"]
        case.options += extra
        case.kinds.append("usage: " + " ".join(extra))
        case.usage_error = True


def arrange(case: Case) -> None:
    """What is around the songs: another song, the same one again, and where the outputs go."""
    if case.chance(0.4):
        path = case.folder / "in" / "good.wav"
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


def tracks_of(song: Song) -> list[tuple[Path, str]]:
    """The files and tracks of a SONG."""
    try:
        is_folder = song.path.is_dir()
    except OSError:
        is_folder = False
    if not is_folder:
        return [(song.path, song.path.stem)]
    found = [p for p in sorted(song.path.rglob("*")) if p.suffix.lower() in audio.SUFFIXES and p.is_file()]
    return [(p, p.relative_to(song.path).with_suffix("").as_posix()) for p in found]


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


def call(case: Case, run: Path) -> Called | None:
    """Run the command; None if it did not come back as it should."""
    songs = [str(song.path) for song in case.songs]
    arguments = ["--checkpoint", str(run), "-o", str(case.out), *case.options, "--", *songs]
    records = _Records()
    logger = logging.getLogger(separate.__name__)
    logger.addHandler(records)
    printed = io.BytesIO()
    stdout = io.TextIOWrapper(printed, encoding="utf-8", newline="\n")  # strict, as a terminal's is
    stderr = io.StringIO()
    code: int | None = None
    try:
        with (
            warnings.catch_warnings(record=True) as warned,
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
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


def whole(path: Path) -> tuple[np.ndarray, soundfile.SoundFile] | None:
    """What libsndfile reads of a file at once, float32 `[S, C]`, and the closed file; None if it cannot."""
    try:
        with path.open("rb") as file, soundfile.SoundFile(file.fileno(), closefd=False) as sound:
            frames = min(sound.frames, 2**22)  # a damaged header may promise any number
            return sound.read(frames, dtype="float32", always_2d=True), sound
    except (soundfile.SoundFileError, OSError, ValueError, MemoryError, AssertionError):
        return None


def in_blocks(path: Path) -> np.ndarray | None:
    """What the project reads of a file."""
    try:
        with audio.Reader(path) as reader:
            return np.concatenate(list(reader.blocks()))
    except audio.AudioError:
        return None


def holds(container: str, rate: int, channels: int) -> bool | None:
    """Whether a container holds such sound; None where the encoder is to say."""
    if container == "mp3":
        return rate in MP3_RATES or None if channels <= 2 and rate <= 48_000 else False
    if container == "ogg":
        return rate in RATES[3:8] or None
    return container == "wav" or (channels <= 8 and rate <= 655_350)


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
    outside = set(case.folder.iterdir()) - {case.out, case.folder / "in"}
    if outside:
        wrong(f"written outside of OUT: {outside}")
    if any(p.suffix == ".partial" for p in case.folder.rglob("*")):
        wrong("a .partial is left")
    for path in there:
        if whole(path) is None:
            wrong(f"unreadable output {path.name!r}")
    if case.usage_error != (called.code == 2):
        wrong(f"exit code {called.code}, {'wrong' if case.usage_error else 'right'} usage, {errors}")
    if called.code == 2:
        if written or called.stdout or len(errors) != 1:
            wrong(f"exit code 2 with outputs or {len(errors)} errors: {errors}")
        return
    if bool(errors) != (called.code == 1):
        wrong(f"exit code {called.code} with {len(errors)} errors")
    printed = ""
    taken: set[Path] = set()
    for song in case.songs:
        for path, track in tracks_of(song):
            outputs = {stem: output_of(case, track, stem) for stem in case.stems}
            if ".." in output_of(case, track, "").parts[len(case.out.parts) :]:  # a song named `...wav`
                if not any(plain(str(path)) in plain(e) for e in errors):
                    wrong(f"{path.name!r} is to be written outside of OUT, and nothing was said")
                continue
            text = "".join(f"{output}\n" for output in outputs.values())
            named = [path, *outputs.values()]
            said = any(plain(str(p)) in plain(e) for p in named for e in errors)
            done = text in called.stdout
            if taken & set(outputs.values()):
                if not said:
                    wrong(f"{path.name!r} was to overwrite another's output, and nothing was said")
                continue
            taken |= set(outputs.values())
            if done:
                printed += text
                for stem, output in outputs.items():
                    if output not in written:
                        wrong(f"{stem} of {path.name!r} is said to be written and is not")
                        break
                else:
                    check_outputs(case, path, outputs)
                continue
            if any(output in written for output in outputs.values()):
                wrong(f"outputs of {path.name!r} written, and not said so; {errors}")
            skipped = case.skip_existing and all(output in before for output in outputs.values())
            if not skipped and not said:
                wrong(f"{path.name!r}: neither written nor named in an error: {errors}")
            if not skipped and song.usable and must_succeed(case, path, track):
                wrong(f"{path.name!r} is good and failed: {errors}")
    if len(printed) != len(called.stdout):
        wrong(f"printed {called.stdout!r}, which is not {printed!r}")


def must_succeed(case: Case, path: Path, track: str) -> bool:
    """Whether nothing stands in the way of separating a good song."""
    read = whole(path)
    if read is None or not len(read[0]) or not np.isfinite(read[0]).all():
        return False
    outputs = outputs_of(case, track)
    if any(len(os.fsencode(part)) > 230 for output in outputs for part in output.parts):
        return False
    if case.file_limit is not None or case.out.is_file() or any(output.is_dir() for output in outputs):
        return False
    if track in (".", ".."):
        return False
    return bool(holds(case.container, read[1].samplerate, read[1].channels))


def outputs_of(case: Case, track: str) -> list[Path]:
    """All outputs of a track."""
    return [output_of(case, track, stem) for stem in case.stems]


def plain(text: str) -> str:
    """The letters and digits of a message: names may stand in it with escapes for odd characters."""
    escaped = text.encode("unicode_escape", "surrogatepass").decode("ascii")
    return "".join(c for c in escaped if c.isalnum())


def check_outputs(case: Case, path: Path, outputs: dict[str, Path]) -> None:
    """Compare the outputs of a song with it."""
    wrong = case.problems.append
    mixture, source = in_blocks(path), whole(path)
    damaged = not any(song.usable and song.path == path for song in case.songs)
    if damaged and mixture is not None and source is None:  # what comes before the damage may do
        return
    if mixture is None or source is None:
        wrong(f"{path.name!r} cannot be read, and has outputs")
        return
    at_once, info = source
    lossy_source = info.subtype in LOSSY
    if not damaged and (
        len(at_once) != len(mixture) or np.abs(at_once - mixture).max() > 1e-4 * lossy_source
    ):
        wrong(f"{path.name!r}: reading in blocks gives something else than reading at once")
    stems = {}
    subtype = SUBTYPES.get(
        case.sample or "", {"ogg": "VORBIS", "mp3": "MPEG_LAYER_III"}.get(case.container)
    )
    for stem, output in outputs.items():
        read = whole(output)
        if read is None:
            return  # reported already
        stems[stem], written = read
        if (written.samplerate, written.channels) != (info.samplerate, info.channels):
            wrong(f"{stem}: {written.samplerate} Hz, {written.channels} channels of {info}")
        if written.subtype != subtype:
            wrong(f"{stem}: subtype {written.subtype}, not {subtype}")
        if not np.isfinite(stems[stem]).all():
            wrong(f"{stem} is not finite")
        length = len(stems[stem])
        if length < len(mixture) or (length > len(mixture) and case.container != "mp3"):
            wrong(f"{stem}: {length} samples, not {len(mixture)}")
        if not mixture.any() and len(mixture) and np.abs(stems[stem]).max() > (0 if case.sample else 1e-3):
            wrong(f"{stem} of silence is not silent")
    if case.sample and len(stems) == 2 and all(s.shape == mixture.shape for s in stems.values()):
        check_sum(case, path, mixture, [s.astype(np.float64) for s in stems.values()], info.subtype)


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
    case = Case(np.random.default_rng(seed), folder)
    add_song(case)
    add_options(case)
    arrange(case)
    blocks = audio._BLOCK, streaming._BLOCK
    audio._BLOCK, streaming._BLOCK = case.pick((blocks, blocks, (1000, 1000), (333, 64), (21, 65_536)))
    before: dict[Path, int] = {}
    try:
        called = call(case, run)
        if called is not None:
            check(case, called, before)
        if (
            called is not None and case.out.is_dir() and case.chance(0.2)
        ):  # the same again, on what is there
            case.kinds.append("again")
            if case.chance(0.3):
                gone = case.songs[int(case.rng.integers(len(case.songs)))]
                if gone.path.is_file() or gone.path.is_symlink():
                    gone.path.unlink()
                    gone.usable = False
            before = {p: p.stat().st_mtime_ns for p in case.out.rglob("*") if p.is_file()}
            if (called := call(case, run)) is not None:
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
    load = functools.lru_cache(maxsize=None)(original)

    def separator(
        checkpoint: str, *, overlap: float, shifts: int, batch_size: int, **rest: Any
    ) -> separate.Separator:
        spectral.patch_step(1, overlap)
        one = copy.copy(load(checkpoint, batch_size=batch_size, **rest))
        one._overlap, one._shifts = overlap, shifts
        return one

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
