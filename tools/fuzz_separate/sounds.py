"""Writing sound files of every form, and damaging them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import soundfile

from tools.fuzz_separate.cases import Case
from tools.fuzz_separate.formats import (
    CODECS,
    CONTAINERS,
    LAYOUTS,
    LIBSNDFILE_SUFFIXES,
    MP3_RATES,
    OPUS_RATES,
    PRIMING,
    RATES,
    STEM_FILE_SUFFIX,
    SUFFIXES_OF,
)
from tools.fuzz_separate.tiny_run import CONFIG
from vocalsep_jax.audio import files

VALUES = ("noise", "sine", "quiet", "silent", "full", "beyond", "denormal", "impulse")
"""What samples can be, in files of any format."""


def have_pyav() -> bool:
    """Whether PyAV is installed."""
    return importlib.util.find_spec("av") is not None


def write_any(case: Case) -> tuple[Path, str, bool | None]:
    """Write a file of any format; gives it, its kind, and whether it must be usable."""
    if have_pyav() and case.chance(0.35):
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


def write_plain(case: Case, path: Path) -> None:
    """Write a short WAV file, whatever the name's suffix is, that every option goes with."""
    samples = _samples(case, case.pick(VALUES), 500, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, samples, 8000, "WAV", "PCM_16")


def write_sound(case: Case, path: Path, container: str = "WAV", value: str | None = None) -> str:
    """Write a file that libsndfile reads, of random form; gives its kind.

    Args:
      case: of the file.
      path: of the file, in a folder that is there.
      container: one of `CONTAINERS`.
      value: what its samples are: one of `VALUES`, or `nan`, `inf` or `huge`, which only WAV holds; one of
        `VALUES` by chance if None.
    """
    rates = {"MP3": MP3_RATES, "OPUS": OPUS_RATES}.get(container, RATES)
    while True:
        subtype, rate = case.pick(CONTAINERS[container]), case.pick(rates)
        channels = int(case.rng.integers(1, 3 if container == "MP3" or case.chance(0.6) else 9))
        length = _random_length(case, rate, channels)
        samples = _samples(case, value or case.pick(VALUES), length, channels)
        if value in ("nan", "inf", "huge"):
            subtype = case.pick(("FLOAT", "DOUBLE"))
            if value != "huge" and length:
                samples[case.rng.integers(length)] = {"nan": np.nan, "inf": -np.inf}[value]
        try:
            _write(path, samples, rate, container, subtype)
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
        length = max(1, _random_length(case, rate, channels) + case.pick((0, 2 * PRIMING)))
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
                    samples = _samples(case, value, length, channels).astype(np.float32)
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
        _check_container(case, path, length, rate)
        return kind, True


def _write(path: Path, samples: np.ndarray, rate: int, container: str, subtype: str) -> None:
    """Write `[S, C]`; raises LibsndfileError if libsndfile has no such combination."""
    form = "OGG" if container == "OPUS" else container
    with path.open("wb") as file:
        soundfile.write(file.fileno(), samples, rate, subtype, format=form, closefd=False)


def _samples(case: Case, value: str, length: int, channels: int) -> np.ndarray:
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


def _random_length(case: Case, rate: int, channels: int) -> int:
    """A length at or beside a boundary, short enough to be separated in a moment."""
    hop, n_fft, frames, network_rate = (
        CONFIG["audio"][name] for name in ("hop", "n_fft", "patch_frames", "sample_rate")
    )
    patch = n_fft + (frames - 1) * hop
    half = frames // 2 * hop
    bounds = [0, 1, 2, hop, n_fft, patch, patch + half, patch + 8 * half]
    bounds += [8192, 2**16, int(case.rng.integers(1, 20_000))]
    length = case.pick(bounds)
    if case.chance(0.5):  # the boundary is the network's, at its own rate
        length = length * rate // network_rate
    length = max(0, length + case.pick((-1, 0, 0, 1)))
    most = 70_000 * min(rate, network_rate) // network_rate // channels
    return min(length, max(most, 3))


def _check_container(case: Case, path: Path, length: int, rate: int) -> None:
    """Note it if the project does not read all samples of a file, or many more."""
    try:
        samples, read_rate = files.read(path)
    except files.AudioError as error:
        case.problems.append(f"{error}, and should be")
        return
    read = len(samples) * rate / read_rate  # Opus knows 48 kHz only
    if not length - 256 <= read <= length + PRIMING:  # AC-3 leaves out so many at the end
        case.problems.append(f"{path.name!r}: {read} samples are read, {length} were written")
