import functools
import shutil

import numpy as np
import pytest

from tests.conftest import write_song
from vocalsep_jax.data.check.fingerprint import STFT, Landmarks
from vocalsep_jax.data.synth.song import generate

SONG_RATE = 22_050


def fingerprint(x):
    """Of mono samples `[S]` at the rate of fingerprints."""
    landmarks = Landmarks()
    landmarks.push(np.abs(STFT.transform(x.astype(np.float32))))
    return landmarks.finish()


def tune(seed, seconds=14.0, rate=SONG_RATE):
    """Random notes with harmonics, and a little noise: stereo, float32 `[S, 2]`; made in no time."""
    return _tune(seed, seconds, rate).copy()


@functools.cache
def _tune(seed, seconds, rate):
    rng = np.random.default_rng(seed)
    x = 1e-3 * rng.standard_normal(round(seconds * rate))
    for start in np.arange(0.0, seconds - 0.5, 0.17):
        t = np.arange(round(rng.uniform(0.2, 0.5) * rate)) / rate
        pitch = 110 * 2 ** (rng.integers(0, 30) / 12)
        note = sum(np.sin(2 * np.pi * k * pitch * t) / k for k in (1, 2, 3, 5)) * np.exp(-6 * t)
        first = round((start + rng.uniform(0, 0.1)) * rate)
        x[first : first + len(t)] += 0.1 * note[: len(x) - first]
    return np.stack([x, 0.8 * x], axis=1).astype(np.float32)


def stems(number, seconds=14.0):
    """Vocals and accompaniment of a made-up song."""
    return {"vocals": tune(2 * number, seconds), "accompaniment": tune(2 * number + 1, seconds)}


@pytest.fixture(scope="session")
def generated():
    """Seven built-in songs of 14 s, at `SONG_RATE`."""
    return [generate(0, "train", n, 14.0, SONG_RATE) for n in range(7)]


@pytest.fixture
def good_root(_good_root, tmp_path):
    """Three training songs, one to validate on and one to test on, with nothing wrong."""
    return shutil.copytree(_good_root, tmp_path / "songs")


@pytest.fixture(scope="session")
def _good_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("good")
    for number, split in enumerate(["train"] * 3 + ["valid", "test"]):
        write_song(root / split / f"Song {number}", stems(number), SONG_RATE)
    return root
