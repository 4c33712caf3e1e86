"""The core runs where TensorFlow, clu, TFDS and ml_collections are not installed."""

import ast
import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "vocalsep_jax"
ABSENT = ("tensorflow", "clu", "tensorflow_datasets", "ml_collections")

CORE = {
    "vocalsep_jax",
    "vocalsep_jax.audio",
    "vocalsep_jax.checkpoints",
    "vocalsep_jax.cli",
    "vocalsep_jax.compile_cache",
    "vocalsep_jax.console",
    "vocalsep_jax.containers",
    "vocalsep_jax.coseparation",
    "vocalsep_jax.data",
    "vocalsep_jax.data.crops",
    "vocalsep_jax.data.feed",
    "vocalsep_jax.data.prepared",
    "vocalsep_jax.data.resident",
    "vocalsep_jax.data.sampling",
    "vocalsep_jax.data.songs",
    "vocalsep_jax.data.synth",
    "vocalsep_jax.evaluate",
    "vocalsep_jax.export",
    "vocalsep_jax.files",
    "vocalsep_jax.huge_pages",
    "vocalsep_jax.losses",
    "vocalsep_jax.metrics",
    "vocalsep_jax.models",
    "vocalsep_jax.models.frontend",
    "vocalsep_jax.models.layers",
    "vocalsep_jax.models.unet",
    "vocalsep_jax.monitoring",
    "vocalsep_jax.optimizer",
    "vocalsep_jax.parallel",
    "vocalsep_jax.plots",
    "vocalsep_jax.program",
    "vocalsep_jax.runs",
    "vocalsep_jax.schedule",
    "vocalsep_jax.separate",
    "vocalsep_jax.separator",
    "vocalsep_jax.spectral",
    "vocalsep_jax.streaming",
    "vocalsep_jax.train",
    "vocalsep_jax.train_step",
    "vocalsep_jax.transfer",
}
NEEDS_TRAIN_EXTRA = {
    "vocalsep_jax.data.pipeline",
    "vocalsep_jax.data.tfds_songs",
    "vocalsep_jax.main",
    "vocalsep_jax.quiet_tensorflow",
}
NEEDS_CONVERT_EXTRA = {"vocalsep_jax.torch_io"}
OWNERS = {
    "tensorflow": {"quiet_tensorflow.py"},
    "tensorflow_datasets": {"data/tfds_songs.py"},
    "clu": {"monitoring.py"},
    "ml_collections": {"main.py"},
    "orbax": {"checkpoints.py"},
    "soundfile": {"audio.py"},
    "soxr": {"audio.py"},
    "matplotlib": {"plots.py"},
    "av": {"containers.py"},
    "torch": {"torch_io.py"},
}

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


def test_every_module_is_listed():
    found = set()
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found.add(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    assert found == CORE | NEEDS_TRAIN_EXTRA | NEEDS_CONVERT_EXTRA


def test_the_block_works():
    result = run("import tensorflow")
    assert result.returncode != 0
    assert "No module named 'tensorflow'" in result.stderr


def test_every_module_of_the_core_imports():
    result = run(f"import importlib\nfor name in {sorted(CORE)!r}: importlib.import_module(name)")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("dependency", sorted(OWNERS))
def test_each_dependency_has_one_owner(dependency):
    users = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = [node.module]
            if any(m.split(".")[0] == dependency for m in modules):
                users.add(path.relative_to(PACKAGE).as_posix())
    assert users == OWNERS[dependency]


def test_training_without_its_extra_names_the_extra():
    result = run("import runpy\nrunpy.run_module('vocalsep_jax.main', run_name='__main__')")
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "error: config files need ml_collections: pip install ml_collections"
    ]


def test_a_whole_training_from_resident_songs(tmp_path):
    """What a run leaves, without TensorBoard's records; from a config as a run's config.json holds it."""
    smoke = pytest.importorskip("configs.smoke", reason="needs ml_collections to read the config here")
    config = smoke.get_config().to_dict()
    (tmp_path / "config.json").write_text(json.dumps(config))
    result = run(f"""
import json, logging
from pathlib import Path
logging.basicConfig(level=logging.INFO)
from vocalsep_jax.train import ConfigError, train_and_evaluate
folder = Path({str(tmp_path)!r})
config = json.loads((folder / "config.json").read_text())
assert train_and_evaluate(config, folder / "run").step == 8
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
    assert left == {"config.json", "history.jsonl", "checkpoints", "figures"}
    assert {p.name for p in (tmp_path / "run" / "figures").iterdir()} == {"curves.png", "prediction.png"}


def test_a_training_step_from_arrays_and_a_separation(tmp_path):
    result = run(f"""
from pathlib import Path
import jax, numpy as np, optax
from vocalsep_jax import runs
from vocalsep_jax.checkpoints import Checkpoints
from vocalsep_jax.data.synth.song import generate
from vocalsep_jax.losses import mse
from vocalsep_jax.models.unet import UNet
from vocalsep_jax.parallel import DataParallel
from vocalsep_jax.separator import Separator
from vocalsep_jax.train_step import AXIS, Batch, create_state, make_train_step

model, optimizer = UNet(2, 5, axis_name=AXIS), optax.adamw(1e-3)
parallel = DataParallel("pmap", jax.devices()[:2])
state = parallel.replicate(create_state(model, optimizer, 0, (32, 32)))
step = parallel.wrap(make_train_step(model, optimizer, mse), donate=True)
vocals, other = np.random.default_rng(0).random((2, 4, 32, 32), dtype=np.float32)
state, loss = step(state, parallel.shard(Batch(vocals + other, vocals, other, np.ones(4, np.float32))))
assert np.isfinite(float(loss))

folder = Path({str(tmp_path)!r}) / "run"
folder.mkdir()
audio = dict(sample_rate=8000, n_fft=62, hop=21, patch_frames=32)
network = dict(width=2, depth=5, dtype="float32")
front = dict(input_transform="raw", frequency_scale="linear", frequency_bins=32)
runs.write_config(folder, dict(name="run", audio=audio, model=network, **front), {{}})
checkpoints = Checkpoints(folder)
checkpoints.save("latest", state, 1, {{}})
checkpoints.close()
song = generate(0, "test", 0, 2.0, 8000).mixture
stems = Separator(folder).separate(song, 8000)
np.testing.assert_allclose(stems["vocals"] + stems["no_vocals"], song, atol=1e-6)
assert stems["vocals"].std() > 0
print("done")
""")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "done"
