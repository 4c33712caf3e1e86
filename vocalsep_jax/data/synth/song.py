"""The built-in songs, one by one or as a library.

Axis letters: `S` samples.
"""

from __future__ import annotations

import numpy as np

from vocalsep_jax.audio.resampling import resample
from vocalsep_jax.data.songs import SPLITS, Library, Song, Stems
from vocalsep_jax.data.synth import band, voice
from vocalsep_jax.data.synth.score import Score
from vocalsep_jax.data.synth.sound import RATE, rms

VERSION = 1
"""Part of every built-in song's fingerprint; raise it whenever the sound changes."""


def builtin_library(
    *, train_songs: int, valid_songs: int, test_songs: int, seconds: float, seed: int
) -> Library:
    """A library of built-in songs. A song is generated each time it is loaded.

    Args:
      train_songs, valid_songs, test_songs: number of songs in each split.
      seconds: length of every song, at least 1.
      seed: at least 0.
    """
    counts = dict(zip(SPLITS, (train_songs, valid_songs, test_songs), strict=True))
    return Library(
        source="the built-in songs",
        splits={
            split: tuple(builtin_song(seed, split, n, seconds) for n in range(count))
            for split, count in counts.items()
        },
        validation_choice="generated from seeds of their own",
    )


def builtin_song(seed: int, split: str, index: int, seconds: float) -> Song:
    """A song that `generate` makes when it is loaded. The arguments are those of `generate`."""
    return Song(
        name=f"Built-in - {split} {index + 1:02d}",
        load=lambda rate: generate(seed, split, index, seconds, rate),
        fingerprint=f"synth {VERSION} {seed} {split} {index} {seconds:g}",
    )


def generate(seed: int, split: str, index: int, seconds: float, rate: int = RATE) -> Stems:
    """Generate a song at 44.1 kHz and resample it.

    Args:
      seed: at least 0.
      split: one of `SPLITS`. Each split has random numbers of its own.
      index: number of the song in its split, from 0.
      seconds: length, at least 1.
      rate: sample rate of the result in Hz.

    Returns:
      Stems, float32 `[S, 2]`. The voice's RMS is 1.5 to 4.5 dB below the accompaniment's. A song shorter
      than three beats, 2.4 seconds at most, may have no voice. Before resampling, the peak of the mixture
      is between 0.5 and 0.95 of full scale.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    samples = round(seconds * RATE)
    score = Score.compose(rng, seconds)
    vocals = voice.sing(rng, score, samples)
    accompaniment = band.play(rng, score, samples)
    level = 10 ** ((-3.0 + rng.uniform(-1.5, 1.5)) / 20)
    vocals *= level * rms(accompaniment) / max(rms(vocals), 1e-9)
    gain = rng.uniform(0.5, 0.95) / np.abs(vocals + accompaniment).max()
    stems = [resample((x * gain).astype(np.float32), RATE, rate) for x in (vocals, accompaniment)]
    return Stems(*stems)
