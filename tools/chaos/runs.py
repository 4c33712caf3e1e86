"""A run that is disturbed, and the processes of each of its attempts."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from vocalsep_jax.runs.folder import checkpoint_folder

ROOT = Path(__file__).resolve().parents[2]

PEER_TIMEOUT = 20
"""Seconds after which a process that does not answer is given up."""

HUNG = 240.0
"""Seconds after which processes that should have ended have failed to."""

CONFIG = ("--config.patches_per_epoch=640", "--config.log_every_steps=5", f"--peer_timeout={PEER_TIMEOUT}")


@dataclass
class Attempt:
    """The processes of one start of a run.

    Attributes:
      processes: they.
      logs: the file of each, with what it said.
    """

    processes: list[subprocess.Popen[bytes]]
    logs: list[Path]

    def running(self) -> bool:
        """Whether any process is."""
        return any(process.poll() is None for process in self.processes)

    def codes(self, within: float = HUNG) -> list[int]:
        """Wait for all to end; their exit codes, a negative one for a signal. TimeoutError if they hang."""
        end = time.monotonic() + within
        try:
            return [process.wait(max(0.0, end - time.monotonic())) for process in self.processes]
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise TimeoutError(f"did not end within {within:.0f} s") from error

    def kill(self) -> None:
        """End all at once."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()

    def trains(self) -> bool:
        """Whether it takes steps already."""
        return "first step" in self.said()

    def said(self) -> str:
        """All that the processes said."""
        return "".join(path.read_text(encoding="utf-8", errors="replace") for path in self.logs)


@dataclass
class Run:
    """A run that is disturbed.

    Attributes:
      folder: of the run's own folder, its songs and its logs.
      layout: `(processes, devices of each)` of the next attempt.
      flags: how long it is.
      cache: folder of prepared songs.
      rng: draws what happens, and when.
      place: where the run's folder is; on a disk that can be filled, if there is one.
      told: what was injected, and what came of it.
    """

    folder: Path
    layout: tuple[int, int]
    flags: tuple[str, ...]
    cache: Path
    rng: random.Random
    place: Path
    told: list[tuple[str, str]] = field(default_factory=list)
    attempts: int = 0

    @property
    def songs(self) -> Path:
        """The folder of its songs."""
        return self.folder / "songs"

    @property
    def latest(self) -> list[Path]:
        """Its latest checkpoints, the last at the end."""
        found = (checkpoint_folder(self.place) / "latest").glob("[0-9]*")
        return sorted((p for p in found if p.name.isdigit()), key=lambda p: int(p.name))

    def start(self) -> Attempt:
        """Start it, or go on with it."""
        processes, devices = self.layout
        self.attempts += 1
        together = []
        if processes > 1:
            together = [f"--coordinator=localhost:{_free_port()}", f"--processes={processes}"]
        environment = os.environ | {
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
            "TF_CPP_MIN_LOG_LEVEL": "2",
        }
        attempt = Attempt([], [])
        for number in range(processes):
            log = self.folder / f"attempt{self.attempts:02d}_process{number}.log"
            command = [sys.executable, "-m", "vocalsep_jax.main", "--config=configs/smoke.py"]
            command += [*CONFIG, *self.flags]
            command += [f"--workdir={self.place}", f"--config.data.root={self.songs}"]
            command += [f"--config.data.cache={self.cache}", *together]
            command += [f"--process_id={number}"] if together else []
            with log.open("wb") as file:
                attempt.processes.append(
                    subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file)
                )
            attempt.logs.append(log)
        return attempt


class WrongError(Exception):
    """Something did not go as promised; the message says what."""


def check(right: bool, what: str) -> None:
    """Raise WrongError, unless it is right."""
    if not right:
        raise WrongError(what)


def finish(run: Run) -> None:
    """Start the run a last time, and let it come to its end."""
    check(set(run.start().codes()) == {0}, "undisturbed, it did not come to its end")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return int(free.getsockname()[1])
