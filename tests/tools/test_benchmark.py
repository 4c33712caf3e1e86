import argparse
import json

import numpy as np
import pytest

from tools import benchmark as tool
from vocalsep_jax.data.prepared import STEMS


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
    cases[0].moved_bytes = 2e9
    ours, peer = tool.rows("forward", cases, 2e9, {"matmul_flops": 8e9, "copy_bytes": 4e9})
    assert (ours["seconds"], ours["fastest"], ours["slowest"]) == (2.0, 1.0, 9.0)
    assert (ours["patches_per_second"], ours["flops_per_second"]) == (2.0, 4e9)
    assert ours["share_of_matmul"] == 0.5
    assert (ours["ratio"], peer["ratio"]) == (1.0, 1.5)
    assert (ours["share_of_copy"], peer["share_of_copy"]) == (0.25, None)
    assert "| forward | peer | 3 | 3 to 3 | 1.33 | 2.667 | 33 % |  |" in tool.table([ours, peer])


@pytest.mark.slow
def test_everything_is_measured_and_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tool, "_INPUT_BATCHES", 2)
    arguments = ["all", "--both-ways", "--width", "1", "--depth", "4", "--batch-size", "2", "--steps", "1"]
    assert tool.main([*arguments, "--seconds", "1", "--json", str(tmp_path / "b.json")]) == 0
    content = json.loads((tmp_path / "b.json").read_text())
    assert [(row["what"], row["who"]) for row in content["results"]][:4] == [
        ("train-step", "vocalsep_jax"),
        ("forward", "vocalsep_jax"),
        ("separate", "vocalsep_jax"),
        ("separate", "vocalsep_jax, one program"),
    ]
    assert all(row["seconds"] > 0 and row["first_seconds"] > 0 for row in content["results"])
    step = content["results"][0]
    assert step["first_seconds"] > step["compile_seconds"] > 0
    assert min(step[x] for x in ("temporary_bytes", "kept_bytes_per_patch", "share_of_copy")) > 0
    assert content["ceilings"]["matmul_flops"] > 1e8
    assert {"device", "cores", "jax"} <= content["machine"].keys()
    assert content["options"]["width"] == 1
    who = [row["who"] for row in content["results"] if row["what"] == "input"]
    assert who[0] == "vocalsep_jax, on the device"
    out = capsys.readouterr().out
    assert out.count("vocalsep_jax |") == 3 + 16
    assert all(f"| input | {name} |" in out for name in who)
    layers = [row["what"] for row in content["results"]][-16:]
    assert layers[:2] == ["down1 forward", "down1 forward and backward"]
    assert layers[-2:] == ["up4 forward", "up4 forward and backward"]


@pytest.mark.slow
def test_beside_pytorch():
    torch_peer = pytest.importorskip("tools.torch_peer", reason="PyTorch is not installed")
    peer = torch_peer.TorchPeer(1, 5, "bfloat16", "cpu", compiled=False)
    options = argparse.Namespace(batch_size=2, seconds=1, overlap=0.0)
    for make in (tool.torch_train_step, tool.torch_forward, tool.torch_separate):
        assert tool.measure([make(peer, options)], rounds=1)


@pytest.mark.slow
def test_layers_in_pytorch_and_in_other_forms():
    pytest.importorskip("tools.torch_peer", reason="PyTorch is not installed")
    options = argparse.Namespace(
        width=2, depth=4, batch_size=1, dtype="float32", against="torch", forms=["matmul", "lax"]
    )
    compared = list(tool.compare_layers(options))
    assert len(compared) == 2 * 8
    for _, cases, _ in compared:
        assert [case.name.split(" ")[0] for case in cases] == ["vocalsep_jax"] + ["vocalsep_jax,"] * 2 + [
            "PyTorch"
        ]
        cases[0].run()
        cases[-1].run()


def test_pytorchs_input_is_ours():
    torch_peer = pytest.importorskip("tools.torch_peer", reason="PyTorch is not installed")
    store, stft = tool.noise_songs(), tool._STFT
    mixture, vocals, _ = torch_peer.CropDataset(store, stft, 256)[7].numpy()
    rng = np.random.default_rng(7)
    song = int(rng.integers(4))
    start = int(rng.integers(60 * 44_100 - 44_370))
    crops = [store.read(s, song, start, 44_370).mean(0) * store.scales[song] for s in STEMS]
    expected = stft.transform(np.stack(crops).astype(np.float32))
    np.testing.assert_allclose(vocals, np.abs(expected[0]), atol=1e-3)
    np.testing.assert_allclose(mixture, np.abs(expected.sum(0)), atol=1e-3)


@pytest.mark.parametrize("wrong", [["--steps", "0"], ["--devices", "1000"], ["--dtype", "int8"]])
def test_wrong_usage(wrong):
    with pytest.raises(SystemExit) as stop:
        tool.main(["forward", *wrong])
    assert stop.value.code == 2
