"""The song cache by a pipeline holds what the song cache holds."""

import json
from functools import partial

import jax
import numpy as np
import pytest
import soundfile

from tests.conftest import tone, write_song
from vocalsep_jax.data.prepared import MemoryStore
from vocalsep_jax.data.songs import SongError, at_speeds, find_library
from vocalsep_jax.runtime.beam_flags import pipeline_options

pytest.importorskip("apache_beam", reason="needs the beam extra")
tfds_songs = pytest.importorskip("vocalsep_jax.data.tfds_songs", reason="needs the train extra")

from vocalsep_jax.data import beam_songs

IN_MEMORY = partial(beam_songs.write_by_pipeline, pipeline_options(["--runner=FnApiRunner"]))


def records(cache):
    """All of them, by file."""
    return {p.name: p.read_bytes() for p in cache.rglob("*.array_record*")}


def test_the_same_as_by_one_process(song_root, tmp_path):
    library = at_speeds(find_library(song_root, valid_names=["B - Two"]), [1.1])
    here = tfds_songs.prepare(library, 8000, tmp_path / "here")
    spread = tfds_songs.prepare(library, 8000, tmp_path / "spread", IN_MEMORY)
    for split, store in here.items():
        assert spread[split].names == store.names
        np.testing.assert_array_equal(spread[split].scales, store.scales)
        stores = (MemoryStore.copy_of(x[split]) for x in (here, spread))
        pairs = zip(*(jax.tree.leaves([x.table, x.stems]) for x in stores), strict=True)
        for expected, found in pairs:
            np.testing.assert_array_equal(found, expected)
    assert records(tmp_path / "spread") == records(tmp_path / "here")
    assert not list((tmp_path / "spread").rglob("notes.json*"))
    again = tfds_songs.prepare(library, 8000, tmp_path / "spread", lambda *_: pytest.fail("written again"))
    assert again["train"].names == here["train"].names


def test_no_validation_songs(song_root, tmp_path):
    library = find_library(song_root, valid_names=["B - Two"])
    library.splits["valid"] = ()
    stores = tfds_songs.prepare(library, 8000, tmp_path / "cache", IN_MEMORY)
    assert stores["valid"].names == ()
    assert stores["train"].names == ("A - One", "C - Three")


def test_many_songs_in_many_shards_keep_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_songs, "CHUNK", 100)
    for number in range(12):
        stems = {s: tone(100 + 10 * number, 0.1 + number / 50) for s in ("vocals", "accompaniment")}
        write_song(tmp_path / "songs" / f"{number:02}", stems)
    library = find_library(tmp_path / "songs", valid_names=["11"])
    shards = tfds_songs.tfds.download.DownloadConfig(num_shards=4)
    monkeypatch.setattr(tfds_songs.tfds.download, "DownloadConfig", lambda **how: shards.replace(**how))
    store = tfds_songs.prepare(library, 8000, tmp_path / "cache", IN_MEMORY)["train"]
    assert len([n for n in records(tmp_path / "cache") if "train" in n]) == 4
    for number, song in enumerate(library.splits["train"]):
        expected = song.load(8000).vocals
        found = store.read("vocals", number, 0, len(expected)).T * store.scales[number]
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_a_song_that_cannot_be_read_is_one_line_and_leaves_no_cache(song_root, tmp_path):
    library = find_library(song_root, valid_names=["B - Two"])
    broken = song_root / "train" / "A - One" / "vocals.wav"
    broken.write_bytes(broken.read_bytes()[:20])
    with pytest.raises(SongError, match=r"vocals\.wav") as caught:
        tfds_songs.prepare(library, 8000, tmp_path / "cache", IN_MEMORY)
    assert "\n" not in str(caught.value)
    assert "running" not in str(caught.value)
    soundfile.write(broken, tone(440, 2), 8000)
    mended = find_library(song_root, valid_names=["B - Two"])
    assert tfds_songs.prepare(mended, 8000, tmp_path / "cache", IN_MEMORY)["train"].names


def test_the_command(song_root, tmp_path):
    """By a pipeline, and then by none: the songs are there."""
    collections = pytest.importorskip("ml_collections")
    from vocalsep_jax.training.song_cache import fill_song_cache

    config = collections.ConfigDict(
        {
            "audio": {"sample_rate": 8000},
            "data": {"root": str(song_root), "valid_names": ("B - Two",), "cache": str(tmp_path / "cache")},
        }
    )
    fill_song_cache(config, ["--runner=FnApiRunner"])
    (info,) = (tmp_path / "cache").rglob("metadata.json")
    before = info.stat().st_mtime_ns
    fill_song_cache(config)
    assert info.stat().st_mtime_ns == before
    assert set(json.loads(info.read_text())["songs"]) == {"train", "valid"}
