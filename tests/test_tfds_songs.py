import subprocess
import sys

import numpy as np
import pytest
import soundfile

from tests.conftest import ROOT, tone, write_song
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
        for stem in tfds_songs.STEMS:
            whole = getattr(stems, stem)
            for start, length in ((0, 10), (995, 10), (1000, 3500), (len(whole) - 7, 20)):
                ours = store.read(stem, number, start, length) * store.scales[number]
                expected = np.zeros((length, 2))
                piece = whole[start : start + length]
                expected[: len(piece)] = piece
                np.testing.assert_allclose(ours, expected, atol=2e-5)
        np.testing.assert_allclose(store.whole(number).mixture, stems.mixture, atol=4e-5)


def test_stems_above_full_scale_are_kept(tmp_path):
    for name in "AB":
        folder = write_song(tmp_path / "songs" / name, {"accompaniment": tone(100, 1)})
        soundfile.write(folder / "vocals.wav", tone(440, 1, level=2.5), 8000, subtype="FLOAT")
    stores = tfds_songs.prepare(find_library(tmp_path / "songs"), 8000, tmp_path / "cache")
    assert np.abs(stores["train"].whole(0).vocals).max() == pytest.approx(2.5, rel=1e-3)


def test_songs_are_prepared_once(library, tmp_path, monkeypatch):
    first = tfds_songs.prepare(library, 8000, tmp_path / "cache")
    monkeypatch.setattr(tfds_songs, "_write", lambda *_: pytest.fail("written again"))
    again = tfds_songs.prepare(library, 8000, tmp_path / "cache")
    np.testing.assert_array_equal(first["train"].whole(0).vocals, again["train"].whole(0).vocals)


def test_a_changed_source_is_noticed(song_root, library, tmp_path, caplog):
    tfds_songs.prepare(library, 8000, tmp_path / "cache")
    soundfile.write(song_root / "train" / "A - One" / "vocals.wav", tone(700, 2), 8000)
    changed = find_library(song_root, valid_names=["B - Two"])
    store = tfds_songs.prepare(changed, 8000, tmp_path / "cache")["train"]
    assert "have changed: preparing them anew" in caplog.text
    np.testing.assert_allclose(store.whole(0).vocals, tone(700, 2), atol=1e-4)


def test_other_rates_and_other_validation_songs_do_not_collide(song_root, library, tmp_path):
    cache = tmp_path / "cache"
    tfds_songs.prepare(library, 8000, cache)
    slow = tfds_songs.prepare(library, 4000, cache)
    other = tfds_songs.prepare(find_library(song_root, valid_names=["A - One"]), 8000, cache)
    assert slow["train"].table.samples[0] == 8000
    assert other["valid"].names == ("A - One",)
    assert tfds_songs.prepare(library, 8000, cache)["valid"].names == ("B - Two",)


def test_what_a_killed_process_left_is_cleaned_up(library, tmp_path):
    cache = tmp_path / "cache"
    store = tfds_songs.prepare(library, 8000, cache)["train"]
    (folder,) = cache.iterdir()
    prepared = folder / "song_chunks" / "1.0.0"
    prepared.rename(folder / "song_chunks" / "incomplete.ABC_1.0.0")
    again = tfds_songs.prepare(library, 8000, cache)["train"]
    assert not list(folder.glob("song_chunks/incomplete.*"))
    np.testing.assert_array_equal(again.table.samples, store.table.samples)


def test_an_unreadable_song_leaves_no_cache(song_root, library, tmp_path):
    (song_root / "train" / "C - Three" / "vocals.wav").write_text("text")
    with pytest.raises(SongError, match=r"C - Three/vocals\.wav"):
        tfds_songs.prepare(library, 8000, tmp_path / "cache")
    (folder,) = (tmp_path / "cache").iterdir()
    assert not tfds_songs.SongChunks(data_dir=str(folder)).is_prepared()


def test_processes_that_start_together_prepare_once(song_root, tmp_path):
    code = f"""
import logging
logging.basicConfig(level=logging.INFO)
from vocalsep_jax.data.songs import find_library
from vocalsep_jax.data.tfds_songs import prepare
library = find_library({str(song_root)!r})
print(prepare(library, 8000, {str(tmp_path / "cache")!r})["train"].whole(0).vocals.sum())
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
