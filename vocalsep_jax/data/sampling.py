"""The stream of training samples: sample i is a function of (seed, i) and of nothing else.

A plan says which song and where a sample's voice and its accompaniment come from, and how they are
changed. Nothing is read here. Random numbers come from hashing (seed, i, which draw), so a stream can be
entered anywhere: resuming takes one integer, and it does not matter how many processes share the work.

Plans are made on the host, of NumPy arrays, or inside a compiled step, of JAX arrays (`xp` is the module
whose arrays are meant). Both give the same songs and places, since these are found in 32-bit integers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

VOICED_BLOCK_SECONDS = 0.25
"""Voice activity is noted in blocks of this length."""

CHANNELS = ("mono", "left", "right", "random")

STREAM_LENGTH = 2**32
"""Seeds, and places in a stream, are below this."""

_ACTIVE_BELOW_LOUDEST_DB = 30.0
_ACTIVE_ABOVE = 1e-4  # RMS, -80 dBFS


class Draw:
    """Which random number of a sample: part of the hash's key, so that no switch disturbs another."""

    SONG, VOICED, BLOCK, START, REPAIR, OTHER_SONG, OTHER_START = range(7)
    VOICE_GAIN, OTHER_GAIN, VOICE_SWAP, OTHER_SWAP, CHANNEL = range(7, 12)
    COUNT = 12


class SongTable(NamedTuple):
    """What a plan needs to know of the songs. The voiced blocks of all songs stand in one array.

    Attributes:
      samples: int32 `[songs]`, their lengths.
      voiced: int32 `[blocks]`, first samples, in their song, of the blocks in which the voice sounds.
      first_voiced: int32 `[songs]`, where in `voiced` a song's blocks begin.
      voiced_count: int32 `[songs]`, how many a song has.
    """

    samples: Any
    voiced: Any
    first_voiced: Any
    voiced_count: Any

    @classmethod
    def of(cls, samples: Sequence[int], voiced: Sequence[np.ndarray]) -> SongTable:
        """From each song's length and the first samples of its voiced blocks."""
        counts = np.array([len(blocks) for blocks in voiced], np.int32)
        flat = np.concatenate([*voiced, [0]])  # never empty, so that it can be indexed
        ends = np.cumsum(counts, dtype=np.int32)
        return cls(np.array(samples, np.int32), flat.astype(np.int32), ends - counts, counts)


class Plan(NamedTuple):
    """How to make `n` samples; every field is an array `[n]`.

    Attributes:
      voice_song, other_song: int32, indices of the songs voice and accompaniment come from.
      voice_start, other_start: int32, first sample of the crop in them.
      voice_gain, other_gain: float32 factors.
      voice_swap, other_swap: bool, exchange left and right.
      channel: int32, 0 the mean of left and right, 1 left, 2 right.
    """

    voice_song: Any
    voice_start: Any
    voice_gain: Any
    voice_swap: Any
    other_song: Any
    other_start: Any
    other_gain: Any
    other_swap: Any
    channel: Any


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


def random_words(seed: int, index: Any, draws: int) -> Any:
    """Random words, uint32 `[draws, n]`, of samples `index`, uint32 `[n]`; one row a draw.

    Threefry-2x32 in 20 rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): the
    first word of the block `(index, 0)` under the key `(seed, draw)`.
    """
    keys = [np.full((draws, 1), seed, np.uint32), np.arange(draws, dtype=np.uint32)[:, None]]
    keys.append(keys[0] ^ keys[1] ^ np.uint32(0x1BD11BDA))
    x, y = index[None] + keys[0], 0 * index[None] + keys[1]
    for group in range(5):
        for rotation in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
            x = x + y
            y = x ^ ((y << rotation) | (y >> (32 - rotation)))
        x = x + keys[(group + 1) % 3]
        y = y + keys[(group + 2) % 3] + np.uint32(group + 1)
    return x


def uniform(words: Any) -> Any:
    """Uniform numbers in [0, 1), float32, from random words (their upper 24 bits)."""
    return (words >> 8).astype(np.float32) * np.float32(2.0**-24)


def below(words: Any, limit: Any) -> Any:
    """Uniform integers in [0, limit), int32, from random words; `limit` is int32, at least 1.

    The upper half of the 64-bit product, from 16-bit halves: devices have no 64-bit integers by default.
    """
    limit = limit.astype(np.uint32)
    low, high = words & 0xFFFF, words >> 16
    limit_low, limit_high = limit & 0xFFFF, limit >> 16
    middle = high * limit_low + (low * limit_low >> 16)
    other = low * limit_high + (middle & 0xFFFF)
    return (high * limit_high + (middle >> 16) + (other >> 16)).astype(np.int32)


def training_plan(
    seed: int, index: Any, songs: SongTable, crop: int, augmentation: Augmentation, xp: Any = np
) -> Plan:
    """The plan of samples `index`, uint32 `[n]`, of the stream of `seed`.

    Every song is as likely as any other, whatever its length. `crop` is the length of a sample; songs
    shorter than that are read from their start (and padded with zeros by the reader).
    """
    words = random_words(seed, index, Draw.COUNT)
    count = xp.asarray(np.full(1, len(songs.samples), np.int32))
    room = xp.maximum(songs.samples - crop, 0)
    song = below(words[Draw.SONG], count)
    start = below(words[Draw.START], room[song] + 1)

    # Where the voice sounds: a voiced block begins at a random place within the crop.
    blocks = songs.voiced_count[song]
    wanted = (uniform(words[Draw.VOICED]) < np.float32(augmentation.voiced_share)) & (blocks > 0)
    pick = songs.first_voiced[song] + below(words[Draw.BLOCK], xp.maximum(blocks, 1))
    lead = below(words[Draw.START], xp.asarray(np.full(1, crop, np.int32)))
    start = xp.where(wanted, xp.clip(songs.voiced[pick] - lead, 0, room[song]), start)

    repaired = uniform(words[Draw.REPAIR]) < np.float32(augmentation.repair)
    elsewhere = below(words[Draw.OTHER_SONG], count)
    anywhere = below(words[Draw.OTHER_START], room[elsewhere] + 1)

    def gain(number: int) -> Any:
        decibels = np.float32(augmentation.gain_db) * (2 * uniform(words[number]) - 1)
        return xp.exp(np.float32(math.log(10) / 20) * decibels)

    if augmentation.channels == "random":
        channel = below(words[Draw.CHANNEL], xp.asarray(np.full(1, 3, np.int32)))
    else:
        channel = 0 * song + CHANNELS.index(augmentation.channels)
    return Plan(
        voice_song=song,
        voice_start=start,
        voice_gain=gain(Draw.VOICE_GAIN),
        voice_swap=uniform(words[Draw.VOICE_SWAP]) < np.float32(augmentation.swap_channels),
        other_song=xp.where(repaired, elsewhere, song),
        other_start=xp.where(repaired, anywhere, start),
        other_gain=gain(Draw.OTHER_GAIN),
        other_swap=uniform(words[Draw.OTHER_SWAP]) < np.float32(augmentation.swap_channels),
        channel=channel,
    )


def validation_plan(count: int, songs: SongTable, crop: int) -> Plan:
    """`count` fixed samples, unchanged, spread evenly over the songs and over each song's length; NumPy."""
    index = np.arange(count)
    total = len(songs.samples)
    song = (index % total).astype(np.int32)
    place, places = index // total, -(-(count - song) // total)
    room = np.maximum(songs.samples - crop, 0)
    start = ((place + 0.5) / places * room[song]).astype(np.int32)
    ones, no = np.ones(count, np.float32), np.zeros(count, bool)
    return Plan(song, start, ones, no, song, start, ones, no, np.zeros(count, np.int32))


def validation_batches(
    count: int, songs: SongTable, crop: int, batch_size: int
) -> tuple[Callable[[int, int, int], tuple[Plan, np.ndarray]], int]:
    """The samples of `validation_plan` in global batches of `batch_size`.

    Returns:
      A function of step, first place in the batch and number of places, to the plan of these places and
      their weights, float32 `[n]`: 1, or 0 for the samples that the last batch is filled up with; and the
      number of steps.
    """
    whole = validation_plan(count, songs, crop)

    def plan(step: int, first: int, places: int) -> tuple[Plan, np.ndarray]:
        index = step * batch_size + first + np.arange(places)
        return Plan(*(field[index % count] for field in whole)), (index < count).astype(np.float32)

    return plan, -(-count // batch_size)


def channel_gains(gain: Any, swap: Any, channel: Any, xp: Any = np) -> Any:
    """What left and right of each crop are multiplied with before they are summed: float32 `[n, 2]`.

    From fields of a plan: the channel's choice, left and right exchanged or not, times the gain.
    """
    mean = np.float32(0.5)
    left = xp.where(channel == 0, mean, xp.where((channel == 1) ^ swap, np.float32(1), np.float32(0)))
    right = xp.where(channel == 0, mean, 1 - left)
    return gain[:, None] * xp.stack([left, right], axis=1)


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
