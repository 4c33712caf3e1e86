import json

import numpy as np
import pytest

from tools.fuzz_separate import options, running
from vocalsep_jax.audio import files
from vocalsep_jax.runtime import disk
from vocalsep_jax.separation import stem_files, tracks


@pytest.fixture(autouse=True)
def _one_program(monkeypatch):
    """Every batch size is another program to compile, and changes nothing."""
    monkeypatch.setattr(options, "BATCH_SIZES", (8,))


def test_two_dozen_cases(tmp_path):
    kinds, broken = running.fuzz(24, 0, tmp_path)
    assert not broken, broken[0]
    assert sum(kinds.values()) >= 24
    assert len(kinds) > 25
    assert [p.name for p in tmp_path.iterdir()] == ["runs"]


def names_nothing(report):
    content = json.loads(report)
    content["songs"] = [{**entry, "status": "skipped"} for entry in content["songs"]]
    return json.dumps(content)


@pytest.mark.parametrize(
    ("module", "name", "broken_one", "message"),
    [
        (stem_files, "quantise", lambda x, bits: x * 0, "is off by"),
        (files, "quantise", lambda x, bits: x * 0, "the stems sum to it within"),
        (files, "quantise", lambda x, bits: 1 / 0, "escaped: ZeroDivisionError"),
        (stem_files, "_in_samples", lambda seconds, rate: round(seconds * rate) + 1, "samples, not"),
        (stem_files, "_count_beyond", lambda samples, encoding: samples.size, "said to be clipped"),
        (tracks, "_matches", lambda song, out: [song], "neither written nor named"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_what_is_broken_is_found(tmp_path, monkeypatch, module, name, broken_one, message):
    monkeypatch.setattr(module, name, broken_one)
    _, broken = running.fuzz(6, 34, tmp_path)
    assert any(message in problem for problem in broken), broken


def test_a_report_that_is_wrong_is_found(tmp_path, monkeypatch):
    write = disk.write_text
    monkeypatch.setattr(
        disk,
        "write_text",
        lambda path, text: write(path, names_nothing(text) if path.name == "report.json" else text),
    )
    _, broken = running.fuzz(6, 34, tmp_path)
    assert any("in the report" in problem for problem in broken), broken


def test_a_case_depends_on_its_seed_alone(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(running, "call", lambda case: calls.append((case.options, case.kinds)))
    for folder in ("a", "b"):
        running.run_case(7, tmp_path, tmp_path / folder)
    assert calls[0] == calls[1]
    assert np.all([not (tmp_path / folder).exists() for folder in ("a", "b")])
