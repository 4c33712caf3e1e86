import numpy as np
import pytest

from tools import fuzz_separate
from vocalsep_jax import audio, separate


def test_two_dozen_cases(tmp_path):
    kinds, broken = fuzz_separate.fuzz(24, 0, tmp_path)
    assert not broken, broken[0]
    assert sum(kinds.values()) >= 24
    assert len(kinds) > 15
    assert [p.name for p in tmp_path.iterdir()] == ["runs"]


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda x, bits: x * 0, "the stems sum to it within"),
        (lambda x, bits: x[:-1], "samples, not"),
        (lambda x, bits: 1 / 0, "escaped: ZeroDivisionError"),
    ],
)
def test_what_is_broken_is_found(tmp_path, monkeypatch, break_it, message):
    monkeypatch.setattr(audio, "quantise", break_it)
    _, broken = fuzz_separate.fuzz(6, 0, tmp_path)
    assert any(message in problem for problem in broken), broken


def test_a_case_depends_on_its_seed_alone(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(fuzz_separate, "call", lambda case, run: calls.append((case.options, case.kinds)))
    for folder in ("a", "b"):
        fuzz_separate.run_case(7, tmp_path, tmp_path / folder)
    assert calls[0] == calls[1]
    assert np.all([not (tmp_path / folder).exists() for folder in ("a", "b")])
    assert separate.STEMS == ("vocals", "no_vocals")
