"""How samples are kept in the files that are written: containers, sample formats, bit rates.

A container that users can choose is one entry of `CONTAINERS`: the command's flags, the checks and the
writer follow from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Container:
    """A kind of file that libsndfile writes.

    Attributes:
      subtypes: libsndfile's name of each sample format it holds: `int16`, `int24`, `float32`, and None
        for the one of a lossy coding. The first is the default.
      max_channels, max_rate: what it holds at most, rate in Hz.
      bitrates: of a lossy coding, the lowest and the highest bit rate that can be asked for, kbit/s.
      options: of a lossy coding, soundfile's arguments for a bit rate in kbit/s (None: the default one)
        at a sample rate in Hz; raises ValueError if that rate has no such bit rate.
    """

    subtypes: Mapping[str | None, str]
    max_channels: int
    max_rate: int
    bitrates: tuple[int, int] | None = None
    options: Callable[[int | None, int], dict[str, Any]] | None = None


_VORBIS_RATES = (64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 500)
"""Nominal kbit/s of stereo at 44.1 kHz at Vorbis qualities 0.0, 0.1, ..., 1.0 (libvorbis' own table)."""


def _ogg_options(bitrate: int | None, rate: int) -> dict[str, Any]:
    """Vorbis has qualities rather than bit rates; 192 kbit/s is the default."""
    del rate
    quality = np.interp(bitrate or 192, _VORBIS_RATES, np.linspace(0, 1, len(_VORBIS_RATES)))
    return {"compression_level": 1 - float(quality)}


def _mp3_options(bitrate: int | None, rate: int) -> dict[str, Any]:
    """A constant bit rate; the default is 320 kbit/s, or the most that the sample rate has."""
    # libsndfile spreads its levels evenly over the rates of each version of MPEG.
    low, high = (32, 320) if rate >= 32_000 else (8, 160) if rate >= 16_000 else (8, 64)
    if bitrate is not None and not low <= bitrate <= high:
        raise ValueError(f"mp3 at {rate} Hz has {low} to {high} kbit/s, not {bitrate}")
    level = (high - min(bitrate or 320, high)) / (high - low)
    return {"bitrate_mode": "CONSTANT", "compression_level": min(level, 0.999)}


CONTAINERS = {
    "wav": Container({"int16": "PCM_16", "int24": "PCM_24", "float32": "FLOAT"}, 1024, 2**31 - 1),
    "flac": Container({"int16": "PCM_16", "int24": "PCM_24"}, 8, 655_350),
    "ogg": Container({None: "VORBIS"}, 255, 200_000, (_VORBIS_RATES[0], _VORBIS_RATES[-1]), _ogg_options),
    "mp3": Container({None: "MPEG_LAYER_III"}, 2, 48_000, (8, 320), _mp3_options),
}
"""Containers by the suffix of their files; the first is the default."""

SAMPLE_FORMATS = {"int16": 16, "int24": 24, "float32": None}
"""Sample formats and the bits of their integers; None for floats."""


@dataclass(frozen=True)
class Encoding:
    """How samples are kept in a file.

    Attributes:
      container: one of `CONTAINERS`: the file's suffix.
      sample: one of `SAMPLE_FORMATS`; None where the coding is lossy.
      bitrate: kbit/s where the coding is lossy, else None. mp3 takes the nearest that it has, constant; ogg
        a quality that has about this for stereo at 44.1 kHz. None for the container's default: 320 for mp3
        (or the most that the sample rate allows), 192 for ogg.

    Raises:
      ValueError: if the container or the sample format is unknown, or they and the bit rate do not go
        together.
    """

    container: str = "wav"
    sample: str | None = "int16"
    bitrate: int | None = None

    def __post_init__(self) -> None:
        if self.container not in CONTAINERS:
            raise ValueError(
                f"the container must be one of {', '.join(CONTAINERS)}, not {self.container!r}"
            )
        if self.sample not in self._container.subtypes:
            able = [name for name, container in CONTAINERS.items() if self.sample in container.subtypes]
            raise ValueError(
                f"{self.container} files do not hold {self.sample} samples; these do: {', '.join(able)}"
            )
        if self.bitrate is not None:
            if self._container.bitrates is None:
                raise ValueError(f"{self.container} files have no bit rate to choose")
            low, high = self._container.bitrates
            if not low <= self.bitrate <= high:
                raise ValueError(
                    f"the bit rate of {self.container} is {low} to {high} kbit/s, not {self.bitrate}"
                )

    @classmethod
    def of(cls, container: str | None, sample: str | None, bitrate: int | None = None) -> Encoding:
        """The encoding with these choices; None stands for the default.

        Raises:
          ValueError: if they do not go together.
        """
        container = container or next(iter(CONTAINERS))
        if sample is None and container in CONTAINERS:
            sample = next(iter(CONTAINERS[container].subtypes))
        return cls(container, sample, bitrate)

    @property
    def _container(self) -> Container:
        return CONTAINERS[self.container]

    @property
    def subtype(self) -> str:
        """libsndfile's name of the sample format."""
        return self._container.subtypes[self.sample]

    @property
    def bits(self) -> int | None:
        """Bits of an integer sample, or None."""
        return SAMPLE_FORMATS[self.sample] if self.sample else None

    @property
    def full_scale(self) -> float:
        """The largest sample value that is kept as it is; infinity for floats."""
        if self.sample == "float32":
            return math.inf
        return 1 - 2.0 ** (1 - self.bits) if self.bits else 1.0

    def options(self, rate: int, channels: int) -> dict[str, Any]:
        """soundfile's arguments for a file of so many channels at a sample rate in Hz.

        Raises:
          ValueError: if the container cannot hold so many channels or such a rate, or has no
            such bit rate at that rate.
        """
        container = self._container
        if channels > container.max_channels or rate > container.max_rate:
            able = [n for n, c in CONTAINERS.items() if channels <= c.max_channels and rate <= c.max_rate]
            raise ValueError(
                f"{self.container} holds at most {container.max_channels} channels and "
                f"{container.max_rate} Hz, not {channels} and {rate}; "
                f"these can: {', '.join(able) or 'none'}"
            )
        return container.options(self.bitrate, rate) if container.options else {}


def quantise(samples: np.ndarray, bits: int = 16) -> np.ndarray:
    """Round samples of any shape to multiples of `2^(1 - bits)`, clipped to [-1, 1 - 2^(1 - bits)].

    These are the values of integers of so many bits. The result is float32, which holds up to 24 bits
    exactly.
    """
    full = 2.0 ** (bits - 1)
    clipped = np.clip(samples, -1, 1 - 1 / full)  # before the product, which may be infinite
    return (np.round(clipped * full) / full).astype(np.float32)
