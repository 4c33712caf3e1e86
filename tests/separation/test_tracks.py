from pathlib import Path

import pytest

from vocalsep_jax.separation.tracks import absolute, find_tracks, is_folder, output_files, plan_outputs


@pytest.fixture
def album(tmp_path, monkeypatch):
    """Songs, in the folder we are in; only their names are looked at."""
    for name in (
        "a.wav",
        "b.mp3",
        "c[1].flac",
        "deep/a.FLAC",
        "deep/er/x.ogg",
        "notes.txt",
        "out/a/vocals.wav",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*songs, out="out"):
    return [(str(path), track) for path, track in find_tracks(songs, Path(out))]


def test_files_are_tracks_by_their_names_whether_they_are_there_or_not(album):
    assert found("a.wav", "deep/a.FLAC", "none.wav") == [
        ("a.wav", "a"), ("deep/a.FLAC", "a"), ("none.wav", "none"),
    ]  # fmt: skip
    for name, track in ((".stem.mp4", ".stem"), (".wav", ".wav"), ("x.stem.mp4", "x"), ("x.y.wav", "x.y")):
        assert found(name) == [(name, track)]


def test_a_folder_is_its_audio_files_however_deep_by_their_place_in_it(album):
    expected = [
        ("a.wav", "a"), ("b.mp3", "b"), ("c[1].flac", "c[1]"), ("deep/a.FLAC", "deep/a"),
        ("deep/er/x.ogg", "deep/er/x"),
    ]  # fmt: skip
    assert found(".") == expected
    assert found(str(album)) == [(str(album / path), track) for path, track in expected]
    assert found("deep") == [("deep/a.FLAC", "a"), ("deep/er/x.ogg", "er/x")]


def test_a_folder_without_any_stands_for_itself(album):
    (album / "empty").mkdir()
    assert found("empty") == [("empty", "empty")]
    assert found("out/a", "empty", out="empty") == [("out/a/vocals.wav", "vocals")]


def test_what_was_written_before_is_taken_only_where_it_is_named_itself(album):
    assert [path for path, _ in found("*", "**/*.wav", ".")] == [
        "a.wav", "b.mp3", "c[1].flac", "deep/a.FLAC", "deep/er/x.ogg", "notes.txt",
        "a.wav",
        "a.wav", "b.mp3", "c[1].flac", "deep/a.FLAC", "deep/er/x.ogg",
    ]  # fmt: skip
    assert found("out/a/vocals.wav") == [("out/a/vocals.wav", "vocals")]
    assert found("out") == []


def test_patterns_are_expanded_and_brackets_may_be_names(album):
    assert [path for path, _ in found("[ab].*")] == ["a.wav", "b.mp3"]
    assert [path for path, _ in found("**/*.FLAC")] == ["deep/a.FLAC"]
    (album / "c1.flac").touch()
    assert found("c[1].flac") == [("c[1].flac", "c[1]")]  # there is such a file
    assert found("c[12].flac") == [("c1.flac", "c1")]
    assert found("*.ogg") == [("*.ogg", "*")]  # reading it says that there is none


def test_a_link_that_is_broken_is_a_file(album):
    (album / "x1.wav").touch()
    (album / "x[1].wav").symlink_to("nowhere")
    assert found("x[1].wav") == [("x[1].wav", "x[1]")]


def test_an_empty_name_is_no_song():
    with pytest.raises(ValueError, match="name is empty"):
        found("a.wav", "")


def test_templates_are_filled_in():
    out = Path("out")
    assert output_files("{track}/{stem}.{ext}", ["vocals", "no_vocals"], "a", "flac", out) == {
        "vocals": out / "a" / "vocals.flac",
        "no_vocals": out / "a" / "no_vocals.flac",
    }
    # What is filled in is not a template itself.
    assert output_files("{stem}", ["vocals"], "a", "wav", out) == {"vocals": out / "vocals"}
    assert output_files("{track}", ["vocals"], "{stem}", "wav", out) == {"vocals": out / "{stem}"}


@pytest.mark.parametrize(
    "template", ["{song}.wav", "{track.x}{stem}", "{track[a]}{stem}", "{", "{}", "{0}"]
)
def test_templates_with_something_else_to_fill_in(template):
    with pytest.raises(ValueError, match=r"only \{track\}, \{stem\} and \{ext\} are filled in"):
        output_files(template, ["vocals"], "a", "wav", Path("out"))


@pytest.mark.parametrize("template", ["../{stem}", "x/../../{stem}", "/{stem}", "", ".", "{track}"])
def test_templates_that_make_no_file_below_the_folder(template):
    with pytest.raises(ValueError, match="is no file below out"):
        output_files(template, ["vocals"], "..", "wav", Path("out"))


def test_songs_that_would_take_each_other_s_place_and_folders_are_told(album):
    (album / "empty").mkdir()
    songs = [("a.wav", "a"), ("deep/a.FLAC", "a"), ("empty", "empty"), ("...wav", ".."), ("b.mp3", "b")]
    planned = plan_outputs(
        [(Path(path), track) for path, track in songs],
        "{track}/{stem}.{ext}",
        ["vocals"],
        "wav",
        Path("out"),
    )
    assert [str(path) for path, _ in planned] == [path for path, _ in songs]
    outcomes = [outcome for _, outcome in planned]
    assert outcomes[0] == {"vocals": Path("out/a/vocals.wav")}
    assert outcomes[1] == "its output would overwrite that of a.wav"
    assert outcomes[2] == "no audio files in this folder"
    assert outcomes[3].endswith("'../vocals.wav' is no file below out")
    assert outcomes[4] == {"vocals": Path("out/b/vocals.wav")}


def test_a_name_that_no_file_can_have_is_no_folder(tmp_path):
    assert is_folder(tmp_path)
    assert not is_folder(tmp_path / ("x" * 300))
    assert not is_folder(tmp_path / "none")


def test_absolute_paths_keep_their_links(album):
    (album / "link").symlink_to(album / "deep")
    assert absolute(Path("link/../a.wav")) == album / "a.wav"
    assert absolute(Path("link/a.FLAC")) == album / "link" / "a.FLAC"
