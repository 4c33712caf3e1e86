import gzip
import json

import pytest

from tools import measure_accelerator as tool


def test_all_parts_take_less_than_nine_minutes_together():
    assert sum(part.seconds for part in tool.PARTS.values()) < 9 * 60


def test_a_trace_is_summed_up_by_operations_on_the_device(tmp_path):
    """Modules contain the operations, the host only waits."""

    def named(kind, name, pid, tid=None):
        return {"ph": "M", "name": f"{kind}_name", "pid": pid, "tid": tid, "args": {"name": name}}

    def spent(name, pid, tid, time):
        return {"ph": "X", "name": name, "pid": pid, "tid": tid, "dur": time}

    events = [
        named("process", "/device:GPU:0", 1),
        named("process", "/host:CPU", 2),
        named("thread", "Stream #1", 1, 1),
        named("thread", "XLA Modules", 1, 2),
        named("thread", "Framework Name Scope", 1, 3),
        named("thread", "python", 2, 1),
        spent("gemm", 1, 1, 60.0),
        spent("gemm", 1, 1, 20.0),
        spent("copy", 1, 1, 20.0),
        spent("jit_step", 1, 2, 500.0),
        spent("UNet", 1, 3, 500.0),
        spent("wait", 2, 1, 500.0),
        {"ph": "i", "name": "gemm", "pid": 1, "tid": 1},
    ]
    folder = tmp_path / "plugins" / "profile"
    folder.mkdir(parents=True)
    with gzip.open(folder / "host.trace.json.gz", "wt") as file:
        json.dump({"traceEvents": events}, file)
    assert tool.trace_summary(tmp_path) == {"gemm": "80.0 %", "copy": "20.0 %"}


def test_a_trace_that_is_not_there_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="no trace"):
        tool.trace_summary(tmp_path)


def test_a_size_that_fails_is_left_out_and_the_next_is_measured(monkeypatch):
    from tools import benchmark

    def compare(options):
        if options.batch_size == 3:
            raise RuntimeError("RESOURCE_EXHAUSTED: out of memory\nmore")
        yield "train-step", [benchmark.Case("vocalsep_jax", lambda: None, options.batch_size)], 1e9

    monkeypatch.setitem(benchmark.WHAT, "train-step", compare)
    sizes = tool.SMALL._replace(steps=((3, "float32", False), (2, "float32", False)))
    failed, done = tool.measure_steps(sizes)
    assert failed == {
        "title": "training step, batch 3, float32",
        "left_out": "RESOURCE_EXHAUSTED: out of memory",
    }
    assert [row["who"] for row in done["rows"]] == ["vocalsep_jax"]
    text = tool.report({"steps": "done"}, {"steps": [failed, done]})
    assert "training step, batch 3, float32: left out (RESOURCE_EXHAUSTED" in text
    assert "| training step, batch 2, float32 | vocalsep_jax |" in text


def test_ours_is_left_out_where_it_cannot_run(monkeypatch):
    """The peer's time alone would be taken for ours."""
    from tools import benchmark

    def fails():
        raise RuntimeError("RESOURCE_EXHAUSTED")

    def compare(options):
        yield "train-step", [benchmark.Case("ours", fails, 2), benchmark.Case("peer", list, 2)], 1e9

    monkeypatch.setitem(benchmark.WHAT, "train-step", compare)
    (result,) = tool.measure_steps(tool.SMALL._replace(steps=((2, "float32", False),)))
    assert result["left_out"] == "ours cannot run here: the log tells why"


def test_a_part_that_takes_too_long_is_ended(tmp_path):
    assert tool.start_part("machine", tmp_path, small=True, seconds=0.01) == "ended after 0.01 s"


@pytest.mark.slow
def test_the_command_writes_tables_and_numbers_of_its_parts(tmp_path, capsys):
    (tmp_path / "machine.json").write_text("of an earlier run")
    assert tool.main([str(tmp_path), "--small", "--only", "machine"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "table.md")
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["ends"] == {"machine": "done"}
    assert content["results"]["machine"][0]["facts"]["platform"] == "cpu"
    assert "* matrix product, TFLOP/s: " in (tmp_path / "table.md").read_text()
