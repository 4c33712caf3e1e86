import json

import pytest

from tools import leave_one_out as tool
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

    def score(run, data, sample_rate, flags):
        asked.append(("score", data.name, sample_rate, flags))
        scores = {"mixture": -5, "estimate": 1, "ideal": 9}
        songs = {song.name: scores for song in find_library(data).splits["test"]}
        run.folder.mkdir(parents=True, exist_ok=True)
        (run.folder / "test.json").write_text(json.dumps({"songs": songs}))

    monkeypatch.setattr(tool, "train", train)
    monkeypatch.setattr(tool, "score", score)
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
        assert (flags["epochs"], flags["valid.best_by"]) == ("2", "last")
    assert [x for x in asked if x[0] == "score"] == [("score", s, 44_100, ["--leakage"]) for s in SONGS]
    scores = json.loads((tmp_path / "out" / "mine" / "scores.json").read_text())
    assert list(scores) == SONGS
    assert "| median | -5.00 | 1.00 | 9.00 |  |" in capsys.readouterr().out


def test_some_songs_only(call):
    code, asked = call("--only", "C - Three")
    assert code == 0
    assert [x[1] for x in asked] == ["C - Three", "C - Three"]


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
