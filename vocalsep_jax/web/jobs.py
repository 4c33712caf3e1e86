"""The songs of all who use the page: one is separated at a time, the others wait their turn."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vocalsep_jax.audio.encoding import Encoding
from vocalsep_jax.audio.files import AudioError
from vocalsep_jax.runtime.console import one_line
from vocalsep_jax.separation.separator import Separator
from vocalsep_jax.separation.stem_files import STEMS, Separated
from vocalsep_jax.web.storage import Storage, StorageFullError

log = logging.getLogger(__name__)

_CHECK_STORAGE = 1.0
"""Seconds between two looks at how much the files take."""


_TIDY = 60.0
"""Seconds between two looks for what is old."""


@dataclass(frozen=True)
class Limits:
    """What is allowed to those who use the page.

    Attributes:
      seconds: the longest part of a song that is separated.
      waiting: songs that wait at most, of all users.
      songs: songs that a user has at most, those that are done among them.
      keep: seconds for which a song is kept.
    """

    seconds: float
    waiting: int
    songs: int
    keep: float


@dataclass(frozen=True)
class Wish:
    """How a song is to be separated.

    Attributes:
      model: name of the model.
      encoding: of the stems' files.
      start, duration: seconds; the part of the song, to its end if `duration` is None.
    """

    model: str
    encoding: Encoding
    start: float = 0.0
    duration: float | None = None


class RefusedError(Exception):
    """A song is not taken; the message says why to the user."""


class _CancelledError(Exception):
    """Raised in a separation that nobody wants any more."""


@dataclass(eq=False)
class Job:
    """A song and what becomes of it.

    Attributes:
      folder: its files'; the name is the key with which a browser asks for them.
      session: the user's.
      song: the input file, in `folder`.
      title: the song's name.
      wish: how it is separated.
      state: `waiting`, `working`, `done`, `failed` or `cancelled`.
      done, total: seconds of the song, as in `Separator.separate_to`.
      begun, ended: by `time.monotonic`; 0 if not yet.
      submitted: by `time.monotonic`.
      message: why it failed.
      result: what was written.
      unwanted: set when it is cancelled or removed.
      making: held while something is made of its stems.
    """

    folder: Path
    session: str
    song: Path
    title: str
    wish: Wish
    state: str = "waiting"
    done: float = 0.0
    total: float = 0.0
    begun: float = 0.0
    ended: float = 0.0
    submitted: float = field(default_factory=time.monotonic)
    message: str = ""
    result: Separated | None = None
    unwanted: threading.Event = field(default_factory=threading.Event)
    making: threading.Lock = field(default_factory=threading.Lock)

    @property
    def key(self) -> str:
        """What a browser asks for it with; nobody can guess it."""
        return self.folder.name

    @property
    def outputs(self) -> dict[str, Path]:
        """The file of each stem."""
        return {stem: self.folder / f"{stem}.{self.wish.encoding.container}" for stem in STEMS}


class Jobs:
    """The queue, and the thread that works it off.

    Attributes:
      limits: what is allowed.
    """

    def __init__(self, load: Callable[[str], Separator], storage: Storage, limits: Limits):
        """Begin to work.

        Args:
          load: gives the separator of a model, by its name.
          storage: for the songs' folders.
          limits: what is allowed.
        """
        self.limits = limits
        self._load = load
        self._storage = storage
        self._jobs: dict[str, Job] = {}
        self._queue: list[Job] = []
        self._changed = threading.Condition()
        self._stopped = False
        self._looked = self._tidied = 0.0
        self._thread = threading.Thread(target=self._work, name="separation", daemon=True)
        self._thread.start()

    def submit(self, session: str, song: Path, title: str, wish: Wish) -> Job:
        """Take a song into the queue. Its file stays where it is; ours is another name of it.

        Raises:
          RefusedError: if there are too many, or there is no room.
        """
        with self._changed:
            if self._stopped:
                raise RefusedError("the machine is being stopped")
            if sum(job.session == session for job in self._jobs.values()) >= self.limits.songs:
                raise RefusedError(f"no more than {self.limits.songs} songs at a time; remove some")
            if len(self._queue) >= self.limits.waiting:
                raise RefusedError("too many songs are waiting; try again later")
            try:
                self._storage.check()
                folder = self._storage.new_folder()
            except (StorageFullError, OSError) as error:
                raise RefusedError(str(error)) from error
            # The name that the reader goes by for some formats is the suffix; the rest stays out of paths.
            inside = folder / f"song{song.suffix.lower()[:10]}"
            try:
                inside.hardlink_to(song)
            except OSError as error:
                shutil.rmtree(folder, ignore_errors=True)
                raise RefusedError("the file is not there any more; add it again") from error
            job = Job(folder, session, inside, title, wish)
            self._jobs[job.key] = job
            self._queue.append(job)
            self._changed.notify_all()
        return job

    def find(self, key: str) -> Job | None:
        """The job of a key."""
        return self._jobs.get(key)

    def place(self, job: Job) -> int:
        """How many songs are before a waiting one, that which is being separated among them."""
        queue = list(self._queue)  # without the lock: whoever asks should not wait for who submits
        if job not in queue:
            return 0
        working = any(other.state == "working" for other in list(self._jobs.values()))
        return queue.index(job) + working

    def remove(self, jobs: Sequence[Job]) -> None:
        """Cancel songs that are not done yet, and delete all files of theirs."""
        with self._changed:
            for job in jobs:
                job.unwanted.set()
                self._jobs.pop(job.key, None)
                if job in self._queue:
                    self._queue.remove(job)
                    job.state = "cancelled"
            idle = [job for job in jobs if job.state != "working"]  # the thread does it when it has stopped
        for job in idle:
            with job.making:
                shutil.rmtree(job.folder, ignore_errors=True)

    def of(self, session: str) -> list[Job]:
        """A user's songs, in the order in which they came."""
        return [job for job in list(self._jobs.values()) if job.session == session]

    def remove_old(self) -> None:
        """Remove what has been kept for long enough, and files that came in and were never used."""
        now = time.monotonic()
        ended = [
            job for job in list(self._jobs.values()) if job.ended and now - job.ended > self.limits.keep
        ]
        self.remove(ended)
        self._storage.remove_old_uploads(self.limits.keep)

    def stop(self) -> None:
        """Cancel all songs and end the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self.remove(list(self._jobs.values()))
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._queue and not self._stopped:
                    self._changed.wait(_TIDY)
                if self._stopped:
                    return
                job = self._queue.pop(0) if self._queue else None
                if job:
                    job.state, job.begun = "working", time.monotonic()
            if job:
                self._separate(job)
            self._tidy()

    def _tidy(self) -> None:
        """Remove what is old, now and then."""
        if time.monotonic() - self._tidied > _TIDY:
            self._tidied = time.monotonic()
            self.remove_old()

    def _separate(self, job: Job) -> None:
        state = "failed"
        try:
            separator = self._load(job.wish.model)
            job.result = separator.separate_to(
                job.song,
                job.outputs,
                encoding=job.wish.encoding,
                start=job.wish.start,
                duration=job.wish.duration,
                progress=lambda done, total: self._progress(job, done, total),
            )
            state = "done"
        except _CancelledError:
            state = "cancelled"
        except AudioError as error:
            # Not the paths of this machine, which mean nothing to the user.
            text = one_line(str(error)).removeprefix(f"{job.song}: ")
            job.message = text.replace(f"{job.folder}/", "")
        except (RefusedError, StorageFullError, ValueError) as error:
            job.message = one_line(str(error))
        except Exception:
            log.exception("error: a song could not be separated")
            job.message = "this did not work; the terminal of the server tells why"
        with self._changed:
            job.state, job.ended = state, time.monotonic()
            if job.unwanted.is_set():
                shutil.rmtree(job.folder, ignore_errors=True)
            elif state == "failed":
                job.song.unlink(missing_ok=True)
        log.info("%s: %s %s", one_line(job.title), state, job.message)

    def _progress(self, job: Job, done: float, total: float) -> None:
        if job.unwanted.is_set():
            raise _CancelledError
        if max(done, total) > self.limits.seconds:
            minutes = self.limits.seconds / 60
            raise RefusedError(f"longer than {minutes:g} min, which is the most here; choose a part of it")
        now = time.monotonic()
        if now - self._looked > _CHECK_STORAGE:
            self._looked = now
            self._storage.check()
            self._tidy()
        job.done, job.total = done, total
