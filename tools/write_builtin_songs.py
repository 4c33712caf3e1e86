"""Write built-in songs as audio files, in the layout that training and evaluation read.

    python tools/write_builtin_songs.py FOLDER --split test --count 1

gives FOLDER/test/<name>/{vocals,accompaniment,mixture}.wav, 44.1 kHz stereo.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vocalsep_jax.audio import files
from vocalsep_jax.audio.encoding import Encoding
from vocalsep_jax.data.songs import SPLITS
from vocalsep_jax.data.synth.song import builtin_song

_RATE = 44_100


def write_songs(root: Path, split: str, count: int, seconds: float, seed: int) -> None:
    """Write songs as 16-bit WAV to `root/<split>/<song>/{vocals,accompaniment,mixture}.wav`.

    The other arguments are those of `generate`. Each folder is printed once it is written.

    Raises:
      AudioError: if a file cannot be written.
    """
    for index in range(count):
        song = builtin_song(seed, split, index, seconds)
        stems = song.load(_RATE)
        folder = root / split / song.name
        for name in ("vocals", "accompaniment", "mixture"):
            samples = getattr(stems, name)
            path = folder / f"{name}.wav"
            with files.Writer(path, _RATE, samples.shape[1], Encoding(), len(samples)) as file:
                file.write(samples)
        print(folder, flush=True)


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--count", type=int, default=1, help="number of songs (%(default)s)")
    parser.add_argument("--seconds", type=float, default=30.0, help="length (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    options = parser.parse_args()
    try:
        write_songs(options.folder, options.split, options.count, options.seconds, options.seed)
    except files.AudioError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
