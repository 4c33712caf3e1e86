"""The stream of training samples: sample i is a function of (seed, i) and of nothing else.

A plan says which song and where a sample's voice and its accompaniment come from, and how they are
changed. Nothing is read here. Random numbers come from hashing (seed, i, which draw), so a stream can be
entered anywhere: resuming takes one integer, and it does not matter how many processes share the work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

VOICED_BLOCK_SECONDS = 0.25
"""Voice activity is noted in blocks of this length."""

CHANNELS = ("mono", "left", "right", "random")

_ACTIVE_BELOW_LOUDEST_DB = 30.0
_ACTIVE_ABOVE = 1e-4  # RMS, -80 dBFS


class Draw:
    """Which random number of a sample: a salt for the hash, so that switches do not disturb each other."""

    SONG, VOICED, BLOCK, START, REPAIR, OTHER_SONG, OTHER_START = range(7)
    VOICE_GAIN, OTHER_GAIN, VOICE_SWAP, OTHER_SWAP, CHANNEL = range(7, 12)


@dataclass(frozen=True)
class SongTable:
    """What a plan needs to know of the songs.

    Attributes:
      samples: int64 `[songs]`, their lengths.
      voiced: for each song, int64 first samples of the blocks in which the voice sounds.
    """

    samples: np.ndarray
    voiced: tuple[np.ndarray, ...]

    @classmethod
    def from_metadata(cls, songs: Sequence[Mapping[str, Any]]) -> SongTable:
        """From the dictionaries a data set keeps of its songs (`samples`, `voiced`)."""
        return cls(
            np.array([s["samples"] for s in songs], np.int64),
            tuple(np.array(s["voiced"], np.int64) for s in songs),
        )


class Plan(NamedTuple):
    """How to make `n` samples; every field is an array `[n]`.

    Attributes:
      voice_song, other_song: int32, indices of the songs voice and accompaniment come from.
      voice_start, other_start: int64, first sample of the crop in them.
      voice_gain, other_gain: float32 factors.
      voice_swap, other_swap: bool, exchange left and right.
      channel: int32, 0 the mean of left and right, 1 left, 2 right.
    """

    voice_song: np.ndarray
    voice_start: np.ndarray
    voice_gain: np.ndarray
    voice_swap: np.ndarray
    other_song: np.ndarray
    other_start: np.ndarray
    other_gain: np.ndarray
    other_swap: np.ndarray
    channel: np.ndarray


@dataclass(frozen=True)
class Augmentation:
    """The switches of `config.data` that change samples; all off by default.

    Attributes:
      channels: `mono` (mean of left and right), `left`, `right`, or `random` (any of the three).
      voiced_share: share of the crops that are placed where the voice sounds; the others lie anywhere.
      gain_db: voice and accompaniment are each scaled by a gain uniform in ± this many dB.
      swap_channels: probability that left and right are exchanged, for each stem on its own.
      repair: probability that the accompaniment comes from another place of any song.
    """

    channels: str = "mono"
    voiced_share: float = 0.0
    gain_db: float = 0.0
    swap_channels: float = 0.0
    repair: float = 0.0

    def __post_init__(self) -> None:
        if self.channels not in CHANNELS:
            raise ValueError(f"data.channels must be one of {', '.join(CHANNELS)}, not {self.channels!r}")
        for name in ("voiced_share", "swap_channels", "repair"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"data.{name} must be in [0, 1], got {getattr(self, name)}")
        if self.gain_db < 0:
            raise ValueError(f"data.gain_db must be at least 0, got {self.gain_db}")


def uniform(seed: int, index: np.ndarray, draw: int) -> np.ndarray:
    """Uniform numbers in [0, 1), float64 `[n]`, for draw number `draw` of samples `index` `[n]`.

    Two rounds of a 64-bit finaliser (SplitMix64; Steele, Lea & Flood 2014) over the three integers.
    """
    with np.errstate(over="ignore"):
        key = _mix(np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(draw))
        bits = _mix(_mix(index.astype(np.uint64) + key) + key)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(x: Any) -> Any:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def training_plan(
    seed: int, index: np.ndarray, songs: SongTable, crop: int, augmentation: Augmentation
) -> Plan:
    """The plan of samples `index` `[n]` of the stream of `seed`.

    Every song is as likely as any other, whatever its length. `crop` is the length of a sample; songs
    shorter than that are read from their start (and padded with zeros by the reader).
    """

    def draw(number: int) -> np.ndarray:
        return uniform(seed, index, number)

    count = len(songs.samples)
    room = np.maximum(songs.samples - crop, 0)
    song = (draw(Draw.SONG) * count).astype(np.int32)
    start = (draw(Draw.START) * (room[song] + 1)).astype(np.int64)

    # Where the voice sounds: a voiced block begins at a random place within the crop.
    blocks = np.array([len(v) for v in songs.voiced])
    wanted = (draw(Draw.VOICED) < augmentation.voiced_share) & (blocks[song] > 0)
    pick = (draw(Draw.BLOCK) * blocks[song]).astype(np.int64)
    lead = draw(Draw.START) * crop
    for n in np.flatnonzero(wanted):
        block = songs.voiced[song[n]][pick[n]]
        start[n] = np.clip(block - int(lead[n]), 0, room[song[n]])

    other_song, other_start = song.copy(), start.copy()
    repaired = draw(Draw.REPAIR) < augmentation.repair
    elsewhere = (draw(Draw.OTHER_SONG) * count).astype(np.int32)
    other_song[repaired] = elsewhere[repaired]
    anywhere = (draw(Draw.OTHER_START) * (room[elsewhere] + 1)).astype(np.int64)
    other_start[repaired] = anywhere[repaired]

    def gain(number: int) -> np.ndarray:
        decibels = augmentation.gain_db * (2 * draw(number) - 1)
        return (10 ** (decibels / 20)).astype(np.float32)

    if augmentation.channels == "random":
        channel = (draw(Draw.CHANNEL) * 3).astype(np.int32)
    else:
        channel = np.full(len(index), CHANNELS.index(augmentation.channels), np.int32)
    return Plan(
        voice_song=song,
        voice_start=start,
        voice_gain=gain(Draw.VOICE_GAIN),
        voice_swap=draw(Draw.VOICE_SWAP) < augmentation.swap_channels,
        other_song=other_song,
        other_start=other_start,
        other_gain=gain(Draw.OTHER_GAIN),
        other_swap=draw(Draw.OTHER_SWAP) < augmentation.swap_channels,
        channel=channel,
    )


def validation_plan(count: int, songs: SongTable, crop: int) -> Plan:
    """`count` fixed samples, unchanged, spread evenly over the songs and over each song's length."""
    index = np.arange(count)
    total = len(songs.samples)
    song = (index % total).astype(np.int32)
    place, places = index // total, -(-(count - song) // total)
    room = np.maximum(songs.samples - crop, 0)
    start = ((place + 0.5) / places * room[song]).astype(np.int64)
    ones, no = np.ones(count, np.float32), np.zeros(count, bool)
    return Plan(song, start, ones, no, song, start, ones, no, np.zeros(count, np.int32))


def voiced_blocks(vocals: np.ndarray, sample_rate: int) -> np.ndarray:
    """First samples of the blocks in which the voice sounds: float32 `[S, 2]` -> int64 `[blocks]`.

    A block sounds if its RMS is within 30 dB of the song's loudest block and above -80 dBFS.
    """
    block = round(VOICED_BLOCK_SECONDS * sample_rate)
    whole = vocals[: len(vocals) // block * block].astype(np.float64)
    if not len(whole):
        return np.zeros(0, np.int64)
    rms = np.sqrt(np.mean(whole.reshape(-1, block * vocals.shape[1]) ** 2, axis=1))
    threshold = max(rms.max() * 10 ** (-_ACTIVE_BELOW_LOUDEST_DB / 20), _ACTIVE_ABOVE)
    return np.flatnonzero(rms > threshold) * block
