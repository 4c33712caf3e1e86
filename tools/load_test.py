"""Load the API: many threads share one `Separator`, and each song must come out as it does alone.

    python tools/load_test.py --threads 8 --songs 1000
    python tools/load_test.py MODEL --json FILE

Songs are noise and tones of `--kinds` kinds: of half a second to six, of many rates, of one to three
channels, as arrays and as files. Each kind is separated alone first; then the threads separate songs of all
kinds, and every stem must be the same, bit for bit. Memory, open files and threads are counted before, and
after each eighth of the songs. The exit code is 1 if a stem differs, or if files or threads are left, or
memory grows. It needs Linux's `/proc`.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import gc
import hashlib
import json
import logging
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vocalsep_jax import Separator
from vocalsep_jax.audio.encoding import Encoding
from vocalsep_jax.audio.files import Writer
from vocalsep_jax.runs.folder import RunError
from vocalsep_jax.runtime import disk
from vocalsep_jax.runtime.console import one_line, start_logging

log = logging.getLogger(__name__)

RATES = (8000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000)
SECONDS = 0.5, 6.0

_PARTS = 8
"""Parts of the songs, after each of which is counted."""

MEMORY_GROWTH = 64 * 2**20
"""Bytes of memory by which the second half of the songs may be above the first, as medians of their counts:
allocators keep more or less from one part to the next."""


@dataclass(frozen=True)
class Song:
    """A song of one kind.

    Attributes:
      samples: float32 `[S, C]`.
      rate: Hz.
      is_file: whether it is given as a file.
    """

    samples: np.ndarray
    rate: int
    is_file: bool

    @classmethod
    def of_kind(cls, seed: int, kind: int) -> Song:
        """The song of a kind, which depends on these two numbers alone."""
        rng = np.random.default_rng([seed, kind])
        rate, channels = int(rng.choice(RATES)), int(rng.integers(1, 4))
        time = np.arange(round(rng.uniform(*SECONDS) * rate))[:, None] / rate
        tone = np.sin(2 * np.pi * time * rng.uniform(80, 1000, channels))
        samples = 0.4 * tone + rng.uniform(-0.2, 0.2, (len(time), channels))
        return cls(samples.astype(np.float32), rate, bool(rng.random() < 0.4))


@dataclass(frozen=True)
class Usage:
    """What this process holds.

    Attributes:
      memory: resident, in bytes.
      files: open file handles.
      threads: Python's.
    """

    memory: int
    files: int
    threads: int

    @classmethod
    def now(cls) -> Usage:
        """After what can be let go is let go."""
        gc.collect()
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        memory = next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS"))
        files = len(list(Path("/proc/self/fd").iterdir())) - 1  # the folder itself was open
        return cls(memory, files, threading.active_count())


@dataclass(frozen=True)
class Load:
    """What came of it.

    Attributes:
      songs: that were separated.
      seconds: that it took.
      sound: seconds of sound that they had.
      differing: songs that did not come out as they do alone.
      usage: what the process held, before and after each part of the songs.
    """

    songs: int
    seconds: float
    sound: float
    differing: list[int]
    usage: list[Usage]

    def problems(self) -> list[str]:
        """What is wrong; nothing if all is as it should be."""
        found = []
        if self.differing:
            found.append(f"{len(self.differing)} songs differ: {self.differing[:10]}")
        start, *parts = self.usage
        if (files := parts[-1].files - start.files) > 0:
            found.append(f"{files} files are left open")
        if (left := parts[-1].threads - start.threads) > 0:
            found.append(f"{left} threads are left")
        middle = len(parts) // 2
        before, after = (
            statistics.median(x.memory for x in half) for half in (parts[:middle], parts[middle:])
        )
        if after - before > MEMORY_GROWTH:
            found.append(f"memory grew by {int(after - before) >> 20} MiB in the second half")
        return found


def run(separator: Separator, folder: Path, *, threads: int, songs: int, kinds: int, seed: int) -> Load:
    """Separate `songs` songs of `kinds` kinds by `threads` threads.

    Args:
      separator: that they share.
      folder: for files.
      threads: how many.
      songs: number of songs, of the kinds in turn.
      kinds: number of kinds.
      seed: of the songs.
    """
    alone = [_digest(separator, Song.of_kind(seed, kind), folder / "alone") for kind in range(kinds)]
    sound = [len(song.samples) / song.rate for song in (Song.of_kind(seed, kind) for kind in range(kinds))]

    def differs(number: int) -> bool:
        kind = number % kinds
        return _digest(separator, Song.of_kind(seed, kind), folder / str(number)) != alone[kind]

    def all_of(numbers: range) -> list[int]:
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            return [n for n, wrong in zip(numbers, pool.map(differs, numbers), strict=True) if wrong]

    usage, differing, begin = [Usage.now()], [], time.monotonic()
    for part in range(_PARTS):
        differing += all_of(range(songs * part // _PARTS, songs * (part + 1) // _PARTS))
        usage.append(Usage.now())
    seconds = time.monotonic() - begin
    return Load(songs, seconds, sum(sound[n % kinds] for n in range(songs)), differing, usage)


def _digest(separator: Separator, song: Song, folder: Path) -> str:
    """A digest of all bits of a song's stems; `folder`, which is not there yet, is for its files."""
    if not song.is_file:
        stems = separator.separate(song.samples, song.rate)
        return hashlib.sha256(b"".join(stem.tobytes() for stem in stems.values())).hexdigest()
    folder.mkdir()
    path = folder / "song.wav"
    with Writer(path, song.rate, song.samples.shape[1], Encoding(), len(song.samples)) as writer:
        writer.write(song.samples)
        writer.finish()
    outputs = separator.separate_file(path, folder)
    content = b"".join(output.read_bytes() for output in outputs.values())
    shutil.rmtree(folder)
    return hashlib.sha256(content).hexdigest()


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0 done, 1 something is wrong, 2 wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python tools/load_test.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", nargs="?", metavar="MODEL", help="as --checkpoint (the one that ships)")
    parser.add_argument("--threads", type=int, default=8, help="(%(default)s)")
    parser.add_argument("--songs", type=int, default=1000, help="(%(default)s)")
    parser.add_argument("--kinds", type=int, default=50, help="of songs (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the songs (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for the counts")
    options = parser.parse_args(argv)
    if min(options.threads, options.songs, options.kinds) < 1:
        parser.error("--threads, --songs and --kinds must be at least 1")
    start_logging()
    try:
        with tempfile.TemporaryDirectory() as folder:
            load = run(
                Separator(options.model),
                Path(folder),
                threads=options.threads,
                songs=options.songs,
                kinds=options.kinds,
                seed=options.seed,
            )
        if options.json:
            disk.write_text(options.json, json.dumps(dataclasses.asdict(load), indent=2) + "\n")
    except (RunError, OSError) as error:
        log.error("error: %s", one_line(str(error)))
        return 2
    print(f"{load.songs} songs of {load.sound:.0f} s by {options.threads} threads in {load.seconds:.0f} s")
    print("after songs   MiB  files  threads")
    for part, usage in enumerate(load.usage):
        done = load.songs * part // _PARTS
        print(f"{done:11} {usage.memory / 2**20:5.0f} {usage.files:6} {usage.threads:8}")
    for problem in load.problems():
        print(f"wrong: {problem}")
    return 1 if load.problems() else 0


if __name__ == "__main__":
    sys.exit(main())
