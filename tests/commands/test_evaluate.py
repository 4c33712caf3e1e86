"""`python -m vocalsep_jax.evaluate`."""

import dataclasses
import errno
import json
import shutil

import numpy as np
import pytest

from tests.conftest import tone
from vocalsep_jax import evaluate
from vocalsep_jax.audio.files import AudioError
from vocalsep_jax.data.songs import find_library
from vocalsep_jax.measures.metrics import usdr
from vocalsep_jax.runs.record import read_record, write_record
from vocalsep_jax.separation.separator import Separator


@pytest.fixture
def scores(run, song_root, tmp_path):
    """Calls the command with options; its exit code, and the scores it wrote."""

    def call(*options, checkpoint=run, data=song_root):
        arguments = [
            "--checkpoint",
            str(checkpoint),
            "--data",
            str(data),
            "--json",
            str(tmp_path / "s.json"),
        ]
        code = evaluate.main([*arguments, *options])
        return code, json.loads((tmp_path / "s.json").read_text()) if code < 2 else None

    return call


def test_scores_of_the_test_songs(run, scores, capsys):
    code, found = scores()
    assert code == 0
    assert list(found) == ["D - Four"]
    row = found["D - Four"]
    assert list(row) == ["mixture", "silence", "ideal", "estimate"]
    assert row["silence"] == 0
    assert row["mixture"] == pytest.approx(0, abs=0.01)  # two tones of one level
    assert row["ideal"] > 6
    vocals, accompaniment = tone(590, 5), tone(130, 5)
    estimate = Separator(run).separate(vocals + accompaniment, 8000)["vocals"]
    assert row["estimate"] == pytest.approx(usdr(vocals, estimate), abs=0.01)
    head, line = capsys.readouterr().out.splitlines()
    assert head.split()[-4:] == ["mixture", "silence", "estimate", "ideal"]
    assert line.startswith("D - Four ")
    assert [float(x) for x in line.split()[-4:]] == [
        pytest.approx(row[name], abs=0.006) for name in ("mixture", "silence", "estimate", "ideal")
    ]


def test_scores_at_another_rate_than_the_model_s_with_leakage(run, scores, song_root, capsys):
    code, found = scores("--sample-rate", "12000", "--leakage", "--overlap", "0.5")
    assert code == 0
    (row,) = found.values()
    assert row["ideal"] > 6
    song = find_library(song_root).splits["test"][0].load(12_000)
    separator = Separator(run, overlap=0.5)
    estimate = separator.separate(song.mixture, 12_000)["vocals"]
    assert row["estimate"] == pytest.approx(usdr(song.vocals, estimate), abs=1e-6)
    taken = separator.separate(song.accompaniment, 12_000)["vocals"]
    expected = 10 * np.log10(np.sum(taken**2) / np.sum(song.accompaniment**2))
    assert row["leakage"] == pytest.approx(expected, abs=1e-4)
    assert capsys.readouterr().out.splitlines()[0].split()[-1] == "leakage"


def test_the_songs_that_a_run_knows(run, scores, tmp_path, capsys, caplog):
    """`valid` are those it was validated on; that it was trained on some is told. Several have a median."""
    trained = shutil.copytree(run, tmp_path / "trained")
    songs = {"train": [("C - Three", 1)], "valid": [("A - One", 1), ("B - Two", 1), ("C - Three", 1)]}
    write_record(trained, dataclasses.replace(read_record(trained), songs=songs))
    code, found = scores("--split", "valid", checkpoint=trained)
    assert code == 0
    assert sorted(found) == ["A - One", "B - Two", "C - Three"]
    assert caplog.messages == ["the checkpoint was trained on 1 of these songs: C - Three"]
    median = capsys.readouterr().out.splitlines()[-1].split()
    assert median[0] == "median"
    assert float(median[3]) == pytest.approx(np.median([x["estimate"] for x in found.values()]), abs=0.006)


def test_one_bad_song_does_not_stop_the_others(scores, song_root, caplog):
    shutil.copytree(song_root / "test" / "D - Four", song_root / "test" / "E - Five")
    (song_root / "test" / "D - Four" / "vocals.wav").write_text("text")
    code, found = scores()
    assert (code, list(found)) == (1, ["E - Five"])
    assert "vocals.wav: not readable" in caplog.text


def test_names_that_are_not_text_and_names_of_columns(run, scores, song_root, tmp_path, capsys):
    other = shutil.copytree(run, tmp_path / "ideal")
    (song_root / "test" / "D - Four").rename(song_root / "test" / "caf\udce9")
    code, found = scores("--checkpoint", str(other))
    assert (code, list(found)) == (0, ["caf\udce9"])
    (row,) = found.values()
    assert list(row) == ["mixture", "silence", "ideal", "tiny", "checkpoint ideal"]
    assert row["checkpoint ideal"] == pytest.approx(row["tiny"])
    assert row["ideal"] > 6
    assert capsys.readouterr().out.splitlines()[1].startswith("caf\\udce9 ")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "{}: cannot be written (No space left on device)",
        ),
        (
            OSError(errno.EACCES, "Permission denied", "f\udce9"),
            "f\\udce9: cannot be written (Permission denied)",
        ),
        (AudioError("/tmp/clip.mp3: cannot be written"), "/tmp/clip.mp3: cannot be written"),
    ],
)
def test_what_cannot_be_written_is_told_in_one_line(
    error, message, run, song_root, tmp_path, caplog, monkeypatch
):
    pytest.importorskip("matplotlib", reason="needs the eval extra")

    def fail(*_):
        raise error

    monkeypatch.setattr(evaluate, "_everything", fail)
    folder = tmp_path / "report"
    options = ["--checkpoint", run, "--data", song_root, "--report", folder]
    assert evaluate.main([str(x) for x in options]) == 1
    assert caplog.messages == ["error: " + message.format(folder)]


def test_errors_are_one_line_and_exit_code_2(scores, song_root, tmp_path, caplog):
    for options, changes, message in (
        ([], {"data": tmp_path / "none"}, "no such folder"),
        ([], {"data": song_root / "train"}, "no songs in the test split"),
        ([], {"checkpoint": tmp_path / "none"}, "no such checkpoint"),
        (["--sample-rate", "0"], {}, "--sample-rate must be at least 1"),
        (["--overlap", "1"], {}, "overlap must be"),
    ):
        caplog.clear()
        assert scores(*options, **changes) == (2, None)
        (line,) = caplog.messages
        assert line.startswith("error: ")
        assert message in line
        assert len(line.splitlines()) == 1
