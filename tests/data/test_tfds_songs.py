import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
import soundfile

from tests.conftest import ROOT, tone, write_song
from vocalsep_jax.data.prepared import STEMS, MemoryStore, load_all, whole_song
from vocalsep_jax.data.songs import SongError, find_library

tfds_songs = pytest.importorskip("vocalsep_jax.data.tfds_songs", reason="needs the train extra")


@pytest.fixture
def library(song_root):
    return find_library(song_root, valid_names=["B - Two"])


def test_any_stretch_of_any_song_reads_back(library, tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_songs, "CHUNK", 1000)
    store = tfds_songs.prepare(library, 8000, tmp_path / "cache")["train"]
    assert store.names == ("A - One", "C - Three")
    np.testing.assert_array_equal(store.table.samples, [16_000, 32_000])
    for number, song in enumerate(library.splits["train"]):
        stems = song.load(8000)
        for stem in STEMS:
            whole = getattr(stems, stem)
            for start, length in ((0, 10), (995, 10), (1000, 3500), (len(whole) - 7, 20)):
                ours = store.read(stem, number, start, length).T * store.scales[number]
                expected = np.zeros((length, 2))
                piece = whole[start : start + length]
                expected[: len(piece)] = piece
                np.testing.assert_allclose(ours, expected, atol=2e-5)
        np.testing.assert_allclose(whole_song(store, number).mixture, stems.mixture, atol=4e-5)


def test_with_and_without_a_cache_the_songs_are_the_same(library, tmp_path):
    for split, cached in tfds_songs.prepare(library, 8000, tmp_path / "cache").items():
        loaded, copied = load_all(library, 8000)[split], MemoryStore.copy_of(cached)
        assert loaded.names == copied.names
        np.testing.assert_array_equal(loaded.scales, copied.scales)
        pair = (jax.tree.leaves([x.table, x.stems]) for x in (loaded, copied))
        for a, b in zip(*pair, strict=True):
            np.testing.assert_array_equal(a, b)


def test_stems_above_full_scale_are_kept(tmp_path):
    for name in "AB":
        folder = write_song(tmp_path / "songs" / name, {"accompaniment": tone(100, 1)})
        soundfile.write(folder / "vocals.wav", tone(440, 1, level=2.5), 8000, subtype="FLOAT")
    stores = tfds_songs.prepare(find_library(tmp_path / "songs"), 8000, tmp_path / "cache")
    assert np.abs(whole_song(stores["train"], 0).vocals).max() == pytest.approx(2.5, rel=1e-3)


def test_songs_are_prepared_once(library, tmp_path, monkeypatch):
    first = tfds_songs.prepare(library, 8000, tmp_path / "cache")
    again = tfds_songs.prepare(
        library, 8000, tmp_path / "cache", write=lambda *_: pytest.fail("written again")
    )
    both = [whole_song(store["train"], 0).vocals for store in (first, again)]
    np.testing.assert_array_equal(*both)


def test_a_changed_source_is_noticed(song_root, library, tmp_path, caplog):
    tfds_songs.prepare(library, 8000, tmp_path / "cache")
    soundfile.write(song_root / "train" / "A - One" / "vocals.wav", tone(700, 2), 8000)
    changed = find_library(song_root, valid_names=["B - Two"])
    store = tfds_songs.prepare(changed, 8000, tmp_path / "cache")["train"]
    assert "have changed: preparing them anew" in caplog.text
    np.testing.assert_allclose(whole_song(store, 0).vocals, tone(700, 2), atol=1e-4)


def test_other_rates_and_other_validation_songs_do_not_collide(song_root, library, tmp_path):
    cache = tmp_path / "cache"
    tfds_songs.prepare(library, 8000, cache)
    slow = tfds_songs.prepare(library, 4000, cache)
    other = tfds_songs.prepare(find_library(song_root, valid_names=["A - One"]), 8000, cache)
    assert slow["train"].table.samples[0] == 8000
    assert other["valid"].names == ("A - One",)
    assert tfds_songs.prepare(library, 8000, cache)["valid"].names == ("B - Two",)


def test_what_killed_processes_and_older_versions_left_is_cleaned_up(library, tmp_path):
    cache = tmp_path / "cache"
    store = tfds_songs.prepare(library, 8000, cache)["train"]
    (folder,) = cache.iterdir()
    prepared = folder / "song_chunks" / "3.0.0"
    prepared.rename(folder / "song_chunks" / "incomplete.ABC_3.0.0")
    (folder / "song_chunks" / "1.0.0").mkdir()
    again = tfds_songs.prepare(library, 8000, cache)["train"]
    assert [p.name for p in folder.glob("song_chunks/*")] == ["3.0.0"]
    np.testing.assert_array_equal(again.table.samples, store.table.samples)


def noted(**changes):
    """A change of what the cache notes of its first training song."""

    def change(folder):
        path = folder / "metadata.json"
        content = json.loads(path.read_text())
        content["songs"]["train"][0] |= changes
        path.write_text(json.dumps(content))

    return change


def cut(folder):
    """The records end in the middle."""
    (records,) = folder.glob("*-train.*")
    records.write_bytes(records.read_bytes()[: records.stat().st_size // 2])


def copies(library, cache):
    """All that a cache holds."""
    return [MemoryStore.copy_of(store) for store in tfds_songs.prepare(library, 8000, cache).values()]


DAMAGES = {
    "deep metadata": lambda folder: (folder / "metadata.json").write_text("[" * 100_000 + "]" * 100_000),
    "no info": lambda folder: (folder / "dataset_info.json").write_text('{"splits": 3}'),
    "a pipe": lambda folder: os.mkfifo(folder / "pipe"),
    "terabytes": noted(samples=2**40),
    "a length that is text": noted(samples="1"),
    "voice beyond the end": noted(voiced=[10**9]),
    "no scale": noted(scale=-1.0),
    "no field": noted(more=1),
    "cut": cut,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_cache_is_named_and_what_to_do(library, tmp_path, damage):
    tfds_songs.prepare(library, 8000, tmp_path / "cache")
    (folder,) = (tmp_path / "cache").iterdir()
    damage(folder / "song_chunks" / "3.0.0")
    with pytest.raises(SongError) as error:
        copies(library, tmp_path / "cache")
    (line,) = str(error.value).splitlines()
    assert line.startswith(f"{folder}: the song cache is damaged (")
    assert line.endswith("); delete it, it is made again")


def test_a_cache_that_does_not_tell_its_songs_is_made_again(library, tmp_path):
    tfds_songs.prepare(library, 8000, tmp_path / "cache")
    (metadata,) = (tmp_path / "cache").rglob("metadata.json")
    metadata.write_text("{}")
    store = tfds_songs.prepare(library, 8000, tmp_path / "cache")["train"]
    np.testing.assert_array_equal(store.table.samples, [16_000, 32_000])


def test_an_unreadable_song_leaves_no_cache(song_root, library, tmp_path):
    (song_root / "train" / "C - Three" / "vocals.wav").write_text("text")
    with pytest.raises(SongError, match=r"C - Three/vocals\.wav"):
        tfds_songs.prepare(library, 8000, tmp_path / "cache")
    (folder,) = (tmp_path / "cache").iterdir()
    assert not tfds_songs.SongChunks(data_dir=str(folder)).is_prepared()


@pytest.mark.slow
def test_processes_that_start_together_prepare_once(song_root, tmp_path):
    code = f"""
import logging
logging.basicConfig(level=logging.INFO)
from vocalsep_jax.data.songs import find_library
from vocalsep_jax.data.prepared import whole_song
from vocalsep_jax.data.tfds_songs import prepare
library = find_library({str(song_root)!r})
print(whole_song(prepare(library, 8000, {str(tmp_path / "cache")!r})["train"], 0).vocals.sum())
"""
    arguments = [sys.executable, "-c", code]
    pair = [
        subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    results = [p.communicate(timeout=120) for p in pair]
    assert [p.returncode for p in pair] == [0, 0], results
    assert results[0][0].splitlines()[-1] == results[1][0].splitlines()[-1]
    assert sum("preparing 3 songs" in errors for _, errors in results) == 1
