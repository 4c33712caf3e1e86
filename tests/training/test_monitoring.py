import json

import numpy as np
import pytest

monitoring = pytest.importorskip("vocalsep_jax.monitoring", reason="needs the train extra")

VALUES = {"loss": 0.5, "dice": 0.3, "soft_dice": 0.4, "steps": 10}


def open_monitor(run, step=0, writes=True):
    return monitoring.Monitor(run, writes=writes, resume_step=step, title="x")


def test_history_is_a_line_a_record(tmp_path):
    monitor = open_monitor(tmp_path)
    monitor.record("train", 10, 0.5, VALUES)
    lines = (tmp_path / "history.jsonl").read_text().splitlines()  # there before it is closed
    assert json.loads(lines[0]) == {"kind": "train", "step": 10, "epoch": 0.5} | VALUES
    monitor.close()


def test_resuming_cuts_what_came_after_the_checkpoint(tmp_path):
    monitor = open_monitor(tmp_path)
    for step in (10, 20, 30):
        monitor.record("train", step, step / 20, VALUES)
    monitor.close()
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"kind": "train", "step": 40, "lo')  # cut off by a crash
    resumed = open_monitor(tmp_path, step=20)
    resumed.record("train", 30, 1.5, VALUES)
    resumed.close()
    assert [x["step"] for x in monitoring.read_history(tmp_path)] == [10, 20, 30]


def test_only_the_first_process_writes(tmp_path):
    monitor = open_monitor(tmp_path, writes=False)
    monitor.record("train", 10, 0.5, VALUES)
    monitor.audio(10, {"a": np.zeros((100, 2))}, 8000)
    monitor.close()
    assert [x["step"] for x in monitor.history] == [10]
    assert list(tmp_path.iterdir()) == []


def test_the_progress_line_tells_the_time_left(monkeypatch):
    times = iter([100.0, 160.0])
    monkeypatch.setattr(monitoring.time, "monotonic", lambda: next(times))
    progress = monitoring.Progress(10, 50)
    values = VALUES | {"patches_per_second": 12.3, "data_wait_fraction": 0.015}
    line = progress.line(30, 1.5, 3, values)
    assert line == (
        "step 30/50  epoch 1.50/3  loss 0.5000  dice 0.300  12.3 patches/s  "
        "waiting for data 1.5 %  1 min 00 s left"
    )
