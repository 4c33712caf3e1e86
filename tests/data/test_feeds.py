from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from vocalsep_jax.audio.stft import Stft
from vocalsep_jax.data import prepared
from vocalsep_jax.data.feed import HostFeed, Recipe, ResidentFeed, loudest_patch, open_songs
from vocalsep_jax.data.sampling import Augmentation
from vocalsep_jax.data.songs import SongError, find_library
from vocalsep_jax.runs.folder import Fields
from vocalsep_jax.runtime.devices import DataParallel

RECIPE = Recipe(0, Stft(62, 21), 32, 8, Augmentation(voiced_share=0.5, repair=0.5), 12)


def settings(tmp_path, placement="auto", stft_on="host", steps=0):
    data = {"placement": placement, "stft_on": stft_on, "cache": str(tmp_path / "cache")}
    return Fields({"data": data, "audio": {"sample_rate": 8000}, "steps_per_dispatch": steps})


@pytest.fixture
def library(song_root):
    return find_library(song_root, valid_names=["B - Two"])


def opened(library, tmp_path, **changes):
    return open_songs(library, settings(tmp_path, **changes), RECIPE, DataParallel())


@pytest.fixture
def tensorflow():
    pytest.importorskip("tensorflow_datasets", reason="needs the train extra")


def test_songs_that_fit_live_on_the_devices(library, tmp_path):
    songs = opened(library, tmp_path)
    assert isinstance(songs.feed, ResidentFeed)
    assert songs.lengths == {
        "train": [["A - One", 16_000], ["C - Three", 32_000]],
        "valid": [["B - Two", 24_000]],
    }


@pytest.mark.usefixtures("tensorflow")
@pytest.mark.parametrize(("free", "where"), [(10**9, "memory"), (10**6, "the cache")])
def test_songs_that_do_not_fit_stay_on_the_host(library, tmp_path, monkeypatch, caplog, free, where):
    caplog.set_level("INFO")
    size = prepared.memory_bytes(72_000)
    monkeypatch.setattr(DataParallel, "memory_per_device", lambda self, host: 2 * size - 1)
    monkeypatch.setattr("vocalsep_jax.data.placement.available_memory", lambda: free)
    assert isinstance(opened(library, tmp_path).feed, HostFeed)
    assert f"read from {where}; STFT on the host" in caplog.text


def test_resident_songs_that_do_not_fit_are_refused(library, tmp_path, monkeypatch):
    monkeypatch.setattr(DataParallel, "memory_per_device", lambda self, host: 10**6)
    with pytest.raises(ValueError, match=r"data\.placement resident: 0\.000576 GB of songs.* 0\.001 GB"):
        opened(library, tmp_path, placement="resident")


@pytest.mark.usefixtures("tensorflow")
@pytest.mark.parametrize("placement", ["resident", "host"])
def test_a_damaged_cache_is_said_in_one_line(library, tmp_path, placement):
    opened(library, tmp_path)
    for path in (tmp_path / "cache").rglob("*train.array_record*"):
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SongError, match=r"the song cache is damaged .*; delete it, it is made again"):
        opened(library, tmp_path, placement=placement)


@pytest.mark.usefixtures("tensorflow")
def test_every_feed_gives_the_same_patches(library, tmp_path):
    """Through their own compiled steps: training and validation batches, of two steps each."""
    parallel = DataParallel(devices=jax.devices()[:2])
    results = []
    for placement, stft_on in (("resident", "host"), ("host", "host"), ("host", "device")):
        config = settings(tmp_path, placement, stft_on, steps=1)
        source = open_songs(library, config, RECIPE, parallel).feed

        def sums(state, batch):
            return state.replace(step=state.step + 1), jax.lax.psum(
                [jax.numpy.sum(x * batch.weight[:, None, None], axis=0) for x in batch[:3]], "data"
            )

        step = source.wrap_training(sums)
        state = parallel.replicate(_State(np.int32(0)))
        seen = []
        for work in source.training(0, 2, lambda step: step + 1):
            assert work.steps == 1
            assert_same_sizes(work, source.example("train"))
            state, patches = step(state, work.batch, *work.shared)
            seen.append([np.asarray(x) for x in patches])
        evaluate = source.wrap_evaluation(lambda state, batch: sums(state, batch)[1])
        for work in source.validation():
            assert_same_sizes(work, source.example("valid"))
            seen.append([np.asarray(x) for x in evaluate(state, work.batch, *work.shared)])
        assert len(seen) == 2 + 2
        results.append(np.array(seen))
    for other in results[1:]:
        assert np.abs(other - results[0]).max() < 1e-5 * results[0].max()


def assert_same_sizes(work, example):
    for a, b in zip(jax.tree.leaves(work[1:]), jax.tree.leaves(example[1:]), strict=True):
        assert (a.shape, a.dtype, a.sharding) == (b.shape, b.dtype, b.sharding)


class _State(NamedTuple):
    step: Any

    def replace(self, step):
        return _State(step)


def test_a_dispatch_ends_where_something_is_due(library, tmp_path):
    songs = opened(library, tmp_path, placement="resident", steps=4)
    steps = [work.steps for work in songs.feed.training(2, 21, lambda step: step // 10 * 10 + 10)]
    assert steps == [4, 4, 4, 4, 2, 1]


def test_the_patch_that_is_shown_has_a_voice(library, tmp_path):
    patch = loudest_patch(opened(library, tmp_path).valid, RECIPE)
    assert [x.shape for x in patch[:3]] == [(1, 32, 32)] * 3
    assert patch.vocals.max() > 1
