"""`vocalsep export`."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from tests.conftest import ROOT, tone
from vocalsep_jax import export, separate
from vocalsep_jax.separation import program
from vocalsep_jax.separation.separator import STEMS, Separator

ONLY_JAX = """
import importlib.util, sys
ALLOWED = {"jax", "jaxlib", "numpy", "scipy", "ml_dtypes", "opt_einsum", "flatbuffers"}
ALLOWED |= {*sys.stdlib_module_names}
class Only:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, *rest):
        first = name.split(".")[0]
        if first in ALLOWED or first.startswith("_sysconfigdata"):
            return self.finder.find_spec(name, *rest)
sys.meta_path[:] = [Only(finder) for finder in sys.meta_path]
assert not any(map(importlib.util.find_spec, ("vocalsep_jax", "flax", "orbax", "soundfile")))
"""


@pytest.fixture(scope="module")
def model(run, tmp_path_factory):
    """The tiny run, exported."""
    folder = tmp_path_factory.mktemp("models") / "small"
    assert export.main([str(run), str(folder)]) == 0
    return folder


def test_what_is_in_the_folder(model, run):
    assert {p.name for p in model.iterdir()} == {
        "README.md",
        "checkpoints",
        "config.json",
        "model.json",
        "separation.stablehlo",
    }
    facts = json.loads((model / "model.json").read_text())
    assert (facts["model"], facts["step"], facts["sample_rate"]) == ("tiny", 3, 8000)
    assert facts["stft"] == {"n_fft": 62, "hop": 21, "window": "periodic Hann"}
    assert facts["licence"] == "Apache-2.0"
    assert 0 < facts["program"]["largest_difference"] < 1e-5
    parameters = Separator(run).variables["params"]
    assert facts["parameters"] == sum(x.size for layer in parameters.values() for x in layer.values())
    assert not (model / "checkpoints" / "best" / "3" / "training").exists()


def test_the_folder_separates_as_the_run_does(model, run, tmp_path, rng):
    moved = shutil.copytree(model, tmp_path / "moved")
    x = rng.uniform(-1, 1, (9000, 2)).astype(np.float32)
    ours, theirs = (Separator(folder).separate(x, 8000) for folder in (moved, run))
    for name in STEMS:
        np.testing.assert_array_equal(ours[name], theirs[name])
    assert Separator(moved).step == 3
    soundfile.write(tmp_path / "a.wav", x, 8000)
    assert separate.main([str(tmp_path / "a.wav"), "--checkpoint", str(moved), "-o", str(tmp_path)]) == 0
    assert (tmp_path / "moved" / "a" / "vocals.wav").exists()


def test_the_program_needs_only_jax(model, tmp_path):
    """In a process that can import nothing else, by the lines of the folder's README.

    jax.export itself needs flatbuffers, which jax does not install.
    """
    readme = (model / "README.md").read_text()
    lines = [line[4:] for line in readme.splitlines() if line.startswith("    ")]
    code = "\n".join(lines[lines.index("from pathlib import Path") :])
    waveform = np.stack([tone(440, 1.0) + tone(1300, 1.0), tone(700, 1.0)])
    np.save(tmp_path / "in.npy", waveform)
    save = f"numpy.savez({str(tmp_path / 'out.npz')!r}, **stems)"
    script = (
        f"{ONLY_JAX}\nimport numpy\nwaveform = numpy.load({str(tmp_path / 'in.npy')!r})\n{code}\n{save}"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=model, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    stems = np.load(tmp_path / "out.npz")
    for row, x in enumerate(waveform):
        expected = Separator(model).separate(x, 8000)
        for name in STEMS:
            np.testing.assert_allclose(stems[name][row], expected[name], atol=1e-6)


def test_how_the_model_was_trained(run, tmp_path):
    """As far as the run tells: the validation of the exported step, and where the encoder is from."""
    trained = shutil.copytree(run, tmp_path / "trained")
    content = json.loads((trained / "config.json").read_text())
    content["config"]["init_encoder"] = "encoder/"
    content["songs"] = {"train": [["A", 100], ["B", 100]], "valid": [["C", 50]]}
    (trained / "config.json").write_text(json.dumps(content))
    lines = [{"kind": k, "step": s, "loss": s / 10} for k, s in (("valid", 2), ("train", 3), ("valid", 3))]
    (trained / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    facts = export.export_model(trained, tmp_path / "model", overlap=0.5, batch_size=2, licence="CC0-1.0")
    assert facts["training"]["songs"] == {"train": 2, "valid": 1}
    assert facts["training"]["validation"] == {"kind": "valid", "step": 3, "loss": 0.3}
    assert "Gao" in facts["training"]["encoder"]
    assert facts["program"]["overlap"] == 0.5
    assert "Licence: CC0-1.0." in (tmp_path / "model" / "README.md").read_text()


def test_a_run_of_the_first_format(run, tmp_path, rng):
    """Its config is brought up to date once, not again when the exported model is read."""
    old = shutil.copytree(run, tmp_path / "old")
    content = json.loads((old / "config.json").read_text())
    config = content["config"]
    for name in ("input_transform", "frequency_scale", "frequency_bins"):
        del config[name]
    config["model"]["input_transform"] = "log"
    (old / "config.json").write_text(json.dumps(content | {"format": 1}))
    export.export_model(old, tmp_path / "model")
    x = rng.uniform(-1, 1, (3000, 1)).astype(np.float32)
    ours, theirs = (Separator(folder).separate(x, 8000) for folder in (tmp_path / "model", old))
    np.testing.assert_array_equal(ours["vocals"], theirs["vocals"])
    assert np.abs(ours["vocals"] - Separator(run).separate(x, 8000)["vocals"]).max() > 1e-3


def test_names_and_places_of_the_run_stay_with_it(run, tmp_path):
    private = shutil.copytree(run, tmp_path / "private")
    content = json.loads((private / "config.json").read_text())
    content["config"] |= {"init_from": "/secret/a", "init_encoder": "/secret/b"}
    content["config"]["data"] = {"root": "/secret/c", "cache": "/secret/d", "valid_names": ["secret"]}
    content["songs"] = {"train": [["secret", 1]], "valid": []}
    (private / "config.json").write_text(json.dumps(content))
    export.export_model(private, tmp_path / "model")
    for file in (tmp_path / "model").glob("*.*"):
        assert b"secret" not in file.read_bytes()


@pytest.mark.usefixtures("_interruptible_children")
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(run, tmp_path, which):
    command = [sys.executable, "-m", "vocalsep_jax.export", str(run), str(tmp_path / "new" / "model")]
    environment = os.environ | {"GLIBC_TUNABLES": ""}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stderr=subprocess.PIPE)
    assert process.stderr
    assert process.stderr.readline() == "making the program\n"
    process.send_signal(which)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "interrupted"
    assert not list((tmp_path / "new").iterdir())


def test_a_program_that_computes_something_else_is_not_written(run, tmp_path, monkeypatch, caplog):
    def wrong(*arguments, **options):
        right = original(*arguments, **options)
        return lambda x: {name: 1.01 * stem for name, stem in right(x).items()}

    original = program.separation
    monkeypatch.setattr(program, "separation", wrong)
    assert export.main([str(run), str(tmp_path / "model")]) == 2
    assert "the program differs from the model by" in caplog.text
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported(run, tmp_path, caplog):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("text")
    cases = [
        ([str(tmp_path / "none"), str(tmp_path / "model")], "no such checkpoint"),
        ([str(run), str(tmp_path / "there")], "is there already"),
        ([str(run), str(tmp_path / "there" / "file" / "model")], "cannot be written"),
        ([str(run), str(tmp_path / "model"), "--overlap", "1"], "overlap must be"),
        ([str(run), str(tmp_path / ("x" * 300))], "cannot be written"),
    ]
    for arguments, message in cases:
        assert export.main(arguments) == 2
        assert message in caplog.text
    assert [p.name for p in tmp_path.rglob("*")] == ["there", "file"]
