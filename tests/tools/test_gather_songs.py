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


def test_splits_stay_and_one_instrumental_is_kept(song_root, music, tmp_path, capsys):
    out = tmp_path / "new" / "out"
    assert tool.main([str(song_root), str(music), str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    found = names(out)
    assert found["test"] == ["D - Four"]
    assert sorted(found["train"] + found["valid"]) == ["A - One", "B - Two", "C - Three"]
    kept = {s: [x.name for x in find_instrumentals(out / "instrumentals" / s)] for s in ("train", "test")}
    assert kept == {"train": ["A", "b"], "test": ["c"]}


def test_errors_are_one_line_and_leave_nothing(song_root, music, tmp_path, caplog):
    out = tmp_path / "out"
    (tmp_path / "one").mkdir()
    for songs, instrumentals, target, message in (
        (tmp_path / "one", music, out, "no songs under train/"),
        (song_root, tmp_path / "one", out, "no two audio files"),
        (song_root, tmp_path / "none", out, "No such file or directory"),
        (song_root, music, song_root, "is there already"),
    ):
        caplog.clear()
        assert tool.main([str(songs), str(instrumentals), str(target)]) == 2
        (line,) = caplog.messages
        assert message in line
    assert not out.exists()
