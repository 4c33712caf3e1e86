import contextlib
import sys

import pytest

from tools import benchmark_versions as tool


@pytest.fixture
def worker(tmp_path, monkeypatch):
    """A worker whose answers the test writes."""

    def make(*answers):
        script = tmp_path / "worker.py"
        script.write_text(
            f"answers = iter({list(answers)!r})\n"
            "print(next(answers), flush=True)\n"
            "while True:\n    input()\n    print(next(answers), flush=True)\n"
        )
        monkeypatch.setattr(tool, "WORKER", script)

    return make


def test_versions_take_turns_and_the_ratio_is_of_each_round(worker, tmp_path):
    worker("ready", 2.0, 4.0, 3.0)
    result = tool.compare("v1", sys.executable, tmp_path, "train", 3)
    assert result["ratios"] == [1, 1, 1]
    assert (result["seconds"], result["seconds_before"], result["ratio"]) == (3.0, 3.0, 1.0)
    assert "| train | 3 | 3 | 1.00 | 1.00 to 1.00 |" in tool.table("v1", [result])


def test_a_version_that_cannot_start_or_ends_is_said(worker, tmp_path):
    worker("no")
    with contextlib.ExitStack() as stack, pytest.raises(tool.VersionError, match="v1 cannot train"):
        tool.Worker("v1", sys.executable, tmp_path, "train", stack)
    worker("ready", 1.0)
    with contextlib.ExitStack() as stack:
        started = tool.Worker("v1", sys.executable, tmp_path, "train", stack)
        assert started.seconds() == 1.0
        with pytest.raises(tool.VersionError, match="v1 ended while it should train"):
            started.seconds()


def test_no_such_version(tmp_path):
    with (
        pytest.raises(tool.VersionError, match="git: "),
        tool.version("no-such-version", environment=False),
    ):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("what", ["separate", "train", "start"])
def test_a_worker_does_what_it_says(what, monkeypatch):
    from tools import version_worker

    monkeypatch.setattr(version_worker, "_SONG_SECONDS", 2)
    with contextlib.ExitStack() as stack:
        assert tool.Worker("this tree", sys.executable, tool.ROOT, what, stack).seconds() > 0
