import numpy as np
import pytest

from tests.conftest import tone
from vocalsep_jax.data import prepared
from vocalsep_jax.data.songs import Song, Stems, find_library


def song(name, vocals, accompaniment):
    return Song(name, lambda rate: Stems(vocals, accompaniment), name)


def store():
    songs = [song("A", tone(440, 1), tone(100, 1)), song("B", tone(500, 2, level=3.0), tone(90, 2))]
    return prepared.MemoryStore.of([prepared.prepare_song(s, 8000) for s in songs])


def test_what_is_kept_is_the_song_to_half_a_step():
    kept = store()
    assert kept.names == ("A", "B")
    np.testing.assert_allclose(kept.scales, np.array([1, 3]) / 32_767, rtol=1e-4)
    for number, stems in enumerate([(tone(440, 1), tone(100, 1)), (tone(500, 2, level=3.0), tone(90, 2))]):
        whole = prepared.whole_song(kept, number)
        for ours, expected in zip((whole.vocals, whole.accompaniment), stems, strict=True):
            assert np.abs(ours - expected).max() < 0.51 * kept.scales[number]


@pytest.mark.parametrize(("start", "samples"), [(0, 8000), (7990, 10), (7990, 11), (100, 9000), (0, 1)])
def test_reading_stops_where_the_song_ends(start, samples):
    kept = store()
    piece = kept.read("vocals", 0, start, samples)
    whole = kept.stems["vocals"][:, :8000]
    expected = np.zeros((2, samples), np.int16)
    there = whole[:, start : start + samples]
    expected[:, : there.shape[1]] = there
    np.testing.assert_array_equal(piece, expected)


def test_a_copy_holds_the_same(monkeypatch):
    monkeypatch.setattr(prepared, "_STRETCH", 3000)
    kept = store()
    copy = prepared.MemoryStore.copy_of(kept)
    for stem in prepared.STEMS:
        np.testing.assert_array_equal(copy.stems[stem], kept.stems[stem])


def test_songs_are_loaded_with_progress(song_root, caplog):
    caplog.set_level("INFO")
    stores = prepared.load_all(find_library(song_root), 8000)
    assert {split: len(s.names) for split, s in stores.items()} == {"train": 2, "valid": 1}
    assert "3 of 3: " in caplog.text
    samples = sum(int(s.table.samples.sum()) for s in stores.values())
    size = sum(x.nbytes for s in stores.values() for x in s.stems.values())
    assert prepared.memory_bytes(samples) == size
