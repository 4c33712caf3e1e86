import json

import pytest

from tools import benchmark as tool


def test_operations_of_the_full_network():
    """12 GFLOP a patch forward; by hand for a small one."""
    assert tool.patch_flops(64, 7) == pytest.approx(12e9, rel=0.02)
    macs = sum(
        side * side * 16 * inputs * outputs
        for side, inputs, outputs in [
            (128, 1, 1), (64, 1, 2), (32, 2, 4), (16, 4, 8),  # down: at the output
            (16, 8, 4), (32, 8, 2), (64, 4, 1), (128, 2, 1),  # up: at the input
        ]
    )  # fmt: skip
    assert tool.patch_flops(1, 4) == 2 * macs


def test_cases_take_turns_and_one_that_fails_is_left_out(caplog):
    order = []

    def case(name, fail=False):
        def run():
            order.append(name)
            if fail:
                raise RuntimeError("no compiler\nat all")

        return tool.Case(name, run, patches=4)

    done = tool.measure([case("a"), case("bad", fail=True), case("b")], rounds=2)
    assert [c.name for c in done] == ["a", "b"]
    assert order == ["a", "bad", "b", *["a", "a", "b", "b"] * 2]
    assert [len(c.seconds) for c in done] == [2, 2]
    assert "bad: left out (no compiler)" in caplog.text


def test_rates_and_ratios_come_from_medians():
    cases = [tool.Case("ours", print, 4), tool.Case("peer", print, 4)]
    cases[0].seconds, cases[1].seconds = [1.0, 2.0, 9.0], [3.0, 3.0, 3.0]
    ours, peer = tool.rows("forward", cases, 2e9, {"matmul_flops": 8e9})
    assert (ours["seconds"], ours["fastest"], ours["slowest"]) == (2.0, 1.0, 9.0)
    assert (ours["patches_per_second"], ours["flops_per_second"]) == (2.0, 4e9)
    assert ours["share_of_matmul"] == 0.5
    assert (ours["ratio"], peer["ratio"]) == (1.0, 1.5)
    assert "| forward | peer | 3 | 3 to 3 | 1.33 | 2.667 | 33 % |" in tool.table([ours, peer])


def test_everything_is_measured_and_written(tmp_path, capsys):
    arguments = ["all", "--width", "1", "--depth", "5", "--batch-size", "2", "--steps", "1"]
    assert tool.main([*arguments, "--seconds", "1", "--json", str(tmp_path / "b.json")]) == 0
    content = json.loads((tmp_path / "b.json").read_text())
    assert [row["what"] for row in content["results"]] == ["train-step", "forward", "separate"]
    assert all(row["seconds"] > 0 and row["first_seconds"] > 0 for row in content["results"])
    assert content["ceilings"]["matmul_flops"] > 1e8
    assert {"device", "cores", "jax"} <= content["machine"].keys()
    assert content["options"]["width"] == 1
    assert capsys.readouterr().out.count("vocalsep_jax |") == 3


def test_the_same_network_in_pytorch():
    pytest.importorskip("torch", reason="PyTorch is not installed")
    import argparse

    options = argparse.Namespace(width=1, depth=5, batch_size=2, dtype="bfloat16", seconds=1, overlap=0.0)
    peer = tool.TorchPeer(options, compiled=False)
    for case in (peer.train_step(options), peer.forward(options), peer.separate(options)):
        assert tool.measure([case], rounds=1)


@pytest.mark.parametrize("wrong", [["--steps", "0"], ["--devices", "1000"], ["--dtype", "int8"]])
def test_wrong_usage(wrong):
    with pytest.raises(SystemExit) as stop:
        tool.main(["forward", *wrong])
    assert stop.value.code == 2
