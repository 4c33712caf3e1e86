from functools import partial

import jax
import numpy as np
import pytest

from tests.data.small import EVERYTHING, STEREO
from vocalsep_jax.data import sampling
from vocalsep_jax.data.crops import read_crops
from vocalsep_jax.data.prepared import STEMS
from vocalsep_jax.data.resident import Part, ResidentSongs, Spread, firsts, fits, part_rows, part_samples
from vocalsep_jax.runtime.data_parallel import AXIS, MODES, DataParallel

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


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("parts", "devices"), [(2, 2), (3, 3), (2, 4), (8, 8)])
def test_spread_over_devices_the_crops_are_the_same(stores, mode, parts, devices):
    """Crops lie within a part, across two or more, or across the last song's end."""
    store, count = stores["train"], 24 * devices
    parallel = DataParallel(mode, jax.devices()[:devices])
    spread = Spread(parts, devices)
    part = parallel.place_parts(partial(Part.of, store, CROP, parts=parts), parts)
    about = parallel.replicate((store.table, store.scales))
    index = np.arange(count, dtype=np.uint32)

    def step(_, own, about):
        index, part = own
        plan = sampling.training_plan(5, index, about[0], CROP, EVERYTHING, jax.numpy)
        weight = np.ones(len(index), np.float32)
        crops = ResidentSongs(*about, part).cut(plan, CROP, weight, spread)
        return jax.lax.all_gather((crops.vocals, crops.accompaniment), AXIS, tiled=True)

    found = parallel.wrap(step, donate=False, shared=1)(np.zeros(()), (parallel.shard(index), part), about)
    plan = sampling.training_plan(5, index, store.table, CROP, EVERYTHING)
    expected = read_crops(store, plan, CROP, np.ones(count))
    for a, b in zip(found, (expected.vocals, expected.accompaniment), strict=True):
        np.testing.assert_array_equal(np.asarray(a), b)


def test_parts_hold_all_samples_once(stores):
    store, samples = stores["train"], 68_000
    whole = Part.of(store, CROP)
    for parts in (1, 3, 7):
        length = part_samples(samples, parts)
        for stem in STEMS:
            for channel in range(2):
                pieces = [Part.of(store, CROP, n, parts).stems[stem][channel] for n in range(parts)]
                assert {x.shape for x in pieces} == {part_rows(length, CROP)}
                flat = [x.reshape(-1) for x in pieces]
                assert not any(x[:CROP].any() or x[CROP + length :].any() for x in flat)
                assert min(map(len, flat)) >= CROP + length + CROP
                joined = np.concatenate([x[CROP : CROP + length] for x in flat])[:samples]
                expected = whole.stems[stem][channel].reshape(-1)[CROP : CROP + samples]
                np.testing.assert_array_equal(joined, expected)
                assert joined.any()


def test_what_fits():
    def fit(samples, parts=1, *, longest=1000, device, host=10**9):
        return fits(samples, longest, CROP, parts, device_memory=device, host_memory=host)

    assert fit(1000, device=16_000, host=8_000)
    assert not fit(1001, device=16_000)
    assert not fit(1001, device=20_000, host=8_000)
    assert fit(1999, 2, device=16_000, host=8_000)
    assert not fit(2001, 2, device=16_000)


def test_more_samples_than_can_be_counted_are_spread():
    most = 2**31 - 2 * CROP - 1000
    plenty = {"device_memory": 2**50, "host_memory": 2**50}
    assert fits(most - 1, 1000, CROP, 1, **plenty)
    assert not fits(most, 1000, CROP, 1, **plenty)
    assert fits(most, 1000, CROP, 2, **plenty)
    assert not fits(most, 2**31 - CROP, CROP, 2**20, **plenty)


def test_places_beyond_what_32_bits_count():
    hours = 3600 * 44_100
    samples = np.array([9, 8, 10], np.int64) * hours
    length = part_samples(27 * hours, 4)
    np.testing.assert_array_equal(firsts(samples, 0, 4), [0, length, length])
    begin = 3 * length
    np.testing.assert_array_equal(firsts(samples, 3, 4), [-(2**31), 9 * hours - begin, 17 * hours - begin])
