import jax
import numpy as np
import pytest

from tests.conftest import tone
from vocalsep_jax.data import resident, sampling
from vocalsep_jax.data.crops import read_crops
from vocalsep_jax.data.prepared import MemoryStore, prepare_song
from vocalsep_jax.data.resident import ResidentSongs, fits
from vocalsep_jax.data.sampling import Augmentation
from vocalsep_jax.data.songs import Song, Stems

CROP = 5000
EVERYTHING = Augmentation("random", 0.5, 6.0, 0.5, 0.5)


@pytest.fixture(scope="module")
def store():
    """Songs longer and shorter than a crop, as loud as each other or not."""
    rng = np.random.default_rng(0)
    songs = []
    for number, samples in enumerate((20_000, 3000, 5000, 40_000)):
        vocals = tone(300 + 100 * number, samples / 8000) * (1 + number)
        other = rng.standard_normal((samples, 2)).astype(np.float32) / 4
        stems = Stems(vocals, other)
        songs.append(Song(f"{number}", lambda rate, stems=stems: stems, ""))
    return MemoryStore.of([prepare_song(song, 8000) for song in songs])


@pytest.mark.parametrize("augmentation", [Augmentation(), EVERYTHING], ids=["plain", "augmented"])
def test_the_device_cuts_what_the_host_reads(store, augmentation):
    index = np.arange(300, dtype=np.uint32)
    songs = ResidentSongs.of(store, CROP, jax.device_put)

    @jax.jit
    def cut(songs, index):
        plan = sampling.training_plan(5, index, songs.table, CROP, augmentation, jax.numpy)
        return songs.cut(plan, CROP, np.ones(300, np.float32))

    plan = sampling.training_plan(5, index, store.table, CROP, augmentation)
    expected = read_crops(store, plan, CROP, np.ones(300))
    assert not expected.vocals[plan.voice_song == 1, :, 3000:].any()
    for name, a, b in zip(expected._fields, cut(songs, index), expected, strict=True):
        if a.dtype == np.int16:
            np.testing.assert_array_equal(a, b, err_msg=name)
        else:
            np.testing.assert_allclose(a, b, rtol=1e-6, err_msg=name)


def test_what_fits():
    assert fits(1000, CROP, device_memory=16_000, host_memory=10_000)
    assert not fits(1001, CROP, device_memory=16_000, host_memory=20_000)
    assert not fits(1001, CROP, device_memory=20_000, host_memory=10_000)
    assert not fits(2**31 - CROP, CROP, device_memory=2**50, host_memory=2**50)


def test_more_samples_than_can_be_counted_are_refused(store, monkeypatch):
    monkeypatch.setattr(resident, "_COUNTABLE", 70_000)
    with pytest.raises(ValueError, match=r"data\.placement resident: 68000 samples of songs are too many"):
        ResidentSongs.of(store, CROP, jax.device_put)
