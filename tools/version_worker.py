"""What `benchmark_versions.py` times: one thing, over and over, by what every version of the package has.

It is run with the package of the version that is meant. Says `ready`, then answers each line it reads with
the seconds that doing it once took.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

_SONG_SECONDS = 60
_STEPS = 40


def _noise(seconds: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.3, 0.3, (44_100 * seconds, 2)).astype(np.float32)


def _training(width: int, steps: int) -> dict[str, Any]:
    """A config for a few steps on generated songs."""
    return {
        "data": {"builtin": {"train_songs": 2, "valid_songs": 1, "seconds": 4.0}, "placement": "resident"},
        "model": {"width": width},
        "patches_per_epoch": 8 * steps,
        "epochs": 1,
        "log_every_steps": steps // 2,
        "valid": {"patches": 8},
    }


def _separating(checkpoint: str) -> Callable[[], float]:
    from vocalsep_jax import Separator

    separator, song = Separator(checkpoint), _noise(_SONG_SECONDS)

    def once() -> float:
        begin = time.perf_counter()
        separator.separate(song, 44_100)
        return time.perf_counter() - begin

    once()
    return once


def _separating_wide(folder: Path) -> Callable[[], float]:
    from vocalsep_jax import train_and_evaluate

    train_and_evaluate(_training(64, 2), folder / "run")
    return _separating(str(folder / "run"))


def _stepping(folder: Path, width: int, steps: int) -> Callable[[], float]:
    """Seconds a step, of the second half of a training."""
    from vocalsep_jax import train_and_evaluate
    from vocalsep_jax.runs.history import read_history

    def once() -> float:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            run = Path(place) / "run"
            train_and_evaluate(_training(width, steps), run)
            rates = [line["patches_per_second"] for line in read_history(run) if line["kind"] == "train"]
        return 8 / float(rates[-1])

    return once


def _starting(folder: Path, checkpoint: str) -> Callable[[], float]:
    """From the command to the end, for ten seconds of song."""
    song = folder / "song.wav"
    with wave.open(str(song), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(44_100)
        file.writeframes((32_767 * _noise(10)).astype("<i2").tobytes())
    command = [sys.executable, "-m", "vocalsep_jax.separate", str(song), "--checkpoint", checkpoint]
    command += ["-o", str(folder / "out")]

    def once() -> float:
        begin = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - begin

    once()
    return once


def main(what: str, checkpoint: str) -> None:
    """Do `what` at each line that comes in, with a model where one is needed."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing else may write there
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        once = {
            "separate": lambda: _separating(checkpoint),
            "separate-wide": lambda: _separating_wide(folder),
            "train": lambda: _stepping(folder, 16, _STEPS),
            "train-wide": lambda: _stepping(folder, 64, _STEPS // 4),
            "start": lambda: _starting(folder, checkpoint),
        }[what]()
        print("ready", file=answers, flush=True)
        for _ in sys.stdin:
            print(once(), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
