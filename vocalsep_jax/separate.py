"""The command that separates songs into vocals and the rest.

    vocalsep separate SONG... --checkpoint RUN -o OUT
    python -m vocalsep_jax.separate SONG... --checkpoint RUN -o OUT

writes `OUT/<model>/<track>/vocals.wav` and `no_vocals.wav`.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import functools
import glob
import io
import json
import logging
import math
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vocalsep_jax.huge_pages import restart_with_huge_pages

if __name__ == "__main__":
    restart_with_huge_pages()  # before anything that takes time to import

from vocalsep_jax import audio, files, runs
from vocalsep_jax.console import duration, one_line, say, start_logging, terminated_as_interrupted
from vocalsep_jax.separator import CLIP_MODES, DTYPES, OVERLAP, STEMS, Separator

log = logging.getLogger(__name__)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vocalsep separate",
        description="Separate the singing voice of songs from the instruments. The stems have the rate, "
        "channels and length of the song, and sum to it where nothing clips (but for lossy formats and "
        "rescaled stems).",
        epilog="Exit code: 0 all songs done, 1 some failed, 2 wrong usage, 130 interrupted.",
    )
    parser.add_argument(
        "songs",
        nargs="+",
        metavar="SONG",
        help="audio and video files, folders of them, however deep, or patterns such as 'album/*.flac' "
        f"({', '.join(x[1:] for x in audio.SUFFIXES)})",
    )
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="RUN",
        help="a run's folder, a checkpoint in it, or an exported model",
    )
    parser.add_argument(
        "-o", "--out", default="separated", metavar="OUT", help="folder to write to (%(default)s)"
    )
    parser.add_argument(
        "--filename",
        default="{track}/{stem}.{ext}",
        help="of the outputs, below OUT/<model> (%(default)s)",
    )
    stems = parser.add_mutually_exclusive_group()
    stems.add_argument(
        "--stems", default=",".join(STEMS), help="which to write, with commas between (%(default)s)"
    )
    stems.add_argument(
        "--two-stems", choices=STEMS[:1], help="the same as --stems vocals,no_vocals, the default"
    )
    container = parser.add_mutually_exclusive_group()
    for name in ("wav", "flac", "ogg", "mp3"):
        default = ", the default" if name == "wav" else ""
        container.add_argument(
            f"--{name}", dest="container", action="store_const", const=name, help=f"write {name}{default}"
        )
    sample = parser.add_mutually_exclusive_group()
    for name, what in (
        ("int16", "16-bit samples, the default (wav, flac)"),
        ("int24", "24-bit samples (wav, flac)"),
        ("float32", "32-bit float samples (wav)"),
    ):
        sample.add_argument(f"--{name}", dest="sample", action="store_const", const=name, help=what)
    parser.add_argument(
        "--bitrate", type=int, metavar="KBPS", help="of mp3 (320, or the most there is) or ogg (192)"
    )
    parser.add_argument(
        "--clip-mode",
        choices=CLIP_MODES,
        default="clamp",
        help="what becomes of samples beyond full scale: clamp them there, rescale both stems by one "
        "factor, or none: refuse (%(default)s; float32 holds them)",
    )
    parser.add_argument(
        "--start", type=_seconds, default=0.0, metavar="TIME", help="seconds or [h:]m:s (0)"
    )
    parser.add_argument(
        "--duration", type=_seconds, metavar="TIME", help="seconds or [h:]m:s (to the end of the song)"
    )
    parser.add_argument("--skip-existing", action="store_true", help="leave songs whose outputs are there")
    parser.add_argument(
        "--json",
        type=Path,
        metavar="REPORT",
        help="file for what became of each song, and how long it took",
    )
    parser.add_argument("-j", "--jobs", type=int, default=1, help="songs separated at once (%(default)s)")
    parser.add_argument(
        "--overlap", type=float, default=OVERLAP, help="overlap of patches, 0 to below 1 (%(default)s)"
    )
    parser.add_argument(
        "--shifts", type=int, default=1, help="average so many separations, shifted (%(default)s)"
    )
    parser.add_argument("--batch-size", type=int, default=8, help="patches predicted at once (%(default)s)")
    parser.add_argument("--dtype", choices=DTYPES, help="of the network's activations (as it was trained)")
    parser.add_argument("-d", "--device", help="cpu, gpu or tpu (the best there is)")
    return parser


def _seconds(text: str) -> float:
    """`90`, `1:30` or `0:01:30.0` in seconds."""
    try:
        parts = [float(part) for part in text.split(":")]
    except ValueError:
        parts = []
    seconds = functools.reduce(lambda total, part: 60 * total + part, parts, 0.0)
    if not 1 <= len(parts) <= 3 or not all(part >= 0 for part in parts) or not seconds < math.inf:
        raise argparse.ArgumentTypeError(f"not a time: {text!r}")
    return seconds


def _tracks(songs: Sequence[str], out: Path) -> Iterator[tuple[Path, str]]:
    """Files and their track names: those given, and those in folders given, by their place in there.

    A folder that holds none stands for itself. What lies in `out` was written here before: it is taken only
    where it is named itself.
    """
    out = _absolute(out)
    for path in (Path(match) for song in songs for match in _matches(song, out)):
        if not _is_folder(path):
            yield path, audio.track_name(path)
            continue
        within = sorted(
            p
            for p in path.rglob("*")
            if p.suffix.lower() in audio.SUFFIXES and p.is_file() and out not in _absolute(p).parents
        )
        for file in within:
            yield file, (file.relative_to(path).parent / audio.track_name(file)).as_posix()
        if not within and _absolute(path) not in (out, *out.parents):
            yield path, path.name


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - `..` goes, links stay


def _matches(song: str, out: Path) -> list[str]:
    """The files that a name or a pattern stands for; a pattern without any stands for itself."""
    if not song:  # an empty variable of a shell, say; as a path it would be the folder we are in
        raise ValueError("a song's name is empty")
    if not glob.has_magic(song) or os.path.lexists(song):
        return [song]
    found = (x for x in glob.glob(song, recursive=True) if out not in _absolute(Path(x)).parents)
    return sorted(found) or [song]


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # as for a name that is too long; reading it says so
        return False


def _outputs(options: argparse.Namespace, folder: Path, track: str, ext: str) -> dict[str, Path]:
    """Where each stem of a track goes.

    Raises:
      ValueError: if the template or the track make that no file below `folder`.
    """
    try:
        names = {
            stem: Path(options.filename.format(track=track, stem=stem, ext=ext))
            for stem in options.stems.split(",")
        }
    except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
        raise ValueError(
            f"--filename {options.filename!r}: only {{track}}, {{stem}} and {{ext}} are filled in"
        ) from error
    for name in names.values():
        if name.is_absolute() or ".." in name.parts or not name.name:
            raise ValueError(f"--filename {options.filename!r}: {str(name)!r} is no file below {folder}")
    return {stem: folder / name for stem, name in names.items()}


class _Progress:
    """The songs under way, on one line of a terminal; elsewhere, on a line a minute."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._songs: dict[str, tuple[float, float, float]] = {}  # when begun, seconds done, in all
        self._terminal = sys.stderr.isatty()
        self._interval = 0.2 if self._terminal else 60.0
        self._shown = time.monotonic()

    @contextlib.contextmanager
    def song(self, title: str) -> Iterator[None]:
        """While a song is separated."""
        with self._lock:
            self._songs[title] = (time.monotonic(), 0.0, 0.0)
        try:
            yield
        finally:
            with self._lock:
                del self._songs[title]
                self._write("")

    def log(self, level: int, message: str, *values: object) -> None:
        """Log a line, in the place of what is shown."""
        with self._lock:
            self._write("")
            log.log(level, message, *values)

    def show(self, title: str, done: float, total: float) -> None:
        """So many seconds of a song, of so many (0: unknown)."""
        with self._lock:
            now = time.monotonic()
            self._songs[title] = (self._songs[title][0], done, total)
            if now - self._shown < self._interval:
                return
            self._shown = now
            parts = []
            for name, (begin, done, total) in self._songs.items():
                speed = done / max(now - begin, 1e-9)
                share = f"{100 * done / total:3.0f} %" if total else duration(done)
                left = f"  {duration((total - done) / speed)} left" if total and speed else ""
                parts.append(f"{name}: {share}  {speed:.1f} x real time{left}")
            self._write("   ".join(parts))

    def _write(self, line: str) -> None:
        if line and not self._terminal:
            log.info("%s", line)
        elif self._terminal:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r{line[:width]:{width}}" + ("" if line else "\r"))
            sys.stderr.flush()


class _StoppedError(Exception):
    """The command was interrupted."""


@dataclass
class _Batch:
    """The songs of a call, and what they have in common.

    Attributes:
      separator: separates them.
      options: of the command line.
      encoding: of the outputs.
      songs: the inputs, by what they are under any name.
      total: how many tracks there are.
      stopping: set when the command was interrupted.
    """

    separator: Separator
    options: argparse.Namespace
    encoding: audio.Encoding
    songs: dict[tuple[int, int], Path]
    total: int
    progress: _Progress = field(default_factory=_Progress)
    stopping: threading.Event = field(default_factory=threading.Event)

    def separate(self, number: int, song: Path, outputs: dict[str, Path] | str) -> dict[str, Any]:
        """Separate one song, unless `outputs` says why it cannot be; what became of it, for the report."""
        entry: dict[str, Any] = {"song": str(song), "status": "failed"}
        title = one_line(str(song))
        begin = time.monotonic()
        try:
            if isinstance(outputs, str):
                raise audio.AudioError(f"{song}: {outputs}")
            there = {output: key for output in outputs.values() if (key := files.identity(output))}
            if self.options.skip_existing and len(there) == len(outputs):
                self.progress.log(logging.INFO, "[%d/%d] %s: there already", number, self.total, title)
                return entry | {"status": "skipped", "outputs": _named(outputs)}
            for key in there.values():
                if key in self.songs:
                    which = self.songs[key] if self.songs[key] != song else "it"
                    raise audio.AudioError(f"{song}: its output would overwrite {which}")

            def progress(done: float, of: float) -> None:
                if self.stopping.is_set():
                    raise _StoppedError
                self.progress.show(f"[{number}/{self.total}] {title}", done, of)

            with self.progress.song(f"[{number}/{self.total}] {title}"):
                done = self.separator.separate_to(
                    song,
                    outputs,
                    encoding=self.encoding,
                    clip_mode=self.options.clip_mode,
                    start=self.options.start,
                    duration=self.options.duration,
                    progress=progress,
                )
        except audio.AudioError as error:
            self.progress.log(logging.ERROR, "error: %s", error)
            return entry | {"error": str(error)}
        except _StoppedError:
            return entry | {"error": "interrupted"}
        seconds = time.monotonic() - begin
        speed = done.seconds / seconds
        self.progress.log(
            logging.INFO, "[%d/%d] %s: %.1f s, %.1f x real time", number, self.total, title, seconds, speed
        )
        if done.clipped:
            self.progress.log(
                logging.WARNING,
                "%s: %d samples clipped (--clip-mode rescale avoids it)",
                title,
                done.clipped,
            )
        say("\n".join(map(str, outputs.values())))
        return entry | {
            "status": "done",
            "outputs": _named(outputs),
            "sample_rate": done.sample_rate,
            "channels": done.channels,
            "samples": done.samples,
            "clipped_samples": done.clipped,
            "scale": done.scale,
            "seconds": seconds,
            "times_real_time": speed,
        }

    def separate_all(self, planned: Sequence[tuple[Path, dict[str, Path] | str]]) -> list[dict[str, Any]]:
        """Separate them, as many at a time as the options say; entries as far as they came."""
        waiting: list[concurrent.futures.Future[dict[str, Any]]] = []
        with concurrent.futures.ThreadPoolExecutor(self.options.jobs) as pool:
            try:
                for number, (song, outputs) in enumerate(planned, start=1):
                    waiting.append(pool.submit(self.separate, number, song, outputs))
                return [future.result() for future in waiting]
            except BaseException as error:
                self.stopping.set()
                pool.shutdown(cancel_futures=True)
                if not isinstance(error, KeyboardInterrupt):
                    raise
        return [future.result() for future in waiting if not future.cancelled()]


def _named(outputs: dict[str, Path]) -> dict[str, str]:
    return {stem: str(path) for stem, path in outputs.items()}


def _plan(
    tracks: Sequence[tuple[Path, str]], options: argparse.Namespace, folder: Path, ext: str
) -> list[tuple[Path, dict[str, Path] | str]]:
    """Where the stems of each song go, or why they cannot."""
    taken: dict[Path, Path] = {}
    planned: list[tuple[Path, dict[str, Path] | str]] = []
    for song, track in tracks:
        try:
            if _is_folder(song):
                raise ValueError("no audio files in this folder")
            outputs = _outputs(options, folder, track, ext)
            for output in outputs.values():
                if (earlier := taken.setdefault(output, song)) is not song:
                    raise ValueError(f"its output would overwrite that of {earlier}")
            planned.append((song, outputs))
        except ValueError as error:
            planned.append((song, str(error)))
    return planned


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    start_logging()
    if isinstance(sys.stdout, io.TextIOWrapper):  # paths are printed as the file system has them
        sys.stdout.reconfigure(encoding=sys.getfilesystemencoding(), errors=sys.getfilesystemencodeerrors())
    options = _parser().parse_args(argv)
    with terminated_as_interrupted():
        try:
            return _run(options)
        except KeyboardInterrupt:
            log.error("interrupted")
            return 130


def _run(options: argparse.Namespace) -> int:
    container = options.container or "wav"
    lossless = container in ("wav", "flac")
    try:
        encoding = audio.Encoding(
            container, options.sample or ("int16" if lossless else None), options.bitrate
        )
        if unknown := set(options.stems.split(",")) - set(STEMS):
            raise ValueError(f"--stems: there are {', '.join(STEMS)}, no {unknown.pop()!r}")
        if options.jobs < 1:
            raise ValueError(f"--jobs must be at least 1, not {options.jobs}")
        if options.duration == 0:
            raise ValueError("--duration must be more than 0")
        folder = Path(options.out) / runs.find_run(options.checkpoint).resolve().name
        names = [*_outputs(options, Path(), "track", "ext").values()]
        if len(set(names)) < len(names):
            raise ValueError(f"--filename {options.filename!r}: {{stem}} has to be in it")
        tracks = list(dict.fromkeys(_tracks(options.songs, folder)))  # named twice, separated once
        inputs = {key: song for song, _ in tracks if (key := files.identity(song))}
        planned = _plan(tracks, options, folder, container)
        _check_report(options.json, inputs, planned)

        from vocalsep_jax.compile_cache import use_compile_cache

        use_compile_cache()
        separator = Separator(
            options.checkpoint,
            overlap=options.overlap,
            shifts=options.shifts,
            batch_size=options.batch_size,
            device=options.device,
            dtype=options.dtype,
        )
    except (runs.RunError, ValueError) as error:
        log.error("error: %s", one_line(str(error)))
        return 2
    batch = _Batch(separator, options, encoding, inputs, len(tracks))
    entries = batch.separate_all(planned)
    failed = sum(entry["status"] == "failed" for entry in entries)
    if batch.stopping.is_set():
        log.error("interrupted: %d of %d songs done", len(entries) - failed, len(tracks))
    elif failed:
        log.error("%d of %d songs failed", failed, len(tracks))
    if options.json:
        try:
            _write_report(options, separator, entries)
        except OSError as error:
            log.error("error: %s: cannot be written (%s)", one_line(str(options.json)), error.strerror)
            failed += 1
    return 130 if batch.stopping.is_set() else 1 if failed else 0


def _check_report(
    report: Path | None,
    inputs: dict[tuple[int, int], Path],
    planned: Sequence[tuple[Path, dict[str, Path] | str]],
) -> None:
    """Raise ValueError if the report would take the place of a song or of an output."""
    if report is None:
        return
    written = {
        _absolute(p) for _, outputs in planned if isinstance(outputs, dict) for p in outputs.values()
    }
    if not report.name or files.identity(report) in inputs or _absolute(report) in written:
        raise ValueError(f"--json {str(report)!r}: is no file, or one of the songs or outputs")


def _write_report(options: argparse.Namespace, separator: Separator, entries: list[dict[str, Any]]) -> None:
    """Write what became of the songs; raises OSError."""
    content = {
        "model": separator.name,
        "step": separator.step,
        "model_sample_rate": separator.sample_rate,
        "options": {name: value for name, value in vars(options).items() if name not in ("songs", "json")},
        "versions": runs.package_versions(),
        "songs": entries,
    }
    # File names may be no text: the report has them as Python does, with surrogates escaped.
    files.write_text(options.json, json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
