"""`vocalsep serve`: its options; the page itself is tested in `tests/web`."""

import importlib.util
import socket

import pytest

from vocalsep_jax import serve
from vocalsep_jax.runs.shipped import default_model, shipped_models


@pytest.fixture
def _no_page(monkeypatch):
    """Gradio is not there: nothing gets as far as serving."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gradio" else found(name))


def refused(capsys, caplog, *arguments):
    caplog.clear()
    assert serve.main([*arguments]) == 2
    (line,) = caplog.messages
    assert capsys.readouterr().out == ""
    return line.removeprefix("error: ")


@pytest.mark.usefixtures("_no_page")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0: others can reach it, so --auth USER:PASSWORD is needed"),
        (["--host", "example.org"], "others can reach it"),
        (["--auth", "me"], "--auth must be USER:PASSWORD"),
        (["--auth", ":secret"], "--auth must be USER:PASSWORD"),
        (["--max-size", "0"], "--max-size must be more than 0"),
        (["--max-duration", "nan"], "--max-duration must be more than 0"),
        (["--max-disk", "-1"], "--max-disk must be more than 0"),
        (["--keep", "inf"], "--keep must be more than 0"),
        (["--port", "70000"], "--port must be from 1 to 65535, not 70000"),
        (["--checkpoint", "none"], "no such"),
        (["--checkpoint", "vocals", "--checkpoint", "vocals"], "two models are called vocals"),
        ([], "this needs gradio: pip install 'vocalsep_jax[web]'"),
        (["--host", "0.0.0.0", "--auth", "me:secret"], "this needs gradio"),
        (["--host", "::1"], "this needs gradio"),
    ],
)
def test_what_cannot_be_served(capsys, caplog, arguments, message):
    assert message in refused(capsys, caplog, *arguments)


@pytest.mark.usefixtures("_no_page")
def test_a_password_from_the_environment(capsys, caplog, monkeypatch):
    monkeypatch.setenv(serve.AUTH_VARIABLE, "me:secret")
    assert "gradio" in refused(capsys, caplog, "--host", "0.0.0.0")
    monkeypatch.setenv(serve.AUTH_VARIABLE, "secret")
    assert "--auth must be" in refused(capsys, caplog, "--host", "0.0.0.0")


def test_models_that_come_with_the_package_are_offered_the_default_first():
    offered = serve._models(None)
    assert offered == shipped_models()
    assert next(iter(offered)) == default_model()


def test_models_go_by_their_folders_names(run):
    assert serve._models(["vocals", str(run)]) == {"vocals": "vocals", "tiny": str(run)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--overlap", "2"], "overlap must be"), (["-d", "nosuch"], "no device 'nosuch'")],
)
def test_separators_that_cannot_be(run, capsys, caplog, arguments, message):
    pytest.importorskip("gradio")
    assert message in refused(capsys, caplog, "--checkpoint", str(run), *arguments)


@pytest.mark.slow
def test_an_address_in_use(run, capsys, caplog, tmp_path, monkeypatch):
    pytest.importorskip("gradio")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert serve.main(["--checkpoint", str(run), "--port", port]) == 2
    assert [m for m in caplog.messages if m.startswith("error: ")]
    assert list(tmp_path.iterdir()) == []
