import pytest

from vocalsep_jax.runs.folder import RunError
from vocalsep_jax.runs.history import history_path, read_history


def test_lines_come_back_in_order(tmp_path):
    history_path(tmp_path).write_text('{"kind": "train", "step": 2}\n\n{"kind": "valid", "loss": NaN}\n')
    first, second = read_history(tmp_path)
    assert first == {"kind": "train", "step": 2}
    assert second["loss"] != second["loss"]


def test_a_run_that_has_none_yet(tmp_path):
    assert read_history(tmp_path) == []


@pytest.mark.parametrize("rest", ["", "{", '{"step": 4}', '{"step"'])
def test_a_last_line_that_a_crash_cut_off_is_left_out(tmp_path, rest):
    history_path(tmp_path).write_text('{"step": 2}\n' + rest)
    assert read_history(tmp_path) == [{"step": 2}]


@pytest.mark.parametrize("content", [b'{"step"\n{"step": 4}\n', b"\xff\n"])
def test_another_line_that_is_damaged_is_told(tmp_path, content):
    history_path(tmp_path).write_bytes(content)
    with pytest.raises(RunError, match=r"history\.jsonl: damaged .*; repair it, or move it away"):
        read_history(tmp_path)
