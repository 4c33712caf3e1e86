import json

import numpy as np
import pytest

from tools import chaos_train as tool
from tools.chaos import ends, runs
from vocalsep_jax.runs.checkpoints import Checkpoints
from vocalsep_jax.runs.history import history_path
from vocalsep_jax.runtime.data_parallel import DataParallel

LINES = [
    {"kind": "train", "step": 2, "loss": 0.5, "grad_norm": 0.25, "patches_per_second": 10.0},
    {"kind": "valid", "step": 4, "loss": 0.25, "seconds": 1.0},
]


@pytest.fixture
def ended(tmp_path):
    """Makes the end of a run: its history and its checkpoints."""
    parallel = DataParallel()

    def make(name, lines=LINES, kernel=1.0):
        run = tmp_path / name
        run.mkdir()
        history_path(run).write_text("".join(json.dumps(line) + "\n" for line in lines))
        model = {"params": {"down1": {"kernel": np.full(3, kernel)}}, "batch_stats": {}}
        with Checkpoints(run) as checkpoints:
            for kind in ("latest", "best"):
                checkpoints.save(kind, 4, *parallel.replicate((model, {"step": np.int32(4)})), {})
        return run

    return make


def changed(line, **values):
    return [x | values if n == line else x for n, x in enumerate(LINES)]


class TestEnds:
    """What counts as the same end."""

    def test_times_may_differ_and_nothing_else(self, ended):
        reference = ended("reference")
        assert (
            ends.ends_as(ended("same", changed(0, patches_per_second=3.0)), reference, exactly=True) == []
        )
        (line,) = ends.ends_as(ended("norm", changed(0, grad_norm=0.2500001)), reference, exactly=True)
        assert line == "train at step 2: grad_norm 0.2500001, not 0.25"
        array = ends.ends_as(ended("array", kernel=1.0000001), reference, exactly=True)
        assert sorted(array) == [
            f"{x}: 4['model']['params']['down1']['kernel']" for x in ("best", "latest")
        ]

    def test_on_other_devices_the_losses_may_differ_by_rounding(self, ended):
        reference = ended("reference")
        near, far = 0.25 * (1 + ends.ROUNDING / 2), 0.25 * (1 + ends.ROUNDING * 2)
        assert ends.ends_as(ended("near", changed(1, loss=near), 2.0), reference, exactly=False) == []
        assert len(ends.ends_as(ended("far", changed(1, loss=far)), reference, exactly=False)) == 1

    @pytest.mark.parametrize("exactly", [True, False])
    def test_a_line_that_is_missing_counts(self, ended, exactly):
        assert ends.ends_as(ended("short", LINES[:1]), ended("reference"), exactly=exactly) == [
            "the history has other lines"
        ]


def test_results_come_back(tmp_path):
    results = tool.Results(3, {"2x2": 5.0}, failures=["run001 (2x2): it hung"])
    results.told.update([("2x2", "kill_one", "all ended")] * 2 + [("1x4", "pause_one", "went on")])
    results.ends["1x4"] += 1
    results.write(tmp_path)
    again = tool.Results.read(tmp_path)
    assert again == results
    assert again.faults == 3
    assert (tmp_path / "table.md").read_text().splitlines()[2:] == [
        "| 1x4 | pause_one | went on | 1 |",
        "| 2x2 | kill_one | all ended | 2 |",
    ]
    assert tool.Results.read(tmp_path / "none") == tool.Results()


def test_a_fault_that_is_not_known_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        tool.main([str(tmp_path), "--only", "kill_all,meteorite"])
    assert "no such fault: meteorite" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("_interruptible_children")
def test_a_run_that_is_killed_and_damaged_ends_as_one_that_is_not(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tool, "small_disk", lambda folder: tool.contextlib.nullcontext())
    short = ("--config.patches_per_epoch=160", "--config.epochs=1", "--config.checkpoint.every_steps=10")
    monkeypatch.setattr(tool, "_LONG", ())
    monkeypatch.setattr(runs, "CONFIG", short)
    asked = [
        str(tmp_path),
        "--kills=2",
        "--faults=2",
        "--layouts=1x2",
        "--only=kill_all,damage_latest,terminate_one",
    ]
    assert tool.main(asked) == 0
    results = tool.Results.read(tmp_path)
    assert (results.faults >= 2, results.failures) == (True, [])
    assert results.ends.total() == results.runs
    assert "ends as undisturbed, 0 not" in capsys.readouterr().out
    assert tool.main(asked) == 0  # all was done
    assert tool.Results.read(tmp_path) == results
