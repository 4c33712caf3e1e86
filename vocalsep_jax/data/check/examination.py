"""Everything there is to say of a folder of songs."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocalsep_jax.data.check.files import Folder, SongFiles, find_songs, seconds_of
from vocalsep_jax.data.check.problems import (
    KINDS,
    Problem,
    SharedSound,
    find_problems,
    shared_sounds,
)
from vocalsep_jax.data.check.song import SongReport, measure_song
from vocalsep_jax.data.songs import SPLITS, SongError, check_trainable


class _StoppedError(Exception):
    """The examination was interrupted."""


@dataclass(frozen=True)
class Examination:
    """What was found.

    Attributes:
      root: the folder.
      folder: what it holds.
      reports: what each song measures; train, valid, test.
      shared: the same sounds in two songs.
      problems: what is wrong, errors first.
    """

    root: Path
    folder: Folder
    reports: list[SongReport]
    shared: list[SharedSound]
    problems: list[Problem]

    @property
    def fit(self) -> bool:
        """Whether it is fit to train on: there are no errors."""
        return not any(problem.error for problem in self.problems)

    def split(self, name: str) -> list[SongReport]:
        """The songs of a split."""
        return [report for report in self.reports if report.song.split == name]

    def as_json(self) -> dict[str, Any]:
        """All of it but the fingerprints and the levels of each block, as JSON has it."""
        library = self.folder.library
        return {
            "folder": str(self.root),
            "fit": self.fit,
            "validation_choice": library.validation_choice if library else "",
            "splits": {
                name: {
                    "songs": len(songs := self.split(name)),
                    "seconds": sum(song.seconds for song in songs),
                    "voiced_seconds": sum(song.voiced_seconds for song in songs),
                }
                for name in SPLITS
            },
            "songs": [_song_json(report) for report in self.reports],
            "shared": [_shared_json(sound) for sound in self.shared],
            "problems": [
                {
                    "kind": problem.kind,
                    "severity": "error" if problem.error else "warning",
                    "song": problem.song,
                    "reason": problem.reason,
                    "advice": KINDS[problem.kind].advice,
                }
                for problem in self.problems
            ],
        }


def _song_json(report: SongReport) -> dict[str, Any]:
    return {
        "name": report.song.name,
        "split": report.song.split,
        "path": str(report.song.path),
        "seconds": report.seconds,
        "voiced_seconds": report.voiced_seconds,
        "voiced_share": report.voiced_seconds / report.seconds if report.seconds else 0.0,
        "voice_to_accompaniment_db": report.voice_to_accompaniment_db,
        "stem_correlation": report.stem_correlation,
        "residual_db": report.residual_db,
        "alignment": dataclasses.asdict(report.alignment) if report.alignment else None,
        "stems": {stem: dataclasses.asdict(levels) for stem, levels in report.levels.items()},
        "damage": report.damage,
    }


def _shared_json(sound: SharedSound) -> dict[str, Any]:
    return {
        "song": sound.song,
        "split": sound.splits[0],
        "other_song": sound.other,
        "other_split": sound.splits[1],
        "recordings": list(sound.recordings),
        "seconds": sound.longest.seconds,
        "begins": sound.longest.begins,
        "begins_in_other": sound.longest.begins + sound.longest.offset,
        "share_of_the_shorter": sound.longest.share,
    }


def examine(
    root: Path,
    *,
    instrumentals: Path | None = None,
    jobs: int = 1,
    progress: Callable[[float, float, int, int], None] = lambda done, total, songs, of: None,
) -> Examination:
    """Examine a folder of songs.

    Args:
      root: the folder.
      instrumentals: the folder of music without a voice that is trained on too, if there is one.
      jobs: songs measured at once, at least 1.
      progress: told of the seconds of sound read so far and in all, and of the songs done and in all, from
        any thread, one at a time.

    Raises:
      SongError: if there is no such folder.
    """
    folder = find_songs(root, instrumentals)
    reports = _measure_all(folder.songs, jobs, progress)
    shared = shared_sounds(reports)
    problems = [*_of_folder(folder, root), *find_problems(reports, shared)]
    order = list(KINDS)
    return Examination(
        root, folder, reports, shared, sorted(problems, key=lambda problem: order.index(problem.kind))
    )


def _of_folder(folder: Folder, root: Path) -> list[Problem]:
    """What is wrong with the folder as a whole."""
    problems = [Problem("unusable", path.name, reason) for path, reason in folder.broken.items()]
    problems += [Problem("skipped", path.name, reason) for path, reason in folder.skipped.items()]
    refusal = folder.refusal
    if folder.library is not None:
        try:
            check_trainable(folder.library)
        except SongError as error:
            refusal = str(error)
    if refusal and not folder.broken:  # else it is for these
        problems.append(Problem("refused", "", refusal.removeprefix(f"{root}: ")))
    return problems


def _measure_all(
    songs: tuple[SongFiles, ...], jobs: int, progress: Callable[[float, float, int, int], None]
) -> list[SongReport]:
    """Measure all songs, several at once; raises KeyboardInterrupt once all have stopped."""
    total = sum(map(seconds_of, songs))
    lock, stopping = threading.Lock(), threading.Event()
    done, finished = 0.0, 0

    def tell(seconds: float, songs_done: int = 0) -> None:
        nonlocal done, finished
        if stopping.is_set():
            raise _StoppedError
        with lock:
            done, finished = done + seconds, finished + songs_done
            progress(done, total, finished, len(songs))

    def measure(song: SongFiles) -> SongReport:
        report = measure_song(song, tell)
        tell(0.0, 1)
        return report

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(measure, song) for song in songs]
        try:
            return [future.result() for future in waiting]
        except BaseException:
            stopping.set()
            pool.shutdown(cancel_futures=True)
            raise
