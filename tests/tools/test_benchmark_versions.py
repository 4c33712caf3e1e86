import contextlib
import sys

import pytest

from tools import benchmark_versions as tool


@pytest.fixture
def worker(tmp_path, monkeypatch):
    """A worker whose answers the test writes, for each tree apart."""

    def make(**answers):
        script = tmp_path / "worker.py"
        script.write_text(
            "import pathlib\n"
            f"answers = iter({answers!r}[pathlib.Path.cwd().name])\n"
            "print(next(answers), flush=True)\n"
            "try:\n    while True:\n        input()\n        print(next(answers), flush=True)\n"
            "except EOFError:\n    pathlib.Path('ended').touch()\n"
        )
        for name in answers:
            (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.setattr(tool, "WORKER", script)
        monkeypatch.setattr(tool, "ROOT", tmp_path / "ours")
        return tmp_path / "theirs"

    return make


def test_versions_take_turns_and_the_ratio_is_of_each_round(worker):
    theirs = worker(ours=["ready", 2.0, 4.0, 3.0], theirs=["ready", 4.0, 6.0, 3.0])
    result = tool.compare("v1", sys.executable, theirs, "train", 3)
    assert result["ratios"] == [2, 1.5, 1]
    assert (result["seconds"], result["seconds_before"], result["ratio"]) == (3.0, 4.0, 1.5)
    assert "| train | 3 | 4 | 1.50 | 1.00 to 2.00 |" in tool.table("v1", [result])
    assert (theirs / "ended").exists()  # by itself, not killed


def test_a_version_that_cannot_start_or_ends_is_said(worker):
    theirs = worker(theirs=["no"])
    with contextlib.ExitStack() as stack, pytest.raises(tool.VersionError, match="v1 cannot train"):
        tool.Worker("v1", sys.executable, theirs, "train", stack)
    theirs = worker(theirs=["ready", 1.0])
    with contextlib.ExitStack() as stack:
        started = tool.Worker("v1", sys.executable, theirs, "train", stack)
        assert started.seconds() == 1.0
        with pytest.raises(tool.VersionError, match="v1 ended while it should train: StopIteration"):
            started.seconds()


def test_a_version_that_does_not_answer_is_ended(worker, monkeypatch):
    monkeypatch.setattr(tool, "_PATIENCE", 0.5)
    theirs = worker(theirs=["ready"])
    tool.WORKER.write_text("import time\ntime.sleep(100)\n")
    with (
        contextlib.ExitStack() as stack,
        pytest.raises(tool.VersionError, match=r"no answer within 0\.5 s"),
    ):
        tool.Worker("v1", sys.executable, theirs, "train", stack)


def test_what_cannot_be_compared_is_left_out(worker, monkeypatch, caplog, capsys):
    theirs = worker(ours=["ready", 1.0], theirs=["ready", 2.0])
    monkeypatch.setattr(
        tool, "version", lambda ref, environment: contextlib.nullcontext((sys.executable, theirs))
    )
    compare = tool.compare

    def failing(ref, python, tree, what, rounds):
        if what == "separate":
            raise tool.VersionError("v1 cannot separate: no model")
        return compare(ref, python, tree, what, rounds)

    monkeypatch.setattr(tool, "compare", failing)
    assert tool.main(["v1", "--what", "separate", "train", "--rounds", "1"]) == 1
    assert "separate: left out (v1 cannot separate: no model)" in caplog.text
    assert "| train | 1 | 2 | 2.00 |" in capsys.readouterr().out


def test_no_such_version(tmp_path):
    with (
        pytest.raises(tool.VersionError, match="git: "),
        tool.version("no-such-version", environment=False),
    ):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("what", ["separate", "train", "start"])
def test_a_worker_does_what_it_says(what):
    with contextlib.ExitStack() as stack:
        assert tool.Worker("this tree", sys.executable, tool.ROOT, what, stack).seconds() > 0
