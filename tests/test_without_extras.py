"""Separating, and training, where none of what the extras bring is installed."""

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from vocalsep_jax.config import parse, to_fields

ABSENT = ("tensorflow", "clu", "tensorflow_datasets", "ml_collections", "torch", "av", "apache_beam")

NEEDS = {
    "vocalsep_jax.coseparation.torch_files": "torch",
    "vocalsep_jax.data.beam_songs": "apache_beam",
    "vocalsep_jax.data.pipeline": "tensorflow",
    "vocalsep_jax.data.tfds_songs": "tensorflow",
    "vocalsep_jax.main": "ml_collections",
    "vocalsep_jax.runtime.quiet_tensorflow": "tensorflow",
    "vocalsep_jax.separation.catalogue": "apache_beam",
}
"""The modules that do not import without an extra, and what they miss first. All others do."""

BLOCK = f"""
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, *rest):
        return None if name.split(".")[0] in {ABSENT!r} else self.finder.find_spec(name, *rest)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""


def run(code):
    return subprocess.run(
        [sys.executable, "-c", BLOCK + code], cwd=ROOT, capture_output=True, text=True, timeout=300
    )


def modules():
    """All there are."""
    for path in (ROOT / "vocalsep_jax").rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_all_modules_import_but_those_that_are_an_extra_s():
    result = run(f"""
import importlib, json
missing = {{}}
for name in {sorted(modules())!r}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing[name] = error.name
    except SystemExit as error:
        missing[name] = "ml_collections" if "ml_collections" in str(error) else "?"
print(json.dumps(missing))
""")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == NEEDS


def test_training_without_its_extra_names_the_extra():
    result = run("import runpy\nrunpy.run_module('vocalsep_jax.main', run_name='__main__')")
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "error: config files need ml_collections: pip install ml_collections"
    ]


@pytest.mark.slow
def test_a_whole_training_from_resident_songs_and_a_separation(tmp_path):
    """What a run leaves, without TensorBoard's records; from a config as a run's config.json holds it.

    The network hears the logarithm, on the logarithmic scale of 32 bins, of spectra of 48.
    """
    config = parse(
        {
            "audio": {"sample_rate": 8000, "n_fft": 94, "hop": 21, "patch_frames": 32},
            "data": {"builtin": {"train_songs": 2, "valid_songs": 1, "seconds": 4.0}, "remix": 0.5},
            "model": {"width": 2, "depth": 5},
            "input_transform": "log",
            "frequency_scale": "coseparation",
            "frequency_bins": 32,
            "patches_per_epoch": 32,
            "epochs": 2,
            "valid": {"patches": 12},
        }
    )
    (tmp_path / "config.json").write_text(json.dumps(to_fields(config)))
    result = run(f"""
import json, logging
from pathlib import Path
import numpy as np
from vocalsep_jax import Separator, train_and_evaluate
from vocalsep_jax.data.synth.song import generate
from vocalsep_jax.training.loop import ConfigError
logging.basicConfig(level=logging.INFO)
folder = Path({str(tmp_path)!r})
config = json.loads((folder / "config.json").read_text())
assert train_and_evaluate(config, folder / "run").step == 8
song = generate(0, "test", 0, 2.0, 11_025).mixture
stems = Separator(folder / "run").separate(song, 11_025)
np.testing.assert_allclose(stems["vocals"] + stems["no_vocals"], song, atol=1e-6)
assert stems["vocals"].std() > 0
config["data"]["placement"] = "host"
try:
    train_and_evaluate(config, folder / "host")
except ConfigError as error:
    print(error)
""")
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("no TensorBoard records: they need the train extra") == 1
    assert result.stdout == "data.placement host needs TensorFlow: pip install 'vocalsep_jax[train]'\n"
    left = {p.name for p in (tmp_path / "run").iterdir()}
    assert left == {"config.json", "history.jsonl", "checkpoints", "figures", ".lock"}
    assert {p.name for p in (tmp_path / "run" / "figures").iterdir()} == {"curves.png", "prediction.png"}
