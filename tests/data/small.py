"""Small songs, and the smallest steps that tell one batch from another."""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from tests.conftest import tone
from vocalsep_jax.audio.stft import Stft
from vocalsep_jax.data.augmentation import Augmentation
from vocalsep_jax.data.crops import patches
from vocalsep_jax.data.feed import Recipe
from vocalsep_jax.data.prepared import MemoryStore, prepare_song
from vocalsep_jax.data.songs import Song, Stems
from vocalsep_jax.runtime.data_parallel import AXIS

EVERYTHING = Augmentation("random", voiced_share=0.5, gain_db=6.0, swap_channels=0.5, remix=0.5)
"""Changes of samples of one channel."""

STEREO = Augmentation(
    "stereo",
    voiced_share=0.5,
    gain_db=6.0,
    level_db=3.0,
    swap_channels=0.5,
    invert=0.5,
    balance_db=6.0,
    width=2.0,
    voice_absent=0.1,
    accompaniment_absent=0.1,
    equalizer_db=3.0,
    remix=0.5,
)
"""Every change there is, of samples of two channels."""

RECIPE = Recipe(0, Stft(62, 21), 32, 8, EVERYTHING, 12)
"""Of small batches."""

STEREO_RECIPE = dataclasses.replace(RECIPE, augmentation=STEREO)
"""The same in stereo."""

patches_of = jax.jit(lambda crops: patches(crops, RECIPE.stft))
"""The patches of crops."""


class State(NamedTuple):
    """The state of a step that counts, and adds up what it sees."""

    step: Any
    seen: Any

    @classmethod
    def fresh(cls, recipe=RECIPE):
        patch = (32, 32) if recipe.augmentation.channels != "stereo" else (32, 32, 2)
        return cls(np.int32(0), np.zeros((3, *patch), np.float32))


def summing_step(state, batch):
    """A per-device training step: the sums of what a batch holds are its work."""
    sums = jax.lax.psum(weighted_sums(batch), AXIS)
    return State(state.step + 1, state.seen + sums), jax.numpy.mean(sums)


def summing_evaluation(variables, batch):
    del variables
    return jax.lax.psum((weighted_sums(batch), batch.weight.sum()), AXIS)


def weighted_sums(batch):
    weight = batch.weight.reshape(-1, *[1] * (batch.mixture.ndim - 1))
    return jax.numpy.stack([(x * weight).sum(axis=0) for x in batch[:3]])


def assert_same_patches(ours, expected, tolerance=1e-5):
    """But for rounding."""
    np.testing.assert_array_equal(ours.weight, expected.weight)
    for a, b in zip(ours[:3], expected[:3], strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= tolerance * np.abs(b).max()


def assert_same_sizes(work, example):
    """Whether what was compiled with the one serves the other."""
    for a, b in zip(jax.tree.leaves(work[1:]), jax.tree.leaves(example[1:]), strict=True):
        assert (a.shape, a.dtype, a.sharding) == (b.shape, b.dtype, b.sharding)


def tone_store(lengths, frequency=300):
    """A store of songs of so many samples, at 8 kHz: tones, each louder than the last, and noise."""
    rng = np.random.default_rng(frequency)
    songs = []
    for number, samples in enumerate(lengths):
        vocals = tone(frequency + 100 * number, samples / 8000) * (1 + number)
        vocals[:, 1] *= 0.5
        stems = Stems(vocals, rng.standard_normal((samples, 2)).astype(np.float32) / 4)
        songs.append(Song(f"{number}", lambda rate, stems=stems: stems, ""))
    return MemoryStore.of([prepare_song(song, 8000) for song in songs])
