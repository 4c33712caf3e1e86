import importlib.util

import jax
import numpy as np
import pytest

from tests.data.small import RECIPE
from vocalsep_jax.data import placement, prepared, resident
from vocalsep_jax.data.crops import read_crops
from vocalsep_jax.data.host_feed import HostFeed
from vocalsep_jax.data.placement import PLACEMENTS, loudest_patch, open_songs
from vocalsep_jax.data.prepared import MemoryStore
from vocalsep_jax.data.resident import part_rows
from vocalsep_jax.data.resident_feed import ResidentFeed
from vocalsep_jax.data.sampling import validation_plan
from vocalsep_jax.data.songs import SongError, find_library
from vocalsep_jax.runtime.data_parallel import DataParallel

SIZE = prepared.memory_bytes(72_000)
"""Bytes of the songs."""


@pytest.fixture
def library(song_root):
    return find_library(song_root, valid_names=["B - Two"])


@pytest.fixture
def opened(library, tmp_path):
    """Opens the songs, with some arguments of its own."""

    def open(**arguments):
        cache = str(tmp_path / "cache")
        devices = jax.devices()[: arguments.pop("devices", 1)]
        return open_songs(
            library, RECIPE, DataParallel("pmap", devices), sample_rate=8000, cache=cache, **arguments
        )

    return open


@pytest.fixture
def tensorflow():
    pytest.importorskip("tensorflow_datasets", reason="needs the train extra")


@pytest.fixture
def _without_tensorflow(monkeypatch):
    found = importlib.util.find_spec
    absent = ("tensorflow", "tensorflow_datasets")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name not in absent and found(name))


@pytest.fixture
def give_devices(monkeypatch):
    """Says how much memory devices have, and the host if that is another matter."""

    def give(device, host=10**9):
        monkeypatch.setattr(DataParallel, "memory_per_device", lambda self, host: device)
        monkeypatch.setattr(placement, "available_memory", lambda: host)

    return give


def test_songs_that_fit_live_on_the_devices(opened):
    songs = opened()
    assert isinstance(songs.feed, ResidentFeed)
    assert songs.lengths == {
        "train": [("A - One", 16_000), ("C - Three", 32_000)],
        "valid": [("B - Two", 24_000)],
    }
    assert songs.valid.names == ("B - Two",)


def test_steps_per_dispatch_are_the_resident_feeds(opened):
    feed = opened(placement="resident", steps_per_dispatch=3).feed
    assert [work.steps for work in feed.training(0, 7, lambda step: 7)] == [3, 3, 1]


@pytest.mark.usefixtures("tensorflow")
@pytest.mark.parametrize(("free", "where"), [(10**9, "memory"), (2 * SIZE - 1, "the cache")])
def test_songs_that_do_not_fit_stay_on_the_host(opened, give_devices, caplog, free, where):
    caplog.set_level("INFO")
    give_devices(2 * SIZE - 1, free)
    songs = opened(stft_on="device")
    assert isinstance(songs.feed, HostFeed)
    assert isinstance(songs.valid, MemoryStore) == (where == "memory")
    assert f"read from {where}; STFT on the device" in caplog.text


@pytest.mark.usefixtures("tensorflow")
@pytest.mark.parametrize(
    ("where", "device", "feed"),
    [
        ("auto", 2 * SIZE, ResidentFeed),
        ("auto", 0, HostFeed),  # it does not say
        ("resident", 0, ResidentFeed),
        ("host", 2 * SIZE, HostFeed),
    ],
)
def test_where_songs_are_placed(opened, give_devices, where, device, feed):
    give_devices(device)
    assert where in PLACEMENTS
    assert isinstance(opened(placement=where).feed, feed)


@pytest.mark.parametrize(("room", "parts"), [(1, 1), (2, 2), (3, 4), (4, 4)])
@pytest.mark.parametrize("placement", ["auto", "resident"])
def test_songs_that_do_not_fit_one_device_are_spread(opened, give_devices, caplog, placement, room, parts):
    """In as few parts as divide four devices."""
    caplog.set_level("INFO")
    give_devices(2 * SIZE // room)
    feed = opened(placement=placement, devices=4).feed
    assert isinstance(feed, ResidentFeed)
    held = feed.example("train").batch[1].stems["vocals"][0]
    assert held.shape == (4, *part_rows(48_000 // parts, RECIPE.crop))
    assert ("on each device" if parts == 1 else f"in {parts} parts on the devices") in caplog.text


def test_resident_songs_that_do_not_fit_are_refused(opened, give_devices):
    give_devices(10**6)
    with pytest.raises(
        ValueError, match=r"data\.placement resident: 0\.000576 GB of songs.* 1 device.* 0\.001 GB"
    ):
        opened(placement="resident")
    give_devices(10**6 // 4)
    with pytest.raises(ValueError, match="4 device"):
        opened(placement="resident", devices=4)


def test_more_samples_than_a_device_counts_are_refused(opened, give_devices, monkeypatch):
    give_devices(10**9)
    monkeypatch.setattr(resident, "_COUNTABLE", 60_000)
    with pytest.raises(ValueError, match=r"less than 2\^31 samples"):
        opened(placement="resident")
    assert isinstance(opened(placement="resident", devices=4).feed, ResidentFeed)


@pytest.mark.usefixtures("_without_tensorflow")
class TestWithoutTensorFlow:
    """There is no cache, and no other place than the devices."""

    def test_songs_are_read_from_their_files(self, opened, tmp_path, caplog):
        caplog.set_level("INFO")
        songs = opened()
        assert isinstance(songs.feed, ResidentFeed)
        assert songs.lengths["valid"] == [("B - Two", 24_000)]
        assert "without TensorFlow there is no cache of them" in caplog.text
        assert not (tmp_path / "cache").exists()

    def test_the_host_needs_it(self, opened):
        with pytest.raises(ValueError, match=r"data\.placement host needs TensorFlow: pip install"):
            opened(placement="host")

    def test_devices_that_do_not_say_are_tried(self, opened, give_devices):
        give_devices(0)
        assert isinstance(opened().feed, ResidentFeed)

    def test_songs_that_do_not_fit_are_refused(self, opened, give_devices):
        give_devices(2 * SIZE - 1)
        with pytest.raises(ValueError, match=r"data\.placement auto: .* host, which needs TensorFlow"):
            opened()

    def test_the_host_holds_a_part_besides(self, opened, give_devices):
        give_devices(2 * SIZE, SIZE)
        assert isinstance(opened().feed, ResidentFeed)
        give_devices(2 * SIZE, SIZE - 1)
        with pytest.raises(ValueError, match="the host, which has"):
            opened()
        assert isinstance(opened(devices=2).feed, ResidentFeed)


@pytest.mark.usefixtures("tensorflow")
@pytest.mark.parametrize("placement", ["resident", "host"])
def test_a_damaged_cache_is_said_in_one_line(opened, tmp_path, placement):
    opened()
    for path in (tmp_path / "cache").rglob("*train.array_record*"):
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SongError, match=r"the song cache is damaged .*; delete it, it is made again"):
        opened(placement=placement)


@pytest.mark.parametrize("among", [16, 1])
def test_the_patch_that_is_shown_is_where_the_voice_is_loudest(stores, monkeypatch, among):
    monkeypatch.setattr(placement, "_LOOKED_AT", among)
    store = stores["valid"]
    plan = validation_plan(12, store.table, RECIPE.crop, RECIPE.augmentation)
    crops = read_crops(store, plan, RECIPE.crop, np.ones(12))
    voices = np.einsum("bcs,bkc->bs", crops.vocals, crops.vocals_gains).astype(np.float32)
    energies = np.sum(np.abs(RECIPE.stft.transform(voices)) ** 2, axis=(1, 2))
    assert energies.argmax() > 0
    patch = loudest_patch(store, RECIPE)
    assert [x.shape for x in patch] == [(1, 32, 32)] * 3 + [(1,)]
    assert np.sum(patch.vocals**2) == pytest.approx(energies[:among].max(), rel=1e-4)
