import json

import pytest

pytest.importorskip("clu", reason="needs the train extra")

from tests.conftest import ROOT
from tools import run_experiment as tool

RUNS = {
    "a": {"0": {"loss": 1.0, "dice": 0.5}, "1": {"loss": 3.0, "dice": 0.7}},
    "b": {"0": {"loss": 2.0, "dice": 0.6, "test_sdr": -1.25}},
}


def test_the_table_has_mean_and_range():
    lines = tool.table(RUNS).splitlines()
    assert lines[0] == "| config | seeds | validation loss | validation DICE | test uSDR, dB |"
    assert lines[2] == "| a | 2 | 2.000 (1.000 to 3.000) | 0.600 (0.500 to 0.700) |  |"
    assert lines[3].endswith("| -1.250 (-1.250 to -1.250) |")


def test_a_run_is_measured_at_its_last_validation(tmp_path):
    assert tool.measure(tmp_path) is None
    lines = [
        {"kind": "valid", "step": n, "epoch": n, "loss": 1.0 / n, "dice": 0.1, "soft_dice": 0.2, "sdr": n}
        for n in (1, 2)
    ]
    text = "".join(json.dumps(x) + "\n" for x in [*lines, {"kind": "train", "step": 3, "loss": 9.0}])
    (tmp_path / "history.jsonl").write_text(text)
    assert tool.measure(tmp_path) == {"loss": 0.5, "dice": 0.1, "soft_dice": 0.2, "sdr": 2}
    songs = {str(n): {"estimate": float(n), "mixture": 0.0} for n in (1, 2, 6)}
    (tmp_path / "test.json").write_text(json.dumps(songs))
    assert tool.measure(tmp_path)["test_sdr"] == 2.0


def test_an_experiment_end_to_end_and_again(tmp_path, song_root, capsys, caplog):
    """Two configs, one of which fails, and a second call that finds all done."""
    caplog.set_level("INFO")
    smoke = (ROOT / "configs" / "smoke.py").read_text()
    for name, depth in (("good", 5), ("bad", 9)):
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
    assert results["good"]["3"].keys() == {"loss", "dice", "soft_dice", "sdr", "test_sdr"}
    assert (tmp_path / "out" / "curves.png").stat().st_size > 10_000
    assert "| good | 1 |" in capsys.readouterr().out
    config = json.loads((tmp_path / "out" / "good" / "seed3" / "config.json").read_text())["config"]
    assert (config["seed"], config["epochs"]) == (3, 1)
    before = (tmp_path / "out" / "good" / "seed3" / "history.jsonl").read_text()
    assert tool.main([arguments[0], *arguments[2:]]) == 0
    assert (tmp_path / "out" / "good" / "seed3" / "history.jsonl").read_text() == before


def test_wrong_usage(tmp_path, capsys):
    for arguments in (["none.py", "--out", "x"], ["configs/base.py", "configs/base.py", "--out", "x"]):
        with pytest.raises(SystemExit) as stop:
            tool.main(arguments)
        assert stop.value.code == 2
    assert "no such config: none.py" in capsys.readouterr().err
