"""`python -m vocalsep_jax.main`, in processes of its own."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import types

import jax
import numpy as np
import pytest

pytest.importorskip("ml_collections", reason="needs the train extra")

from tests.conftest import ROOT
from tests.small_network import TwoLayers
from vocalsep_jax import main
from vocalsep_jax.data.songs import SongError
from vocalsep_jax.runs.checkpoints import save_model
from vocalsep_jax.runs.folder import RunError
from vocalsep_jax.runs.history import read_history
from vocalsep_jax.training import loop
from vocalsep_jax.training.transfer import encoder_part


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The folder of prepared songs."""
    return tmp_path_factory.mktemp("cache")


def command(*flags):
    return [sys.executable, "-m", "vocalsep_jax.main", "--config=tests/small_smoke.py", *flags]


@pytest.mark.parametrize(
    ("outcome", "code", "message"),
    [
        (loop.Outcome(8), 0, None),
        (loop.Outcome(3, signal.SIGTERM), 143, None),
        (RunError("no run"), 1, "error: no run"),
        (SongError("no songs"), 1, "error: no songs"),
        (loop.ConfigError("no config"), 1, "error: no config"),
        (loop.TrainingDivergedError("no number"), 1, "error: no number"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
    ids=str,
)
def test_exit_codes(monkeypatch, caplog, outcome, code, message):
    def train(config, workdir):
        assert (config.name, workdir) == ("small", "runs/small")
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    config = types.SimpleNamespace(name="small")
    for name, value in {"_CONFIG": config, "_WORKDIR": None, "_MULTIHOST": False}.items():
        monkeypatch.setattr(main, name, types.SimpleNamespace(value=value))
    monkeypatch.setattr(main, "start_logging", lambda *_: None)
    monkeypatch.setattr(loop, "train_and_evaluate", train)
    assert main.main(["main"]) == code
    assert caplog.messages == ([message] if message else [])


def start(cache, workdir, *flags, devices=1):
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "PYTHONUNBUFFERED": "1",
    }
    flags = [f"--config.data.cache={cache}", f"--workdir={workdir}", *flags]
    return subprocess.Popen(
        command(*flags),
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(process, code=0):
    _, errors = process.communicate(timeout=300)
    assert process.returncode == code, errors[-3000:]
    assert "Traceback" not in errors
    return errors


def checkpoint(workdir):
    """The step of the latest checkpoint, 0 if there is none."""
    steps = [int(p.name) for p in (workdir / "checkpoints" / "latest").glob("*") if p.name.isdigit()]
    return max(steps, default=0)


def wait_for_checkpoint(workdir, process, after):
    """Wait for one that is of a later step."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        if checkpoint(workdir) > after:
            return
        time.sleep(0.05)
    pytest.fail("no checkpoint came")


@pytest.mark.slow
@pytest.mark.usefixtures("_interruptible_children")
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_a_run_goes_on_however_it_was_stopped(cache, tmp_path):
    """By SIGTERM, SIGINT, SIGKILL, and by the clock; each goes on where the one before ended."""
    # Long enough to be stopped in the middle; checkpoints often.
    flags = ["--config.patches_per_epoch=40000", "--config.epochs=4", "--config.checkpoint.every_steps=50"]
    saved = 0
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
        process = start(cache, tmp_path, *flags)
        wait_for_checkpoint(tmp_path, process, after=saved)
        process.send_signal(number)
        _, errors = process.communicate(timeout=100)
        assert "Traceback" not in errors
        if saved:
            assert f"resuming {tmp_path} at step {saved}" in errors
        saved = checkpoint(tmp_path)
        assert saved >= 50
        if number == signal.SIGKILL:
            assert process.returncode == -number
        else:
            assert process.returncode == 128 + number
            stopped = re.search(rf"stopped by {number.name} at step (\d+), saved", errors)
            assert int(stopped.group(1)) == saved

    last = start(cache, tmp_path, *flags, "--config.max_minutes=0.01", "--config.log_every_steps=1")
    errors = finish(last)
    assert f"resuming {tmp_path} at step {saved}" in errors
    assert "stopped by the wall-clock limit" in errors
    steps = [x["step"] for x in read_history(tmp_path) if x["kind"] == "train"]
    assert steps == sorted(set(steps))
    assert steps[-1] == checkpoint(tmp_path) > saved
    # An interval under way is in the checkpoint: no step is left out or counted twice.
    assert sum(x["steps"] for x in read_history(tmp_path) if x["kind"] == "train") == steps[-1]


def test_errors_are_one_line_and_exit_code_1(cache, tmp_path):
    errors = finish(start(cache, tmp_path / "run", "--config.data.root=/no/such/folder"), code=1)
    assert errors.splitlines()[-1].endswith(
        "error: /no/such/folder: no such folder; give the folder that holds the songs"
    )


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.batch_siez=3", 'Did you mean "batch_size"'),
        ("--config=configs/none.py", "No such file"),
        ("--no_such_flag", "no_such_flag"),
    ],
)
def test_wrong_flags_are_one_line(flag, message):
    result = subprocess.run(command(flag), cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert result.returncode == 1
    assert message in result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")


@pytest.mark.slow
def test_two_processes_train_as_one(cache, tmp_path):
    """From an encoder that is frozen for the first epoch: all that happens on several processes."""
    encoder = TwoLayers().init(jax.random.key(1), np.ones((1, 32, 32), np.float32))
    save_model(tmp_path, encoder_part(encoder))
    transfer = (
        "--config.steps_per_dispatch=2",
        f"--config.init_encoder={tmp_path}",
        "--config.freeze_encoder=weights",
        "--config.unfreeze_epoch=1",
    )
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    pair = [
        start(
            cache,
            tmp_path / "two",
            *transfer,
            "--multihost",
            f"--coordinator=localhost:{port}",
            "--processes=2",
            f"--process_id={n}",
            devices=2,
        )
        for n in (0, 1)
    ]
    for process in pair:
        finish(process)
    finish(start(cache, tmp_path / "one", *transfer, devices=4))
    two, one = read_history(tmp_path / "two"), read_history(tmp_path / "one")
    assert [(x["kind"], x["step"]) for x in two] == [(x["kind"], x["step"]) for x in one]
    for a, b in zip(two, one, strict=True):
        for name in {"loss", "soft_dice", "grad_norm", "sdr"} & b.keys():
            assert a[name] == pytest.approx(b[name], rel=1e-4, abs=1e-4), name
    assert json.loads((tmp_path / "two" / "config.json").read_text())["config"]["name"] == "smoke"
