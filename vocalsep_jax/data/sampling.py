"""The stream of training samples: sample i is a function of (seed, i) and of nothing else.

A plan says which song and where a sample's voice and its accompaniment come from, and how they are
changed. Nothing is read here. Random numbers come from hashing (seed, i, which draw), so a stream can be
entered anywhere: resuming takes one integer, and it does not matter how many processes share the work.

Plans are made on the host, of NumPy arrays, or inside a compiled step, of JAX arrays (`xp` is the module
whose arrays are meant). Both give the same songs and places, since these are found in 32-bit integers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from vocalsep_jax.data.augmentation import (
    Augmentation,
    Draw,
    bends_of,
    plain_gains,
    random_bends,
    stem_gains,
)
from vocalsep_jax.data.random_numbers import below, random_words, uniform

VOICED_BLOCK_SECONDS = 0.25
"""Voice activity is noted in blocks of this length."""

_ACTIVE_BELOW_LOUDEST_DB = 30.0
_ACTIVE_ABOVE = 1e-4  # RMS, -80 dBFS


class SongTable(NamedTuple):
    """What a plan needs to know of the songs. The voiced blocks of all songs stand in one array.

    Attributes:
      samples: int32 `[songs]`, their lengths.
      voiced: int32 `[blocks]`, first samples, in their song, of the blocks in which the voice sounds.
      first_voiced: int32 `[songs]`, where in `voiced` a song's blocks begin.
      voiced_count: int32 `[songs]`, how many a song has.
      sung: int32 `[songs with voice]`, the numbers of the songs that have any; all, if none has.
    """

    samples: Any
    voiced: Any
    first_voiced: Any
    voiced_count: Any
    sung: Any

    @classmethod
    def of(cls, samples: Sequence[int], voiced: Sequence[np.ndarray]) -> SongTable:
        """From each song's length and the first samples of its voiced blocks."""
        counts = np.array([len(blocks) for blocks in voiced], np.int32)
        flat = np.concatenate([*voiced, [0]])  # never empty, so that it can be indexed
        ends = np.cumsum(counts, dtype=np.int32)
        sung = np.flatnonzero(counts) if counts.any() else np.arange(len(counts))
        return cls(
            np.array(samples, np.int32), flat.astype(np.int32), ends - counts, counts, sung.astype(np.int32)
        )


class SamplePlan(NamedTuple):
    """How to make `n` samples; every field is an array whose first axis is `n`.

    Attributes:
      voice_song, other_song: int32 `[n]`, indices of the songs that vocals and accompaniment come from.
      voice_start, other_start: int32 `[n]`, first sample of the crop in them.
      voice_gains, other_gains: float32 `[n, K, C]`, what left and right are multiplied with before they
        are summed, for each channel of the sample.
      voice_bends, other_bends: float32 `[n, E]`, dB of the bends of their equalisers.
    """

    voice_song: Any
    voice_start: Any
    voice_gains: Any
    other_song: Any
    other_start: Any
    other_gains: Any
    voice_bends: Any
    other_bends: Any


def training_plan(
    seed: int, index: Any, songs: SongTable, crop: int, augmentation: Augmentation, xp: Any = np
) -> SamplePlan:
    """The plan of samples `index`, uint32 `[n]`, of the stream of `seed`.

    Voices come from songs that have one, remixed accompaniments from all. Every such song is as likely as
    any other, whatever its length. `crop` is the length of a sample; songs
    shorter than that are read from their start (and padded with zeros by the reader).
    """
    words = random_words(seed, index, Draw.COUNT)
    count = xp.asarray(np.full(1, len(songs.samples), np.int32))
    room = xp.maximum(songs.samples - crop, 0)
    song = songs.sung[below(words[Draw.SONG], xp.asarray(np.full(1, len(songs.sung), np.int32)))]
    start = below(words[Draw.START], room[song] + 1)

    # Where the voice sounds: a voiced block begins at a random place within the crop.
    blocks = songs.voiced_count[song]
    wanted = (uniform(words[Draw.VOICED]) < np.float32(augmentation.voiced_share)) & (blocks > 0)
    pick = songs.first_voiced[song] + below(words[Draw.BLOCK], xp.maximum(blocks, 1))
    lead = below(words[Draw.START], xp.asarray(np.full(1, crop, np.int32)))
    start = xp.where(wanted, xp.clip(songs.voiced[pick] - lead, 0, room[song]), start)

    remixed = uniform(words[Draw.REMIX]) < np.float32(augmentation.remix)
    elsewhere = below(words[Draw.OTHER_SONG], count)
    anywhere = below(words[Draw.OTHER_START], room[elsewhere] + 1)
    voice_gains, other_gains = stem_gains(augmentation, words, xp)
    voice_bends, other_bends = random_bends(augmentation, words, xp)
    return SamplePlan(
        voice_song=song,
        voice_start=start,
        voice_gains=voice_gains,
        other_song=xp.where(remixed, elsewhere, song),
        other_start=xp.where(remixed, anywhere, start),
        other_gains=other_gains,
        voice_bends=voice_bends,
        other_bends=other_bends,
    )


def validation_plan(count: int, songs: SongTable, crop: int, augmentation: Augmentation) -> SamplePlan:
    """`count` fixed samples, spread evenly over the songs and over each song's length; NumPy.

    They are unchanged: of `augmentation` only the number of channels matters.
    """
    index = np.arange(count)
    total = len(songs.samples)
    song = (index % total).astype(np.int32)
    place, places = index // total, -(-(count - song) // total)
    room = np.maximum(songs.samples - crop, 0)
    start = ((place + 0.5) / places * room[song]).astype(np.int32)
    plain, unbent = plain_gains(count, augmentation), np.zeros((count, bends_of(augmentation)), np.float32)
    return SamplePlan(song, start, plain, song, start, plain, unbent, unbent)


def validation_batches(
    count: int, songs: SongTable, crop: int, augmentation: Augmentation, batch_size: int
) -> tuple[Callable[[int, int, int], tuple[SamplePlan, np.ndarray]], int]:
    """The samples of `validation_plan` in global batches of `batch_size`.

    Returns:
      A function of step, first place in the batch and number of places, to the plan of these places and
      their weights, float32 `[n]`: 1, or 0 for the samples that the last batch is filled up with; and the
      number of steps.
    """
    whole = validation_plan(count, songs, crop, augmentation)

    def plan(step: int, first: int, places: int) -> tuple[SamplePlan, np.ndarray]:
        index = step * batch_size + first + np.arange(places)
        return SamplePlan(*(field[index % count] for field in whole)), (index < count).astype(np.float32)

    return plan, -(-count // batch_size)


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
