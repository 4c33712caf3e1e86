import json
import sys

import numpy as np
import pytest

from vocalsep_jax.runs.history import read_history
from vocalsep_jax.training import monitoring

VALUES = {"loss": 0.5, "dice": 0.3, "soft_dice": 0.4, "steps": 10}


class Board:
    """What TensorBoard's writer is told."""

    def __init__(self):
        self.scalars, self.images, self.audios, self.closed = [], [], [], 0

    def write_scalars(self, step, values):
        self.scalars.append((step, values))

    def write_images(self, step, images):
        self.images.append((step, images))

    def write_audios(self, step, clips, sample_rate):
        self.audios.append((step, clips, sample_rate))

    def close(self):
        self.closed += 1


@pytest.fixture
def board(monkeypatch):
    """In the place of TensorBoard's writer, for which TensorFlow has to be imported."""
    board = Board()
    monkeypatch.setattr(monitoring, "_open_board", lambda folder: board)
    return board


def open_monitor(run, step=0, writes=True):
    return monitoring.Monitor(run, writes=writes, resume_step=step)


def test_history_is_a_line_a_record(tmp_path, board):
    with open_monitor(tmp_path) as monitor:
        monitor.record("train", 10, 0.5, VALUES | {"note": "text"})
        lines = (tmp_path / "history.jsonl").read_text().splitlines()  # there before it is closed
        expected = {"kind": "train", "step": 10, "epoch": 0.5, "note": "text"} | VALUES
        assert json.loads(lines[0]) == expected
        assert monitor.history == [expected]
    assert board.scalars == [(10, {f"train/{name}": x for name, x in VALUES.items()})]
    assert board.closed == 1


@pytest.mark.usefixtures("board")
def test_resuming_cuts_what_came_after_the_checkpoint(tmp_path):
    with open_monitor(tmp_path) as monitor:
        for step in (10, 20, 30):
            monitor.record("train", step, step / 20, VALUES)
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"kind": "train", "step": 40, "lo')  # cut off by a crash
    with open_monitor(tmp_path, step=20) as resumed:
        resumed.record("train", 30, 1.5, VALUES)
    assert [x["step"] for x in read_history(tmp_path)] == [10, 20, 30]


def test_only_the_first_process_writes(tmp_path, board):
    with open_monitor(tmp_path, writes=False) as monitor:
        monitor.record("train", 10, 0.5, VALUES)
        monitor.audio(10, {"a": np.zeros((100, 2))}, 8000)
        monitor.figures(10, lambda: pytest.fail("nothing is drawn"))
    assert [x["step"] for x in monitor.history] == [10]
    assert list(tmp_path.iterdir()) == []
    assert not board.scalars
    assert not board.audios


def test_all_figures_are_drawn_and_those_that_are_no_curves_go_to_tensorboard(tmp_path, board, monkeypatch):
    pytest.importorskip("matplotlib", reason="needs the train extra")
    from matplotlib.figure import Figure

    drawn = []

    def draw(snapshot):
        drawn.append(snapshot)
        return Figure(figsize=(1, 1))

    monkeypatch.setattr(monitoring, "FIGURES", {"curves": draw, "prediction": draw, "new": draw})
    with open_monitor(tmp_path) as monitor:
        monitor.figures(10, lambda: "snapshot")
    assert drawn == ["snapshot"] * 3
    assert {p.name for p in (tmp_path / "figures").iterdir()} == {"curves.png", "prediction.png", "new.png"}
    assert [(step, [*images]) for step, images in board.images] == [(10, ["prediction"]), (10, ["new"])]
    assert board.images[0][1]["prediction"].shape == (1, 100, 100, 3)


def test_sound_for_tensorboard_is_cut_off_at_full_scale(tmp_path, board):
    with open_monitor(tmp_path) as monitor:
        monitor.audio(10, {"a": np.array([[0.5, 2.0], [-3.0, 0.0]])}, 8000)
    ((step, clips, rate),) = board.audios
    assert (step, rate) == (10, 8000)
    np.testing.assert_array_equal(clips["a"], [[[0.5, 1.0], [-1.0, 0.0]]])


def test_what_is_missing_is_named_once_and_not_missed(tmp_path, monkeypatch, caplog):
    """Without matplotlib, clu and TensorFlow."""
    caplog.set_level("INFO")
    monkeypatch.setattr(monitoring.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "vocalsep_jax.runtime.quiet_tensorflow", None)
    monkeypatch.setitem(sys.modules, "clu", None)
    with open_monitor(tmp_path) as monitor:
        monitor.record("train", 10, 0.5, VALUES)
        monitor.audio(10, {"a": np.zeros((100, 2))}, 8000)
        monitor.figures(10, lambda: pytest.fail("nothing is drawn"))
    assert [p.name for p in tmp_path.iterdir()] == ["history.jsonl"]
    assert [m.split(":")[0] for m in caplog.messages] == ["no figures", "no TensorBoard records"]
    assert monitoring.parameter_table({"a": np.zeros((20, 100))}) == "2,000 parameters"


@pytest.mark.slow  # it imports TensorFlow
def test_tensorboard_s_records(tmp_path):
    pytest.importorskip("clu", reason="needs the train extra")
    with open_monitor(tmp_path) as monitor:
        monitor.record("train", 10, 0.5, VALUES)
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"train/soft_dice" in events.read_bytes()


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
