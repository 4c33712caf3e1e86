import json
from pathlib import Path

import pytest

from tools import leave_one_out as tool
from tools import model_card
from vocalsep_jax.data.songs import find_library

SONGS = ["A - One", "B - Two", "C - Three", "D - Four"]


@pytest.fixture
def call(song_root, tmp_path, monkeypatch):
    """Calls the tool with training and scoring replaced; gives its exit code and what was asked of them."""
    monkeypatch.setattr(tool, "VALID_SONGS", ("valid", 1, 1.0, 7))
    asked = []

    def train(run, flags):
        given = dict(flag.removeprefix("--config.").split("=") for flag in flags)
        asked.append(("train", run.folder.name, given))
        if run.folder.name == "B - Two" and "fail" in str(flags):
            raise tool.ExperimentError("it failed")

    def run_python(command, log_file):
        del log_file
        checkpoint, data, rate, report = (Path(x) for x in command[3::2])
        asked.append(("score", data.name, str(rate)))
        values = {"vocals_usdr": 1.0, "accompaniment_usdr": 5.0, "vocals_sdr": 2.0, "vocals_sir": None}
        methods = {
            checkpoint.name: {"description": "", "checkpoint": True, "weights": "x"},
            "mixture": {"description": "", "checkpoint": False},
        }
        songs = {
            song.name: {name: values | {"leakage": -9.0 - n} for n, name in enumerate(methods)}
            for song in find_library(data).splits["test"]
        }
        report.mkdir(parents=True)
        content = {"sample_rate": int(str(rate)), "methods": methods, "songs": songs}
        (report / "scores.json").write_text(json.dumps(content))

    monkeypatch.setattr(tool, "train", train)
    monkeypatch.setattr(tool, "run_python", run_python)
    config = tmp_path / "mine.py"
    config.touch()

    def run(*arguments):
        asked.clear()
        options = [str(config), "--songs", str(song_root), "--out", str(tmp_path / "out")]
        return tool.main([*options, *arguments]), list(asked)

    return run


def test_each_song_is_left_out_once(call, tmp_path, capsys):
    code, asked = call("--", "--config.epochs=2")
    assert code == 0
    trained = {name: flags for kind, name, *rest in asked if kind == "train" for flags in rest}
    assert list(trained) == SONGS
    for name, flags in trained.items():
        splits = find_library(flags["data.root"]).splits
        assert [s.name for s in splits["train"]] == [s for s in SONGS if s != name]
        assert [s.name for s in splits["test"]] == [name]
        assert [s.name for s in splits["valid"]] == ["Built-in - valid 01"]
        assert flags["data.valid_names"] == "('Built-in - valid 01',)"
        assert (flags["epochs"], flags["valid.best_by"]) == ("2", "last")
    assert [x for x in asked if x[0] == "score"] == [("score", song, "44100") for song in SONGS]
    scores = json.loads((tmp_path / "out" / "mine" / "scores.json").read_text())
    assert list(scores["songs"]) == SONGS
    assert scores["sample_rate"] == 44_100
    assert scores["methods"]["model"] == {"description": "", "checkpoint": True}
    assert scores["medians"]["model"]["leakage"]["median"] == -9
    assert scores["medians"]["model"]["vocals_sir"] is None
    printed = capsys.readouterr().out
    assert "| leakage, dB | model | mixture |" in printed
    assert "| D - Four | -9.00 | -10.00 |\n| median | -9.00 | -10.00 |" in printed
    model_card.read_scores(tmp_path / "out" / "mine" / "scores.json")


def test_some_songs_only(call, tmp_path):
    code, asked = call("--only", "C - Three")
    assert code == 0
    assert [x[:2] for x in asked] == [("train", "C - Three"), ("score", "C - Three")]
    assert not (tmp_path / "out" / "mine" / "scores.json").exists()  # it would be of one song


def test_a_song_that_is_gone_is_not_trained_on(call, tmp_path):
    gone = tmp_path / "out" / "folds" / "A - One" / "train" / "Z - Gone"
    gone.parent.mkdir(parents=True)
    gone.symlink_to(tmp_path)
    call("--only", "A - One")
    assert not gone.is_symlink()


def test_a_failure_costs_its_song_only(call, caplog):
    code, asked = call("--", "--config.name=fail")
    assert code == 1
    assert [x[1] for x in asked if x[0] == "score"] == [s for s in SONGS if s != "B - Two"]
    assert "without B - Two: it failed" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--only", "Z"], "no song called 'Z'"), (["--songs", "nowhere"], "no such folder")],
)
def test_wrong_usage(call, arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        call(*arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
