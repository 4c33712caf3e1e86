import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from tests.conftest import ROOT
from tests.torch_unet import OURS, PUBLISHED, TorchUNet, randomise, to_flax
from tools import convert_torch_encoder as tool
from vocalsep_jax.config import parse
from vocalsep_jax.coseparation import torch_files
from vocalsep_jax.runs.checkpoints import Checkpoints, named_arrays, read_model
from vocalsep_jax.runs.record import RunRecord, write_record


@pytest.fixture(scope="module")
def network():
    network = TorchUNet(2, 7, visual=6, decoder=PUBLISHED)
    randomise(network, 0)
    return network


@pytest.fixture
def source(network, tmp_path):
    torch.save({f"module.{k}": v for k, v in network.state_dict().items()}, tmp_path / "unet_latest.pth")
    return tmp_path / "unet_latest.pth"


def assert_tree(found, params, stats):
    expected = named_arrays({"params": params, "batch_stats": stats})
    found = named_arrays(found)
    assert found.keys() == expected.keys()
    for name, x in expected.items():
        np.testing.assert_array_equal(found[name], x)


def encoder(tree):
    return {k: v for k, v in tree.items() if k.startswith("down")}


def test_an_encoder_with_its_report(network, source, tmp_path, capsys):
    out = tmp_path / "encoder"
    assert tool.main([str(source), str(out)]) == 0
    params, stats = to_flax(network)
    model, step = read_model(out)
    assert step == 0
    assert_tree(model, encoder(params), encoder(stats))

    report = json.loads((out / "report.json").read_text())
    assert report["source"]["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert report["source"]["layout"] == "keys with the prefix 'module.'"
    assert report["source"]["dtypes"] == ["float32"]
    assert report["network"] == {"width": 2, "depth": 7}
    assert "CC BY 4.0" in report["licence"]
    assert "Gao" in report["citation"]
    keys = {row["source"] for row in report["converted"]} | {row["source"] for row in report["left_out"]}
    assert keys == set(network.state_dict())
    assert all(row["why"] for row in report["left_out"])
    row = report["converted"][0]
    assert row["source"] == "audionet_convlayer1.0.weight"
    assert row["target"] == "params/down1/kernel"
    assert (row["source_shape"], row["shape"]) == ([2, 1, 4, 4], [4, 4, 1, 2])
    assert row["transpose"] == [2, 3, 1, 0]
    assert row["mean"] == pytest.approx(float(params["down1"]["kernel"].mean()), rel=1e-5)
    assert row["std"] == pytest.approx(float(params["down1"]["kernel"].std()), rel=1e-5)
    assert list(report["proof"]["relative_difference"]) == [f"down{n}" for n in range(1, 8)]
    assert 0 < max(report["proof"]["relative_difference"].values()) < 1e-4
    printed = capsys.readouterr().out
    for text in ("audionet_convlayer7.1.running_var", "params/down7/kernel", "left out", "down7"):
        assert text in printed
    assert printed.splitlines()[-1] == str(out)


@pytest.mark.parametrize(("depth", "dtype"), [(7, "float16"), (5, "bfloat16"), (5, "float32")])
def test_other_precisions_and_depths(tmp_path, depth, dtype):
    network = TorchUNet(2, depth, visual=6, decoder=PUBLISHED)
    randomise(network, 1)
    network = network.to(getattr(torch, dtype))
    torch.save({"model": network.state_dict(), "epoch": 3}, tmp_path / "x.pth")
    assert tool.main([str(tmp_path / "x.pth"), str(tmp_path / "out")]) == 0
    params, stats = to_flax(network.float())
    assert_tree(read_model(tmp_path / "out")[0], encoder(params), encoder(stats))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["source"]["dtypes"] == [dtype]
    assert report["network"]["depth"] == depth


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the peak of its memory")
def test_the_full_network_takes_less_than_a_gigabyte(tmp_path):
    torch.save(TorchUNet(64, 7, visual=512, decoder=PUBLISHED).state_dict(), tmp_path / "full.pth")
    code = (
        "from pathlib import Path\nfrom tools import convert_torch_encoder as tool\n"
        f"code = tool.main([{str(tmp_path / 'full.pth')!r}, {str(tmp_path / 'encoder')!r}])\n"
        # Not ru_maxrss, which remembers the process this one was started from.
        "print(code, Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    code, kilobytes = map(int, result.stdout.split()[-2:])
    assert code == 0, result.stderr
    assert kilobytes < 1_000_000
    report = json.loads((tmp_path / "encoder" / "report.json").read_text())
    assert report["network"] == {"width": 64, "depth": 7}


def test_a_run_goes_to_pytorch_with_its_step_and_its_front_end(tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    audio = {"sample_rate": 8000, "n_fft": 62, "hop": 21, "patch_frames": 32}
    front = {"input_transform": "log", "frequency_scale": "coseparation", "frequency_bins": 32}
    config = parse({"audio": audio, "model": {"width": 2, "depth": 5}} | front)
    write_record(run, RunRecord(config, {}))
    trained = TorchUNet(2, 5)
    randomise(trained, 2)
    model = dict(zip(("params", "batch_stats"), to_flax(trained), strict=True))
    with Checkpoints(run) as checkpoints:
        checkpoints.save("best", 12, model, {"step": np.int32(12)}, {})
    assert tool.main(["--to-torch", str(run), str(tmp_path / "run.pth")]) == 0
    network = TorchUNet(2, 5, decoder=OURS)
    network.load_state_dict(torch.load(tmp_path / "run.pth", weights_only=True), strict=True)
    assert int(network.state_dict()["audionet_convlayer1.1.num_batches_tracked"]) == 12
    for name, x in trained.state_dict().items():
        if "num_batches" not in name:
            assert torch.equal(network.state_dict()[name], x), name
    printed = capsys.readouterr().out
    assert (
        "8000 Hz, n_fft 62, hop 21; input_transform log; frequency_scale coseparation of 32 bins" in printed
    )


def test_a_whole_network(network, source, tmp_path):
    assert tool.main([str(source), str(tmp_path / "whole"), "--full"]) == 0
    assert_tree(read_model(tmp_path / "whole")[0], *to_flax(network))
    report = json.loads((tmp_path / "whole" / "report.json").read_text())
    assert any(row["source"] == "audionet_upconvlayer1.0.weight[:6]" for row in report["left_out"])
    assert len(report["proof"]["relative_difference"]) == 14


@pytest.mark.slow
def test_there_and_back(network, source, tmp_path):
    assert tool.main([str(source), str(tmp_path / "whole"), "--full"]) == 0
    assert tool.main(["--to-torch", str(tmp_path / "whole"), str(tmp_path / "back.pth")]) == 0
    again = TorchUNet(2, 7, decoder=OURS)
    again.load_state_dict(torch.load(tmp_path / "back.pth", weights_only=True), strict=True)
    x = torch.rand(1, 128, 256)
    with torch.no_grad():
        expected = network.eval()(x, torch.zeros(1, 6, 1, 1))
        np.testing.assert_allclose(again.eval()(x), expected, atol=1e-6)
    assert tool.main([str(tmp_path / "back.pth"), str(tmp_path / "again"), "--full"]) == 0
    assert_tree(read_model(tmp_path / "again")[0], *to_flax(network))


def test_an_encoder_alone_goes_back_too(network, source, tmp_path):
    assert tool.main([str(source), str(tmp_path / "encoder")]) == 0
    assert tool.main(["--to-torch", str(tmp_path / "encoder"), str(tmp_path / "back.pth")]) == 0
    state = torch.load(tmp_path / "back.pth", weights_only=True)
    for key, x in state.items():
        if "num_batches" not in key:
            assert torch.equal(x, network.state_dict()[key])
    assert {k for k in network.state_dict() if "_conv" in k} == set(state)


def refused(arguments, caplog, tmp_path):
    """The one line of the error; nothing may be left behind."""
    before = sorted(p.name for p in tmp_path.iterdir())
    caplog.clear()
    assert tool.main([str(a) for a in arguments]) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    (record,) = [r for r in caplog.records if r.levelname == "ERROR"]
    assert "\n" not in record.getMessage()
    return record.getMessage()


def test_a_proof_that_fails_writes_nothing(source, tmp_path, caplog, monkeypatch):
    honest = torch_files.activations

    def off(*arguments, **options):
        return {k: v * (1 + 2e-4 * (k == "down6")) for k, v in honest(*arguments, **options).items()}

    monkeypatch.setattr(torch_files, "activations", off)
    assert "the networks differ, down6" in refused([source, tmp_path / "out"], caplog, tmp_path)


def test_what_cannot_be_converted(source, network, tmp_path, caplog):
    out = tmp_path / "out"
    state = network.state_dict()
    (tmp_path / "text.pth").write_text("text")
    torch.save({"conv1.weight": torch.zeros(2)}, tmp_path / "other.pth")
    torch.save({k: v for k, v in state.items() if "_conv" in k}, tmp_path / "encoder.pth")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("precious")
    assert "damaged" in refused([tmp_path / "text.pth", out], caplog, tmp_path)
    assert "none of its 1 keys" in refused([tmp_path / "other.pth", out], caplog, tmp_path)
    assert "no decoder" in refused([tmp_path / "encoder.pth", out, "--full"], caplog, tmp_path)
    assert "exists already" in refused([source, tmp_path / "full"], caplog, tmp_path)
    assert "exists already" in refused(["--to-torch", tmp_path, source], caplog, tmp_path)
    assert "no such" in refused(["--to-torch", tmp_path / "none", tmp_path / "x.pth"], caplog, tmp_path)
    assert "File exists" in refused([source, tmp_path / "text.pth" / "out"], caplog, tmp_path)


def test_without_pytorch_the_extra_is_named(tmp_path):
    code = (
        "import sys, runpy\nsys.modules['torch'] = None\nsys.argv = ['convert', 'a', 'b']\n"
        "runpy.run_path('tools/convert_torch_encoder.py', run_name='__main__')"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "vocalsep_jax[convert]" in line
