"""What sound files hold, by other ways than the project's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from vocalsep_jax.audio import pyav


@dataclass
class Sound:
    """What a file holds, read at once.

    Attributes:
      samples: float32 `[S, C]`.
      rate: Hz.
      subtype: libsndfile's name, or FFmpeg's, of how samples are kept.
    """

    samples: np.ndarray
    rate: int
    subtype: str

    @property
    def channels(self) -> int:
        """C."""
        return self.samples.shape[1]


def by_libsndfile(path: Path) -> Sound | None:
    """What libsndfile reads of a file; None if it cannot."""
    try:
        with path.open("rb") as file, soundfile.SoundFile(file.fileno(), closefd=False) as sound:
            frames = min(sound.frames, 2**22)  # a damaged header may promise any number
            samples = sound.read(frames, dtype="float32", always_2d=True)
            return Sound(samples, sound.samplerate, sound.subtype)
    except (soundfile.SoundFileError, OSError, ValueError, MemoryError, AssertionError):
        return None


def by_pyav(path: Path) -> Sound | None:
    """What PyAV reads of the first audio stream of a file; None if it cannot."""
    try:
        import av

        with av.open(f"file:{path}", metadata_errors="replace") as container:
            stream = container.streams.audio[0]
            floats = av.AudioResampler("flt", stream.layout, stream.rate)
            frames = [f.to_ndarray() for frame in container.decode(stream) for f in floats.resample(frame)]
            samples = np.concatenate(frames, axis=1).reshape(-1, stream.channels)
            return Sound(samples, stream.rate, stream.codec.name)
    except Exception:  # a damaged file can raise anything
        return None


def sound_of(path: Path) -> Sound | None:
    """What an input holds; None if nothing can be read."""
    return by_pyav(path) if path.suffix.lower() in pyav.SUFFIXES else by_libsndfile(path)
