import os

import pytest

from vocalsep_jax.runs.folder import RunError
from vocalsep_jax.runs.history import history_path, read_history


def test_lines_come_back_in_order(tmp_path):
    lines = ('{"kind": "train", "step": 2}', "", '{"kind": "valid", "step": 2, "loss": NaN}', "")
    history_path(tmp_path).write_text("\n".join(lines))
    first, second = read_history(tmp_path)
    assert first == {"kind": "train", "step": 2}
    assert second["loss"] != second["loss"]


def test_a_run_that_has_none_yet(tmp_path):
    assert read_history(tmp_path) == []


@pytest.mark.parametrize("rest", ["", "{", '{"step": 4}', '{"step"'])
def test_a_last_line_that_a_crash_cut_off_is_left_out(tmp_path, rest):
    history_path(tmp_path).write_text('{"kind": "train", "step": 2}\n' + rest)
    assert read_history(tmp_path) == [{"kind": "train", "step": 2}]


DAMAGED = [
    b'{"step"\n{"step": 4}\n',
    b"\xff\n",
    b"[" * 100_000 + b"\n",
    b"[3]\n",
    b'{"step": 4}\n',
    b'{"kind": "train", "step": "4"}\n',
]


@pytest.mark.parametrize("content", DAMAGED, ids=lambda content: content[:20])
def test_another_line_that_is_damaged_is_told(tmp_path, content):
    history_path(tmp_path).write_bytes(content)
    with pytest.raises(RunError, match=r"history\.jsonl: damaged .*; repair it, or move it away"):
        read_history(tmp_path)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_told(tmp_path, make):
    make(history_path(tmp_path))
    with pytest.raises(RunError, match="it is no file"):
        read_history(tmp_path)
