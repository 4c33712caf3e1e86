"""`vocalsep export`."""

import os
import signal
import subprocess
import sys

import pytest
import soundfile

from tests.conftest import ROOT, tone
from vocalsep_jax import export, separate
from vocalsep_jax.separation import export as exporting
from vocalsep_jax.separation.stem_files import STEMS


@pytest.fixture
def asked(monkeypatch):
    """What the command asks for; nothing is exported."""
    calls = []

    def export_model(*arguments, **options):
        calls.append((*arguments, options))
        facts = {"weights": {"largest_difference": 0.0}}
        return facts | ({"program": {"largest_difference": 1.234e-7}} if options["program"] else {})

    monkeypatch.setattr(exporting, "export_model", export_model)
    return calls


def test_what_is_said_is_what_is_done(asked, tmp_path, capsys, caplog):
    caplog.set_level("INFO")
    assert export.main(["RUN", str(tmp_path / "model")]) == 0
    options = ["--overlap", "0.5", "--batch-size", "2", "--licence", "CC0-1.0"]
    options += ["--weights-only", "--dtype", "float16"]
    assert export.main(["RUN", str(tmp_path / "model"), *options]) == 0
    usual = {
        "program": True,
        "dtype": "float32",
        "overlap": 0.25,
        "batch_size": 8,
        "wiener": False,
        "licence": "Apache-2.0",
    }
    small = {
        "program": False,
        "dtype": "float16",
        "overlap": 0.5,
        "batch_size": 2,
        "wiener": False,
        "licence": "CC0-1.0",
    }
    assert asked == [("RUN", tmp_path / "model", usual), ("RUN", tmp_path / "model", small)]
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "model")] * 2
    said = "its stems differ from the run's by 0"
    assert caplog.messages == [said, "the program's differ from its by 1e-07", said]


def test_errors_are_one_line_and_exit_code_2(run, tmp_path, caplog):
    cases = [
        ([str(tmp_path / "none"), str(tmp_path / "model")], "no such checkpoint"),
        ([str(run), str(tmp_path / "model"), "--overlap", "1"], "overlap must be"),
        ([str(run), str(tmp_path / ("x\n" * 200))], "cannot be written"),
    ]
    for number, (arguments, message) in enumerate(cases):
        assert export.main(arguments) == 2
        assert message in caplog.messages[number]
        assert len(caplog.messages[number].splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_model_of_a_u_net_separates_as_its_run_does(run, tmp_path):
    assert export.main([str(run), str(tmp_path / "model")]) == 0
    soundfile.write(tmp_path / "a.wav", tone(440, 1.0) + tone(1300, 1.0), 8000)
    for checkpoint in (run, tmp_path / "model"):
        arguments = ["--checkpoint", str(checkpoint), "-o", str(tmp_path)]
        assert separate.main([str(tmp_path / "a.wav"), *arguments]) == 0
    for name in STEMS:
        ours, theirs = (tmp_path / model / "a" / f"{name}.wav" for model in ("model", "tiny"))
        assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.slow
@pytest.mark.usefixtures("_interruptible_children")
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(run, tmp_path, which):
    command = [sys.executable, "-m", "vocalsep_jax.export", str(run), str(tmp_path / "new" / "model")]
    environment = os.environ | {"GLIBC_TUNABLES": ""}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stderr=subprocess.PIPE)
    assert process.stderr
    assert process.stderr.readline() == "comparing it with the run\n"
    process.send_signal(which)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "interrupted"
    assert not list((tmp_path / "new").iterdir())
