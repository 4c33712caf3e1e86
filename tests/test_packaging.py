"""What a wheel and a source distribution hold."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.shipped_model import write_model

setuptools = pytest.importorskip("setuptools", minversion="77", reason="needs setuptools to build with")
pytestmark = pytest.mark.slow

MODEL = ("MODEL_CARD.md", "card.json", "config.json", "model.json", "weights.npz")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The package with a model in it, of the size that the models have."""
    folder = tmp_path_factory.mktemp("tree")
    shutil.copytree(
        ROOT / "vocalsep_jax", folder / "vocalsep_jax", ignore=shutil.ignore_patterns("shipped")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    model = folder / "vocalsep_jax" / "shipped" / "voices"
    kernel = np.random.default_rng(0).standard_normal((4, 4, 256, 512), np.float32)
    write_model(model, {"params/down4/kernel": kernel})
    for name in MODEL[:3]:
        (model / name).write_text("{}")
    (folder / "vocalsep_jax" / "shipped" / "default.txt").write_text("voices\n")
    return folder


def build(tree, kind):
    """The archive that the build backend makes, as pip calls it; its members' contents by name."""
    code = f"from setuptools import build_meta; print('made', build_meta.build_{kind}('dist'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    path = tree / "dist" / done.stdout.split("made ")[-1].strip()
    if kind == "wheel":
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    with tarfile.open(path) as archive:
        members = [m for m in archive.getmembers() if m.isfile()]
        return {m.name.split("/", 1)[1]: archive.extractfile(m).read() for m in members}


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_the_models_are_in_it(tree, kind):
    content = build(tree, kind)
    folder = "vocalsep_jax/shipped"
    found = {name.removeprefix(f"{folder}/") for name in content if name.startswith(folder)}
    assert found == {"default.txt", *(f"voices/{name}" for name in MODEL)}
    kernel = np.load(io.BytesIO(content[f"{folder}/voices/weights.npz"]))["params/down4/kernel"]
    assert kernel.dtype == np.float16
    assert "vocalsep_jax/py.typed" in content


def test_the_installed_package_finds_them(tree, tmp_path):
    for name, content in build(tree, "wheel").items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    code = "import sys; from vocalsep_jax.cli import main; sys.argv[0] = 'vocalsep'; sys.exit(main())"
    command = [sys.executable, "-c", code, "models"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "GLIBC_TUNABLES": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].startswith("voices (default)  4.2 MB")
