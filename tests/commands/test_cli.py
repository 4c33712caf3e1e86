"""The console script."""

import subprocess
import sys
import tomllib

import pytest
import soundfile

from tests.conftest import ROOT, tone
from vocalsep_jax import __version__, cli, separate


def run_script(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "vocalsep_jax.cli", *arguments], cwd=ROOT, capture_output=True, text=True
    )


def test_the_script_is_declared():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, function = scripts["vocalsep"].split(":")
    assert (module, getattr(cli, function)) == ("vocalsep_jax.cli", cli.main)


@pytest.mark.parametrize("command", ["", "separate", "catalogue", "models", "export"])
def test_help(command):
    result = run_script(*command.split(), "--help")
    assert result.returncode == 0
    assert result.stdout.startswith(f"usage: vocalsep {command}")


def test_version_and_usage():
    assert run_script("--version").stdout.strip() == f"vocalsep_jax {__version__}"
    for arguments in ([], ["sing"], ["separate"], ["export", "a"]):
        result = run_script(*arguments)
        assert result.returncode == 2
        assert result.stderr.startswith("usage: vocalsep")


def test_arguments_and_the_exit_code_are_those_of_the_command(monkeypatch):
    given = []
    monkeypatch.setattr(separate, "main", lambda arguments: (given.append(arguments), 130)[1])
    monkeypatch.setattr(cli, "restart_with_huge_pages", lambda: given.append("restarted"))
    monkeypatch.setattr(sys, "argv", ["vocalsep", "separate", "a.wav", "--checkpoint", "x", "--help"])
    assert cli.main() == 130
    assert given == ["restarted", ["a.wav", "--checkpoint", "x", "--help"]]


@pytest.mark.slow
def test_a_song_and_the_exit_code(run, tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(440, 0.2), 8000)
    arguments = ["--checkpoint", str(run), "-o", str(tmp_path / "out")]
    result = run_script("separate", str(tmp_path / "a.wav"), *arguments)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "tiny" / "a" / "vocals.wav").exists()
    assert run_script("separate", str(tmp_path / "b.wav"), *arguments).returncode == 1
