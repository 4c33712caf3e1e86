import errno
import itertools
import logging
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import tone, write_song
from vocalsep_jax.data.check.files import StemSource, find_songs, seconds_of, side_by_side
from vocalsep_jax.data.songs import SongError

TONE = tone(440, 0.5)
STEMS = {"vocals": TONE, "accompaniment": TONE}


def test_the_splits_are_those_of_training(song_root):
    folder = find_songs(song_root)
    assert [(x.name, x.split) for x in folder.songs if x.split == "test"] == [("D - Four", "test")]
    assert {x.name for x in folder.songs if x.split == "valid"} == {
        x.name for x in folder.library.splits["valid"]
    }
    assert {x.name for x in folder.songs if x.split == "train"} == {
        x.name for x in folder.library.splits["train"]
    }
    assert [x.split for x in folder.songs] == ["train", "train", "valid", "test"]
    assert not folder.broken
    assert not folder.skipped
    assert not folder.refusal


def test_the_stems_of_each_layout(tmp_path):
    write_song(tmp_path / "a", dict.fromkeys(("mixture", "vocals", "drums", "bass", "other"), TONE))
    write_song(tmp_path / "b", {"vocals": TONE, "mixture": TONE}, suffix="flac")
    write_song(tmp_path / "c", {"accompaniment": TONE})
    (tmp_path / "d.stem.mp4").write_bytes(b"")
    found = {x.name: x for x in find_songs(tmp_path).songs}
    assert found["a"].stems.keys() == {"mixture", "vocals", "drums", "bass", "other"}
    assert found["b"].stems["mixture"] == StemSource(tmp_path / "b" / "mixture.flac")
    assert found["c"].stems.keys() == {"accompaniment"}
    assert found["d"].stems["vocals"] == StemSource(tmp_path / "d.stem.mp4", 4)
    assert seconds_of(found["a"]) == 0.5
    assert seconds_of(found["d"]) == 0


def test_what_is_wrong_does_not_hide_the_other_songs(tmp_path, caplog):
    write_song(tmp_path / "train" / "a", STEMS)
    write_song(tmp_path / "train" / "b", {"vocals": TONE})
    twice = write_song(tmp_path / "train" / "c", STEMS)
    (twice / "vocals.flac").write_bytes((twice / "vocals.wav").read_bytes())
    write_song(tmp_path / "beside", STEMS)
    (tmp_path / "train" / "notes.txt").write_text("not a song")
    with caplog.at_level(logging.WARNING):
        folder = find_songs(tmp_path)
    assert [x.name for x in folder.songs] == ["a"]
    assert folder.library is None
    assert "two files for vocals" in folder.refusal
    assert folder.broken == {twice: "two files for vocals: vocals.flac, vocals.wav"}
    assert "it has vocals.wav" in folder.skipped[tmp_path / "train" / "b"]
    assert folder.skipped[tmp_path / "beside"].startswith("lies beside")
    assert len(folder.skipped) == 2
    assert caplog.records == []


def test_music_without_a_voice_from_another_folder(song_root, tmp_path):
    more = tmp_path / "more"
    write_song(more / "c", {"accompaniment": TONE})
    (more / "c" / "accompaniment.wav").rename(more / "loose.wav")
    write_song(more / "d", {"accompaniment": TONE})
    write_song(more / "sung", STEMS)
    (more / "c").rmdir()
    found = {x.name: x for x in find_songs(song_root, more).songs if more in x.path.parents}
    assert found.keys() == {"loose", "d"}
    assert {x.split for x in found.values()} == {"train"}
    assert found["loose"].stems == {"accompaniment": StemSource(more / "loose.wav")}


def test_instrumentals_are_those_of_training(song_root, tmp_path):
    more = tmp_path / "more"
    write_song(more, {"accompaniment": TONE, ".hidden": TONE})
    (more / "a.stem.mp4").write_bytes(b"")
    folder = find_songs(song_root, more)
    assert [x.path.name for x in folder.songs if more in x.path.parents] == ["accompaniment.wav"]
    assert {x.name for x in folder.songs} == {x.name for s in folder.library.splits.values() for x in s}


@pytest.mark.parametrize("where", ["", "train"])
def test_links_to_nothing_are_skipped_and_pipes_are_nothing(tmp_path, where):
    root = tmp_path / "songs"
    song = write_song(root / where / "a", STEMS)
    bare = root / where / "b"
    bare.mkdir()
    links = [root / "x", root / where / "y", bare / "vocals.wav", song / "mixture.wav", song / "cover.png"]
    for link in links:
        link.symlink_to("/gone")
    os.mkfifo(root / where / "pipe")
    os.mkfifo(root / "other")
    folder = find_songs(root, root / where)
    assert {x.path for x in folder.songs} == {song}
    lost = "is a link to /gone, which is not there"
    assert folder.skipped == {
        links[0]: lost,
        links[1]: lost,
        bare: f"its vocals.wav {lost}",
        song: f"its mixture.wav {lost}",
    }
    assert not folder.broken


def test_a_folder_that_cannot_be_read_hides_no_other(song_root, monkeypatch):
    refused, listed = song_root / "train" / "closed", Path.iterdir
    refused.mkdir()

    def iterdir(path):
        if path == refused:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    folder = find_songs(song_root)
    assert len(folder.songs) == 4
    assert folder.broken.keys() == {refused}
    assert "Permission denied" in folder.refusal


def test_a_folder_that_is_not_there(song_root, tmp_path):
    with pytest.raises(SongError, match="no such folder"):
        find_songs(tmp_path / "nowhere")
    with pytest.raises(SongError, match="no such folder"):
        find_songs(song_root, tmp_path / "nowhere")


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=3), st.integers(1, 7))
def test_streams_side_by_side_lose_nothing(lengths, size):
    streams, whole = {}, {}
    for n, blocks in enumerate(lengths):
        whole[n] = np.arange(sum(blocks), dtype=np.float32)[:, None] + 100 * n
        streams[n] = iter(np.split(whole[n], list(itertools.accumulate(blocks))[:-1]))
    steps = list(side_by_side(streams, size))
    for n, expected in whole.items():
        np.testing.assert_array_equal(
            np.concatenate([step[n] for step in steps] or [expected[:0]]), expected
        )
        ended = [len(step[n]) < size for step in steps]
        assert ended == sorted(ended)
