import json
from pathlib import Path

import pytest

pytest.importorskip("clu", reason="needs the train extra")

from tests.conftest import ROOT
from tools import run_experiment as tool
from vocalsep_jax.config import parse
from vocalsep_jax.runs.history import read_history
from vocalsep_jax.runs.record import RunRecord, write_record

RESULTS = {
    "a": {
        "domain": "8000 Hz, 62/21",
        "runs": {"0": {"loss": 1.0, "dice": 0.5}, "1": {"loss": 3.0, "dice": 0.7}},
    },
    "b": {"domain": "x", "runs": {"0": {"loss": 2.0, "dice": 0.6, "test_sdr": -1.25}}},
}


def test_the_table_has_mean_and_range():
    lines = tool.table(RESULTS).splitlines()
    assert lines[0] == "| config | domain | seeds | validation loss | validation DICE | test uSDR, dB |"
    assert lines[2] == "| a | 8000 Hz, 62/21 | 2 | 2.000 (1.000 to 3.000) | 0.600 (0.500 to 0.700) |  |"
    assert lines[3].endswith("| -1.250 (-1.250 to -1.250) |")


def run_folder(folder, epochs, seed_song="A", losses=(1.0, 0.5)):
    """A run as training leaves it: a config and as many validations as losses."""
    folder.mkdir(parents=True)
    songs = {"train": [(seed_song, 9)], "valid": [("V", 9)]}
    write_record(folder, RunRecord(parse({"epochs": epochs}), songs))
    lines = [
        {"kind": "valid", "step": n, "epoch": float(n), "loss": x, "dice": 0.1, "soft_dice": 0.2, "sdr": n}
        for n, x in enumerate(losses, start=1)
    ]
    text = "".join(
        json.dumps(x) + "\n" for x in [*lines, {"kind": "train", "step": 3, "epoch": 3.0, "loss": 9.0}]
    )
    (folder / "history.jsonl").write_text(text)
    return folder


def test_a_run_is_measured_at_its_last_validation(tmp_path):
    folder = run_folder(tmp_path / "run", epochs=2)
    assert tool.measure(folder, read_history(folder)) == {
        "loss": 0.5,
        "dice": 0.1,
        "soft_dice": 0.2,
        "sdr": 2,
    }
    songs = {str(n): {"estimate": float(n), "mixture": 0.0} for n in (1, 2, 6)}
    (folder / "test.json").write_text(json.dumps({"songs": songs}))
    assert tool.measure(folder, read_history(folder))["test_sdr"] == 2.0


def test_what_is_not_finished_or_not_comparable_is_not_passed_off(tmp_path, caplog):
    planned = [tool.Run(Path("c.py"), seed, tmp_path / "c" / f"seed{seed}") for seed in range(3)]
    run_folder(planned[0].folder, epochs=2)
    run_folder(planned[1].folder, epochs=3)  # one validation is still to come
    tool.report(tmp_path, planned, "nowhere")
    assert list(json.loads((tmp_path / "results.json").read_text())["c"]["runs"]) == ["0"]
    assert not caplog.records
    run_folder(planned[2].folder, epochs=2, seed_song="B")
    tool.report(tmp_path, planned, "nowhere")
    assert "not all trained and validated on the same songs" in caplog.text
    assert "compare only within one domain" in (tmp_path / "table.md").read_text().replace("\n", " ")


@pytest.mark.slow
def test_an_experiment_end_to_end_and_again(tmp_path, song_root, capsys, caplog):
    """Two configs, one of which fails, and a second call that finds all done."""
    caplog.set_level("INFO")
    smoke = (ROOT / "configs" / "smoke.py").read_text()
    for name, depth in (("good", 4), ("bad", 9)):
        (tmp_path / f"{name}.py").write_text(smoke.replace("model.depth = 5", f"model.depth = {depth}"))
    arguments = [str(tmp_path / "good.py"), str(tmp_path / "bad.py"), "--seeds", "3", "--out"]
    arguments += [str(tmp_path / "out"), "--test", str(song_root), "--sample-rate", "8000", "--"]
    arguments += [f"--config.data.root={song_root}", f"--config.data.cache={tmp_path / 'cache'}"]
    arguments += ["--config.epochs=1"]
    assert tool.main(arguments) == 1
    assert "bad, seed 3: exit code 1" in caplog.text
    assert "multiples of 512" in caplog.text
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert list(results) == ["good"]
    assert results["good"]["domain"] == "8000 Hz, 62/21"
    assert results["good"]["runs"]["3"].keys() == {"loss", "dice", "soft_dice", "sdr", "test_sdr"}
    assert (tmp_path / "out" / "curves.png").stat().st_size > 10_000
    assert "| good | 8000 Hz, 62/21 | 1 |" in capsys.readouterr().out
    config = json.loads((tmp_path / "out" / "good" / "seed3" / "config.json").read_text())["config"]
    assert (config["seed"], config["epochs"]) == (3, 1)
    before = (tmp_path / "out" / "good" / "seed3" / "history.jsonl").read_text()
    scores = tmp_path / "out" / "good" / "seed3" / "test.json"
    scored_at = scores.stat().st_mtime_ns
    assert tool.main([arguments[0], *arguments[2:]]) == 0
    assert (tmp_path / "out" / "good" / "seed3" / "history.jsonl").read_text() == before
    assert scores.stat().st_mtime_ns == scored_at


def test_a_run_that_ends_early_counts_as_failed(tmp_path, monkeypatch):
    run = tool.Run(Path("c.py"), 0, tmp_path / "c" / "seed0")
    monkeypatch.setattr(tool, "run_python", lambda *_: run_folder(run.folder, epochs=5))
    with pytest.raises(tool.ExperimentError, match="before its last epoch"):
        tool.train(run, [])


def test_old_scores_of_other_songs_or_rates_are_not_reused(tmp_path, monkeypatch):
    run = tool.Run(Path("c.py"), 0, run_folder(tmp_path / "run", epochs=2))
    calls = []

    def evaluate(arguments, _):
        calls.append(arguments)
        Path(arguments[-1]).write_text(json.dumps({"song": {"estimate": float(len(calls))}}))

    monkeypatch.setattr(tool, "run_python", evaluate)
    for data, rate, expected in (("a", 8000, 1), ("a", 8000, 1), ("b", 8000, 2), ("b", 44_100, 3)):
        tool.score(run, Path(data), rate)
        assert tool.measure(run.folder, read_history(run.folder))["test_sdr"] == expected


def test_wrong_usage(tmp_path, capsys):
    for arguments in (["none.py", "--out", "x"], ["configs/base.py", "configs/base.py", "--out", "x"]):
        with pytest.raises(SystemExit) as stop:
            tool.main(arguments)
        assert stop.value.code == 2
    assert "no such config: none.py" in capsys.readouterr().err
