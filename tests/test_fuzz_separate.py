import json

import numpy as np
import pytest

from tools import fuzz_separate
from vocalsep_jax import audio, separate, separator


@pytest.fixture(autouse=True)
def _one_program(monkeypatch):
    """Every batch size is another program to compile, and changes nothing."""
    monkeypatch.setattr(fuzz_separate, "BATCH_SIZES", (8,))


def test_two_dozen_cases(tmp_path):
    kinds, broken = fuzz_separate.fuzz(24, 0, tmp_path)
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
        (audio, "quantise", lambda x, bits: x * 0, "is off by"),
        (audio, "quantise", lambda x, bits: x * 0, "the stems sum to it within"),
        (audio, "quantise", lambda x, bits: 1 / 0, "escaped: ZeroDivisionError"),
        (separator, "_in_samples", lambda seconds, rate: round(seconds * rate) + 1, "samples, not"),
        (separator, "_count_beyond", lambda samples, encoding: samples.size, "said to be clipped"),
        (separate, "_matches", lambda song, out: [song], "neither written nor named"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_what_is_broken_is_found(tmp_path, monkeypatch, module, name, broken_one, message):
    monkeypatch.setattr(module, name, broken_one)
    _, broken = fuzz_separate.fuzz(6, 34, tmp_path)
    assert any(message in problem for problem in broken), broken


def test_a_report_that_is_wrong_is_found(tmp_path, monkeypatch):
    write = separate.files.write_text
    monkeypatch.setattr(
        separate.files,
        "write_text",
        lambda path, text: write(path, names_nothing(text) if path.name == "report.json" else text),
    )
    _, broken = fuzz_separate.fuzz(6, 34, tmp_path)
    assert any("in the report" in problem for problem in broken), broken


def test_a_case_depends_on_its_seed_alone(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(fuzz_separate, "call", lambda case: calls.append((case.options, case.kinds)))
    for folder in ("a", "b"):
        fuzz_separate.run_case(7, tmp_path, tmp_path / folder)
    assert calls[0] == calls[1]
    assert np.all([not (tmp_path / folder).exists() for folder in ("a", "b")])
    assert separate.STEMS == ("vocals", "no_vocals")
