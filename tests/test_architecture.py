"""The rules of the arrows between the rooms, as pyproject.toml has them for import-linter."""

import shutil
import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytest.importorskip("importlinter", reason="needs the dev extra")
pytestmark = pytest.mark.slow  # scripts/test.sh --fast runs the linter itself


def lint(folder):
    code = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    environment = {"PYTHONPATH": str(folder), "PATH": "", "HOME": str(folder), "COLUMNS": "200"}
    command = [sys.executable, "-c", code, "--config", "pyproject.toml", "--no-cache"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture
def house(tmp_path):
    """A copy of the package that can be spoilt."""
    shutil.copytree(ROOT / "vocalsep_jax", tmp_path / "vocalsep_jax")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_arrows_are_as_they_should_be(house):
    result = lint(house)
    assert result.returncode == 0, result.stdout + result.stderr


SPOILT = {
    "a lower room knows a higher one": (
        "audio/files.py",
        "from vocalsep_jax.training import loop",
        "No room knows a room above it",
    ),
    "even inside a function": (
        "audio/files.py",
        "def f():\n    from vocalsep_jax.separation import separator",
        "No room knows a room above it",
    ),
    "a circle": (
        "audio/stft.py",
        "from vocalsep_jax.audio import masks",
        "No circle among the modules of a room",
    ),
    "a dependency in a second room": (
        "audio/stft.py",
        "import soundfile",
        "soundfile is imported by audio.files alone",
    ),
    "a room that has no place": ("new/__init__.py", "", "No room knows a room above it"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_rule_that_is_broken_is_named(house, what):
    place, line, rule = SPOILT[what]
    path = house / "vocalsep_jax" / place
    path.parent.mkdir(exist_ok=True)
    path.write_text((path.read_text() if path.exists() else "") + f"\n{line}\n")
    result = lint(house)
    assert result.returncode != 0
    said = result.stdout + result.stderr
    if what == "a room that has no place":
        assert "vocalsep_jax.new" in said
    else:
        assert f"{rule} BROKEN" in said
