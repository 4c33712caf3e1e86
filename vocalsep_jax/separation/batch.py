"""Many songs, one after the other or several at once: their progress, and what became of each."""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vocalsep_jax.audio.encoding import Encoding
from vocalsep_jax.audio.files import AudioError
from vocalsep_jax.runtime import disk
from vocalsep_jax.runtime.console import StatusLine, how_far, one_line, say
from vocalsep_jax.separation.separator import Separator
from vocalsep_jax.separation.tracks import Outputs

log = logging.getLogger(__name__)


class ProgressLine:
    """The songs under way, on one line of a terminal; elsewhere, on a line a minute."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._songs: dict[str, tuple[float, float, float]] = {}  # when begun, seconds done, in all
        self._line = StatusLine()

    @contextlib.contextmanager
    def song(self, title: str) -> Iterator[None]:
        """Count a song among those under way while the block runs."""
        with self._lock:
            self._songs[title] = (time.monotonic(), 0.0, 0.0)
        try:
            yield
        finally:
            with self._lock:
                del self._songs[title]
                self._line.clear()

    def log(self, level: int, message: str, *values: object) -> None:
        """Log a line; on a terminal it takes the place of the progress line."""
        with self._lock:
            self._line.clear()
            log.log(level, message, *values)

    def show(self, title: str, done: float, total: float) -> None:
        """Show how far a song is: seconds done, and seconds in all (0: unknown)."""
        with self._lock:
            self._songs[title] = (self._songs[title][0], done, total)
            if not self._line.due():
                return
            now = time.monotonic()
            parts = []
            for name, (begin, done, total) in self._songs.items():
                parts.append(f"{name}: {how_far(done, total, now - begin)}")
            self._line.show("   ".join(parts))


class _StoppedError(Exception):
    """The command was interrupted."""


@dataclass(frozen=True)
class Settings:
    """What the songs of a call have in common.

    Attributes:
      encoding, clip_mode, start, duration: as `Separator.separate_to` has them.
      skip_existing: whether songs whose outputs are there are left out.
      jobs: number of songs separated at once.
    """

    encoding: Encoding
    clip_mode: str = "clamp"
    start: float = 0.0
    duration: float | None = None
    skip_existing: bool = False
    jobs: int = 1


@dataclass
class Batch:
    """The songs of a call.

    Attributes:
      separator: separates them.
      settings: what they have in common.
      songs: the input files by their `disk.identity`.
      total: how many tracks there are.
      progress: shows how far they are.
      stopping: set when the command was interrupted.
    """

    separator: Separator
    settings: Settings
    songs: dict[tuple[int, int], Path]
    total: int
    progress: ProgressLine = field(default_factory=ProgressLine)
    stopping: threading.Event = field(default_factory=threading.Event)

    def separate(self, number: int, song: Path, outputs: Outputs | str) -> dict[str, Any]:
        """Separate one song, unless `outputs` is a reason why not; returns its entry in the report."""
        entry: dict[str, Any] = {"song": str(song), "status": "failed"}
        title = one_line(str(song))
        begin = time.monotonic()
        try:
            if isinstance(outputs, str):
                raise AudioError(f"{song}: {outputs}")
            there = {output: key for output in outputs.values() if (key := disk.identity(output))}
            if self.settings.skip_existing and len(there) == len(outputs):
                self.progress.log(logging.INFO, "[%d/%d] %s: there already", number, self.total, title)
                return entry | {"status": "skipped", "outputs": _named(outputs)}
            for key in there.values():
                if key in self.songs:
                    which = self.songs[key] if self.songs[key] != song else "it"
                    raise AudioError(f"{song}: its output would overwrite {which}")

            def progress(done: float, of: float) -> None:
                if self.stopping.is_set():
                    raise _StoppedError
                self.progress.show(f"[{number}/{self.total}] {title}", done, of)

            with self.progress.song(f"[{number}/{self.total}] {title}"):
                done = self.separator.separate_to(
                    song,
                    outputs,
                    encoding=self.settings.encoding,
                    clip_mode=self.settings.clip_mode,
                    start=self.settings.start,
                    duration=self.settings.duration,
                    progress=progress,
                )
        except AudioError as error:
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

    def separate_all(self, planned: Sequence[tuple[Path, Outputs | str]]) -> list[dict[str, Any]]:
        """Separate all songs; returns their report entries, after an interruption only of those begun."""
        waiting: list[concurrent.futures.Future[dict[str, Any]]] = []
        with concurrent.futures.ThreadPoolExecutor(self.settings.jobs) as pool:
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


def _named(outputs: Outputs) -> dict[str, str]:
    return {stem: str(path) for stem, path in outputs.items()}
