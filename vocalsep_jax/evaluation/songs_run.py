"""All methods on all songs: several songs at once, what is kept taken from there, with time left."""

from __future__ import annotations

import concurrent.futures
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from vocalsep_jax.audio.files import AudioError
from vocalsep_jax.data.songs import Song, SongError, Stems
from vocalsep_jax.evaluation.full_scores import Scores, SongScorer, Window, extreme_windows
from vocalsep_jax.evaluation.methods import Method
from vocalsep_jax.evaluation.store import Store
from vocalsep_jax.runtime.console import duration, one_line
from vocalsep_jax.separation.batch import ProgressLine

log = logging.getLogger(__name__)

GIVEN = ("mixture", "vocals")
"""What of a song is kept of a window, beside the checkpoints' estimates."""


class _StoppedError(Exception):
    """The command was interrupted."""


@dataclass
class SongRuns:
    """The songs of a call, scored.

    Attributes:
      methods: those to score, checkpoints first. The windows that are shown are those of the first.
      rate: Hz, at which the scores are taken.
      store: keeps the scores, and clips; None to keep nothing.
      total: number of songs.
      progress: shows how far they are.
      stopping: set when the command was interrupted.
    """

    methods: Sequence[Method]
    rate: int
    store: Store | None
    total: int
    progress: ProgressLine = field(default_factory=ProgressLine)
    stopping: threading.Event = field(default_factory=threading.Event)
    _begin: float = field(default_factory=time.monotonic)
    _done: int = 0
    _new: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def score_all(self, songs: Sequence[Song], jobs: int) -> dict[str, dict[str, Scores]]:
        """The scores of each song, by method; without songs that failed, which is told.

        Songs are scored in threads: each checkpoint is then in memory once, and an accelerator belongs to
        one process. Most of the time goes into transforms, matrix products and XLA, which let other
        threads run.

        Raises:
          KeyboardInterrupt: if the command was interrupted; what was done is kept.
          OSError: if scores cannot be kept.
        """
        found: dict[str, dict[str, Scores]] = {}
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            waiting = [pool.submit(self._song, song) for song in songs]
            try:
                for song, future in zip(songs, waiting, strict=True):
                    scores = future.result()
                    if scores is not None:
                        found[song.name] = scores
            except BaseException:
                self.stopping.set()
                pool.shutdown(cancel_futures=True)
                raise
        return found

    def windows(self, scores: dict[str, Scores]) -> list[Window]:
        """The parts of a song that are shown."""
        return extreme_windows(scores[self.methods[0].name])

    def _song(self, song: Song) -> dict[str, Scores] | None:
        """The scores of one song, kept ones or new; None if it cannot be loaded."""
        title = one_line(song.name)
        begin = time.monotonic()
        kept = {m.name: s for m in self.methods if self.store and (s := self.store.read(song, m))}
        if len(kept) == len(self.methods) and not any(
            self._missing_clips(song, method, kept) for method in self.methods
        ):
            self._tell(title, "there already", is_new=False)
            return kept
        try:
            with self.progress.song(title):
                scores = self._new_scores(song, song.load(self.rate), kept, title)
        except (SongError, AudioError) as error:
            self.progress.log(logging.ERROR, "error: %s", one_line(str(error)))
            self._tell(title, "failed")
            return None
        except _StoppedError:
            return None
        self._tell(title, duration(time.monotonic() - begin))
        return scores

    def _missing_clips(
        self, song: Song, method: Method, scores: dict[str, Scores]
    ) -> list[tuple[Method | str, Window]]:
        """A checkpoint's clips that are not kept whole; with the first one's, those of what was given."""
        if self.store is None or not method.is_checkpoint or self.methods[0].name not in scores:
            return []
        names = (*GIVEN, method) if method is self.methods[0] else (method,)
        return [
            (name, window)
            for window in self.windows(scores)
            for name in names
            if not self.store.has_clip(song, name, window)
        ]

    def _new_scores(
        self, song: Song, stems: Stems, kept: dict[str, Scores], title: str
    ) -> dict[str, Scores]:
        """Score what is not kept, and keep it with its clips."""
        scorer, scores = SongScorer(stems, self.rate), dict(kept)
        seconds = len(stems.vocals) / self.rate
        for number, method in enumerate(self.methods):
            if self.stopping.is_set():
                raise _StoppedError
            self.progress.show(title, seconds * number, seconds * len(self.methods))
            if method.name in scores and not self._missing_clips(song, method, scores):
                continue
            vocals = method.vocals(stems, self.rate)
            if method.name not in scores:
                music = method.taken_from_music(stems, self.rate) if method.is_blind else None
                scores[method.name] = scorer.score(vocals, method.accompaniment(stems, vocals), music)
                if self.store:
                    self.store.write(song, method, scores[method.name])
            whole = {"mixture": stems.mixture, "vocals": stems.vocals}
            for name, window in self._missing_clips(song, method, scores):
                assert self.store is not None
                samples = whole[name] if isinstance(name, str) else vocals
                self.store.write_clip(song, name, window, samples)
        return {method.name: scores[method.name] for method in self.methods}

    def _tell(self, title: str, what: str, *, is_new: bool = True) -> None:
        """Log that a song is done, and the time left at the speed of those that took any."""
        with self._lock:
            self._done += 1
            self._new += is_new
            left = ""
            if self._new and self._done < self.total:
                seconds = (time.monotonic() - self._begin) / self._new * (self.total - self._done)
                left = f"; about {duration(seconds)} left"
            self.progress.log(logging.INFO, "[%d/%d] %s: %s%s", self._done, self.total, title, what, left)
