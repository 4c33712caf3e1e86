import threading

import numpy as np
import pytest

from tests.conftest import tone
from vocalsep_jax.data import prepared
from vocalsep_jax.data.songs import Song, SongError, Stems, find_library


def song(name, vocals, accompaniment):
    return Song(name, lambda rate: Stems(vocals, accompaniment), name)


def store():
    songs = [song("A", tone(440, 1), tone(100, 1)), song("B", tone(500, 2, level=3.0), tone(90, 2))]
    return prepared.MemoryStore.of([prepared.prepare_song(s, 8000) for s in songs])


def test_several_songs_are_prepared_at_once_and_come_in_order(monkeypatch):
    monkeypatch.setattr(prepared, "available_cores", lambda: 2)
    second = threading.Event()

    def first(rate):
        assert second.wait(10)  # alone, it would wait for ever
        return Stems(tone(440, 1), tone(100, 1))

    def after(rate):
        second.set()
        return Stems(tone(440, 2), tone(100, 2))

    songs = [Song("A", first, "A"), Song("B", after, "B"), song("C", tone(440, 1), tone(90, 1))]
    done = prepared.prepare_songs(songs, 8000)
    assert [p.name for p in done] == ["A", "B", "C"]


def test_a_song_that_cannot_be_read_ends_the_preparing(monkeypatch):
    monkeypatch.setattr(prepared, "available_cores", lambda: 1)
    begun = []

    def unreadable(rate):
        begun.append(rate)
        raise SongError("B: cannot be read")

    songs = [song("A", tone(440, 1), tone(100, 1)), *[Song("B", unreadable, "B")] * 9]
    with pytest.raises(SongError, match="B: cannot be read"):
        list(prepared.prepare_songs(songs, 8000))
    assert len(begun) < 9


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
