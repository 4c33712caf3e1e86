import pytest

from tests.conftest import tone, write_song
from tools import gather_songs as tool
from vocalsep_jax.data.songs import find_instrumentals, find_library


@pytest.fixture
def music(tmp_path):
    """Instrumentals."""
    names = ("b", "A", "c")
    return write_song(tmp_path / "music", {name: tone(100, 1) for name in names})


def names(out):
    splits = find_library(out).splits
    return {split: [song.name for song in songs] for split, songs in splits.items()}


def test_all_songs_are_trained_on_and_one_instrumental_is_kept(song_root, music, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "VALID_SONGS", ("valid", 1, 2.0, 7))
    monkeypatch.setattr(tool, "TEST_SONGS", ("test", 2, 1.0, 20))
    out = tmp_path / "new" / "out"
    assert tool.main([str(song_root), str(music), str(out)]) == 0
    found = names(out)
    assert found["train"] == ["A - One", "B - Two", "C - Three", "D - Four"]
    assert found["valid"] == ["Built-in - valid 01"]
    assert found["test"] == ["Built-in - test 01", "Built-in - test 02"]
    kept = {s: [x.name for x in find_instrumentals(out / "instrumentals" / s)] for s in ("train", "test")}
    assert kept == {"train": ["A", "b"], "test": ["c"]}


def test_the_folder_of_a_song_may_lie_in_no_split(song_root, tmp_path):
    for name in ("X", "Y"):
        (tmp_path / name).symlink_to(song_root / "train" / "A - One")
    assert tool.song_folders(tmp_path) == {name: tmp_path / name for name in ("X", "Y")}


def test_a_link_takes_the_place_of_another(tmp_path):
    for target in ("a", "b"):
        (tmp_path / target).mkdir()
        tool.link(tmp_path / "links" / "x", tmp_path / target)
    assert (tmp_path / "links" / "x").resolve() == tmp_path / "b"


def test_errors_are_one_line_and_leave_nothing(song_root, music, tmp_path, caplog):
    out = tmp_path / "out"
    (tmp_path / "one").mkdir()
    for songs, instrumentals, target, message in (
        (tmp_path / "one", music, out, "no songs found"),
        (song_root / "test", music, out, "fewer than two songs"),
        (song_root, tmp_path / "one", out, "no two audio files"),
        (song_root, tmp_path / "none", out, "no such folder"),
        (song_root, music, song_root, "is there already"),
    ):
        caplog.clear()
        assert tool.main([str(songs), str(instrumentals), str(target)]) == 2
        (line,) = caplog.messages
        assert message in line
    assert not out.exists()
