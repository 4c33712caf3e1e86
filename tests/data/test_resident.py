import jax
import numpy as np
import pytest

from tests.data.small import EVERYTHING, STEREO
from vocalsep_jax.data import resident, sampling
from vocalsep_jax.data.crops import read_crops
from vocalsep_jax.data.resident import ResidentSongs, fits

CROP = 5000


@pytest.mark.parametrize("augmentation", [EVERYTHING, STEREO], ids=["one channel", "stereo"])
def test_the_device_cuts_what_the_host_reads(stores, augmentation):
    store = stores["train"]
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
            # A width makes differences of numbers that are almost the same, and the largest scale is 1e-4.
            rounding = 1e-10 if augmentation is STEREO else 0
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=rounding, err_msg=name)


def test_what_fits():
    assert fits(1000, CROP, device_memory=16_000, host_memory=10_000)
    assert not fits(1001, CROP, device_memory=16_000, host_memory=20_000)
    assert not fits(1001, CROP, device_memory=20_000, host_memory=10_000)
    assert not fits(2**31 - CROP, CROP, device_memory=2**50, host_memory=2**50)


def test_more_samples_than_can_be_counted_are_refused(stores, monkeypatch):
    monkeypatch.setattr(resident, "_COUNTABLE", 70_000)
    with pytest.raises(ValueError, match=r"data\.placement resident: 68000 samples of songs are too many"):
        ResidentSongs.of(stores["train"], CROP, jax.device_put)
