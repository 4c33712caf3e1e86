"""Models that are given away, of a network that is quick to compile; `tests/commands` has a U-Net."""

import hashlib
import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests.conftest import ROOT, tone
from tests.small_network import small_config, small_network
from vocalsep_jax.runs.checkpoints import Checkpoints, save_model
from vocalsep_jax.runs.folder import RunError
from vocalsep_jax.runs.record import RunRecord, read_record, write_record
from vocalsep_jax.separation import export
from vocalsep_jax.separation.export import export_model
from vocalsep_jax.separation.separator import Separator
from vocalsep_jax.separation.stem_files import STEMS

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


@pytest.fixture(scope="module", autouse=True)
def _small_network():
    with small_network():
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with random weights, stopped after three steps."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    folder.mkdir()
    config = small_config()
    write_record(folder, RunRecord(config, {}))
    variables = config.network().init(jax.random.key(2), np.zeros((1, 32, 32), np.float32))
    with Checkpoints(folder) as checkpoints:
        checkpoints.save("best", 3, variables, {"step": np.int32(3)}, {})
    return folder


@pytest.fixture(scope="module")
def model(run, tmp_path_factory):
    """The run, exported."""
    folder = tmp_path_factory.mktemp("models") / "model"
    facts = export_model(run, folder)
    assert json.loads((folder / "model.json").read_text()) == facts
    return folder


def test_what_is_in_the_folder(model, run):
    assert {p.name for p in model.iterdir()} == {
        "README.md",
        "config.json",
        "model.json",
        "separation.stablehlo",
        "weights.npz",
    }
    facts = json.loads((model / "model.json").read_text())
    assert (facts["model"], facts["step"], facts["sample_rate"]) == ("model", 3, 8000)
    assert facts["channels"] == 1
    assert facts["stft"] == {"n_fft": 62, "hop": 21, "window": "periodic Hann"}
    assert facts["licence"] == "Apache-2.0"
    assert 0 < facts["program"]["largest_difference"] < 1e-5
    parameters = Separator(run).variables["params"]
    assert facts["parameters"] == sum(x.size for layer in parameters.values() for x in layer.values())
    assert facts["training"] == {"config": "small", "songs": {}, "validation": None}
    weights = facts["weights"]
    assert (weights["file"], weights["dtype"], weights["largest_difference"]) == (
        "weights.npz",
        "float32",
        0,
    )
    assert weights["sha256"] == hashlib.sha256((model / "weights.npz").read_bytes()).hexdigest()


def test_the_folder_separates_as_the_run_does(model, run, tmp_path, rng):
    moved = Separator(shutil.copytree(model, tmp_path / "moved"))
    assert (moved.name, moved.step) == ("moved", 3)
    x = rng.uniform(-1, 1, (9000, 2)).astype(np.float32)
    expected = Separator(run).separate(x, 8000)
    assert expected["vocals"].std() > 0.01
    for name, stem in moved.separate(x, 8000).items():
        np.testing.assert_array_equal(stem, expected[name])


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


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@jax.numpy_dtype_promotion("standard")  # Flax's BatchNorm mixes dtypes
def test_the_program_of_a_u_net_is_what_separates(tmp_path, dtype):
    """Whose network for predicting is another one than the one that was trained."""
    config = small_config(model={"network": "unet", "width": 2, "depth": 4, "dtype": dtype})
    (tmp_path / "run").mkdir()
    write_record(tmp_path / "run", RunRecord(config, {}))
    variables = config.network().init(jax.random.key(2), np.zeros((1, 32, 32), np.float32))
    with Checkpoints(tmp_path / "run") as checkpoints:
        checkpoints.save("best", 3, variables, {"step": np.int32(3)}, {})
    assert export_model(tmp_path / "run", tmp_path / "model")["program"]["largest_difference"] < 1e-4


def test_what_is_told_of_a_run_and_what_stays_with_it(run, tmp_path):
    """The validation of the exported step, and where the encoder is from; neither songs nor places."""
    trained = shutil.copytree(run, tmp_path / "trained")
    places = {"data__root": "/secret/a", "data__cache": "/secret/b", "data__valid_names": ["secret C"]}
    places["data__instrumentals"] = "/secret/d"
    songs = {"train": [("secret A", 100), ("secret B", 100)], "valid": [("secret C", 50)]}
    write_record(trained, RunRecord(small_config(init_encoder="/secret/c", **places), songs))
    steps = [("valid", 2), ("train", 3), ("valid", 3), ("valid", 4)]
    lines = [{"kind": kind, "step": step, "loss": step / 10} for kind, step in steps]
    (trained / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    facts = export_model(trained, tmp_path / "model", overlap=0.5, batch_size=2, licence="CC0-1.0")
    assert facts["training"]["songs"] == {"train": 2, "valid": 1}
    assert facts["training"]["validation"] == {"kind": "valid", "step": 3, "loss": 0.3}
    assert "Gao" in facts["training"]["encoder"]
    assert facts["program"]["overlap"] == 0.5
    assert "Licence: CC0-1.0." in (tmp_path / "model" / "README.md").read_text()
    assert read_record(tmp_path / "model") == RunRecord(small_config(), {})
    for file in (tmp_path / "model").glob("*.*"):
        assert b"secret" not in file.read_bytes()


def test_weights_alone_in_half_the_space(run, model, tmp_path, rng):
    """Rounding to float16, by 2^-11 at most, hardly changes the stems; how much is told."""
    facts = export_model(run, tmp_path / "small", program=False, dtype="float16", batch_size=2)
    assert {p.name for p in (tmp_path / "small").iterdir()} == {
        "README.md", "config.json", "model.json", "weights.npz",
    }  # fmt: skip
    assert "program" not in facts
    assert "stablehlo" not in (tmp_path / "small" / "README.md").read_text()
    assert 0 < facts["weights"]["largest_difference"] < 2**-11
    x = rng.uniform(-1, 1, (9000, 2)).astype(np.float32)
    whole, half = (Separator(folder).separate(x, 8000) for folder in (model, tmp_path / "small"))
    for name in STEMS:
        assert 0 < np.abs(whole[name] - half[name]).max() < 2**-11


def test_a_model_that_an_earlier_version_exported(run, model, tmp_path, rng):
    """It has an Orbax checkpoint in the place of `weights.npz`."""
    old = shutil.copytree(model, tmp_path / "old")
    (old / "weights.npz").unlink()
    facts = json.loads((old / "model.json").read_text())
    del facts["weights"], facts["channels"]
    (old / "model.json").write_text(json.dumps(facts))
    folder = old / "checkpoints" / "best" / "3"
    folder.mkdir(parents=True)
    save_model(folder, Separator(run).variables)
    x = rng.uniform(-1, 1, (3000, 1)).astype(np.float32)
    assert Separator(old).step == 3
    np.testing.assert_array_equal(*(Separator(f).separate(x, 8000)["vocals"] for f in (old, run)))


def test_an_exported_model_can_be_exported_again(model, tmp_path):
    again = export_model(model, tmp_path / "again", program=False, batch_size=2)
    assert again["weights"] == json.loads((model / "model.json").read_text())["weights"]
    assert (tmp_path / "again" / "weights.npz").read_bytes() == (model / "weights.npz").read_bytes()


def test_a_model_whose_weights_are_of_another_network(model, tmp_path):
    other = shutil.copytree(model, tmp_path / "other")
    write_record(other, RunRecord(small_config(model__width=3), {}))
    with pytest.raises(RunError, match=r"other: cannot be restored, it is of another network"):
        Separator(other)


@pytest.mark.slow
def test_an_exported_model_is_read_without_orbax(model):
    """Which takes a part of a second to import."""
    code = (
        "import sys\nfrom tests.small_network import small_network\nfrom vocalsep_jax import Separator\n"
        f"with small_network():\n    Separator({str(model)!r})\n"
        "print({'orbax', 'tensorstore'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.slow
def test_a_run_that_was_warm_started_keeps_that_to_itself(run, tmp_path):
    trained = shutil.copytree(run, tmp_path / "trained")
    write_record(trained, RunRecord(small_config(init_from="/secret/a"), {}))
    facts = export_model(trained, tmp_path / "model", batch_size=2)
    assert "encoder" not in facts["training"]
    assert read_record(tmp_path / "model").config.init_from == ""


@pytest.mark.slow
def test_a_run_of_the_first_format(run, tmp_path, rng):
    """Its config is brought up to date once, not again when the exported model is read."""
    old = shutil.copytree(run, tmp_path / "old")
    content = json.loads((old / "config.json").read_text())
    config = content["config"]
    for name in ("input_transform", "frequency_scale", "frequency_bins"):
        del config[name]
    del config["model"]["network"]
    config["model"]["input_transform"] = "log"
    (old / "config.json").write_text(json.dumps(content | {"format": 1}))
    export_model(old, tmp_path / "model", batch_size=2)
    x = rng.uniform(-1, 1, (3000, 1)).astype(np.float32)
    ours, theirs = (Separator(folder).separate(x, 8000) for folder in (tmp_path / "model", old))
    np.testing.assert_array_equal(ours["vocals"], theirs["vocals"])
    assert np.abs(ours["vocals"] - Separator(run).separate(x, 8000)["vocals"]).max() > 1e-3


def test_a_program_that_computes_something_else_is_not_written(run, tmp_path, monkeypatch):
    right = export.separation

    def wrong(*arguments, **options):
        separate = right(*arguments, **options)
        return lambda x: {name: 1.01 * stem for name, stem in separate(x).items()}

    monkeypatch.setattr(export, "separation", wrong)
    with pytest.raises(RunError, match="the program differs from the model by"):
        export_model(run, tmp_path / "model", batch_size=2)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported(run, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("text")
    cases = [
        ((tmp_path / "none", tmp_path / "model"), {}, "no such checkpoint"),
        ((run, tmp_path / "there"), {}, "is there already"),
        ((run, tmp_path / "there" / "file"), {}, "is there already"),
        ((run, tmp_path / "there" / "file" / "model"), {}, "cannot be written"),
        ((run, tmp_path / ("x" * 300)), {}, "cannot be written"),
        ((run, tmp_path / "model"), {"dtype": "int8"}, "dtype must be"),
        ((run, tmp_path / "model"), {"overlap": 1.0}, "overlap must be"),
        ((run, tmp_path / "model"), {"batch_size": 0}, "batch_size must be"),
    ]
    for arguments, options, message in cases:
        with pytest.raises((RunError, ValueError), match=message):
            export_model(*arguments, **options)
    assert [p.name for p in tmp_path.rglob("*")] == ["there", "file"]


def test_an_empty_folder_is_filled(run, tmp_path):
    (tmp_path / "model").mkdir()
    export_model(run, tmp_path / "model", batch_size=2)
    assert (tmp_path / "model" / "model.json").exists()
