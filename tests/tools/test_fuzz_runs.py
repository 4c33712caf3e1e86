import io
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.conftest import ROOT
from tools.fuzz_runs import running, templates, workers
from tools.fuzz_runs.cases import Attempt
from vocalsep_jax.runs import digests, exported
from vocalsep_jax.runs.folder import RunError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What the cases damage."""
    folder = tmp_path_factory.mktemp("fuzz") / "templates"
    templates.make_templates(folder)
    return folder


def run(area, seeds, made):
    """The cases of some seeds."""
    return [running.run_case(area, seed, made, made.parent / "case") for seed in seeds]


def problems(cases):
    return [problem for case in cases for problem in case.problems]


def skip_without(area):
    """Skip the areas of what is not installed."""
    if area == "encoders":
        pytest.importorskip("torch", reason="PyTorch is not installed")
    if area == "caches":
        pytest.importorskip("tensorflow_datasets", reason="needs the train extra")


@pytest.mark.parametrize(
    ("area", "count"),
    [("configs", 40), ("checkpoints", 8), ("models", 12), ("encoders", 20), ("songs", 12), ("caches", 4)],
)
def test_a_few_cases_of_each_area(made, area, count, monkeypatch):
    skip_without(area)
    monkeypatch.setattr(running, "MEMORY_LIMIT", 2**31)  # what other tests left counts, too
    cases = run(area, range(count), made)
    assert problems(cases) == []
    assert all(case.outcome and case.kinds for case in cases)
    assert not (made.parent / "case").exists()


def test_a_case_depends_on_its_seed_alone(made):
    first, again = (run("checkpoints", [5], made)[0] for _ in range(2))
    assert (first.kinds, first.outcome) == (again.kinds, again.outcome)


def attempt(call, errors=(RunError,), **more):
    return lambda case: Attempt(lambda: call(case), errors, **more)


def fail(message, error=RunError):
    def call(case):
        raise error(message)

    return call


def pack(case):
    try:
        np.empty(2**48)
    except MemoryError as error:
        raise RunError("cannot be read") from error


def take(case):
    return np.ones(running.MEMORY_LIMIT // 8 + 2**20).sum()


BROKEN = {
    "escaped: KeyError": attempt(fail("a", KeyError)),
    "not one line": attempt(fail("a\nb")),
    "asked for too much memory": attempt(pack),
    "took 5": attempt(take),
    "no error, but None": attempt(lambda case: None, must_fail=True),
    "not as it was": attempt(lambda case: 3, check=lambda x: "not as it was"),
    "was executed": attempt(lambda case: case.canary.mkdir()),
    "started a process": attempt(lambda case: subprocess.run([sys.executable, "-c", ""], check=True)),
    "took more than": attempt(lambda case: time.sleep(3)),
}


@pytest.mark.parametrize("message", BROKEN)
def test_what_is_broken_is_found(made, monkeypatch, message):
    monkeypatch.setattr(running, "TIME_LIMIT", 1)
    monkeypatch.setitem(running.AREAS, "configs", BROKEN[message])
    (case,) = run("configs", [0], made)
    assert any(message in problem for problem in case.problems), case.problems


def test_a_reader_that_checks_less_is_found(made, monkeypatch):
    monkeypatch.setattr(digests, "_digest", lambda path: "0")
    monkeypatch.setattr(exported, "_array", lambda content: np.load(io.BytesIO(content)))
    assert problems(run("checkpoints", range(4), made) + run("models", range(16), made))


def test_a_process_that_ends_is_told_and_the_next_goes_on(monkeypatch, tmp_path):
    monkeypatch.setattr(workers, "_work", end)
    told = []
    counts, broken = workers.fuzz(["songs"], 2, 7, tmp_path, told.append)
    ended = "the process ended with exit code 3"
    assert broken == told == [f"songs, seed {seed} (): {ended}" for seed in (7, 8)]
    assert counts["songs, outcome"] == {"the process ended": 2}


def end(waiting, folder, parent):
    os._exit(3)


@pytest.mark.slow
def test_the_command(tmp_path):
    command = [sys.executable, "-m", "tools.fuzz_runs", "--count", "3", "configs", "models"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("6 cases, 0 violations\n")
