"""`python -m vocalsep_jax.main`, in processes of its own."""

import functools
import json
import os
import re
import resource
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


def command(*flags, config="tests/small_smoke.py"):
    return [sys.executable, "-m", "vocalsep_jax.main", f"--config={config}", *flags]


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
    def train(config, workdir, stall_seconds, profile_calls):
        assert (config.name, workdir, stall_seconds, profile_calls) == ("small", "runs/small", 30, 4)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    config = types.SimpleNamespace(name="small")
    for name, value in {
        "_CONFIG": config,
        "_WORKDIR": None,
        "_MULTIHOST": False,
        "_PEER_TIMEOUT": 3,
        "_PROFILE": 4,
        "_PREPARE_SONGS": False,
    }.items():
        monkeypatch.setattr(main, name, types.SimpleNamespace(value=value))
    monkeypatch.setattr(main, "start_logging", lambda *_: None)
    monkeypatch.setattr(loop, "train_and_evaluate", train)
    assert main.main(["main"]) == code
    assert caplog.messages == ([message] if message else [])


def start(cache, workdir, *flags, devices=1, largest_file=None, **kind):
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "PYTHONUNBUFFERED": "1",
    }
    flags = [f"--config.data.cache={cache}", f"--workdir={workdir}", *flags]
    return subprocess.Popen(
        command(*flags, **kind),
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=largest_file
        and functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (largest_file, largest_file)),
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


def test_songs_are_prepared_before_a_run(tmp_path):
    prepare = ["--prepare_songs", f"--config.data.cache={tmp_path}", f"--workdir={tmp_path / 'run'}"]

    def said(*flags):
        result = subprocess.run(command(*flags), cwd=ROOT, capture_output=True, text=True, timeout=100)
        return result.returncode, result.stderr

    code, log = said(*prepare)
    assert code == 0
    assert "songs are prepared" in log.splitlines()[-1]
    (info,) = tmp_path.rglob("metadata.json")
    before = info.stat().st_mtime_ns
    assert said(*prepare)[0] == 0
    assert info.stat().st_mtime_ns == before
    assert not (tmp_path / "run").exists()
    code, log = said(*prepare, "--", "--no_such_flag=1")
    assert code == 1
    assert re.search(
        r"error: (this needs Apache Beam: pip install 'vocalsep_jax\[beam\]'|Beam has no)", log
    )
    code, log = said("--", "--runner=FnApiRunner")
    assert code == 1
    assert "unexpected argument: --runner=FnApiRunner" in log


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


def assert_same_history(run, other):
    """But for rounding."""
    two, one = read_history(run), read_history(other)
    assert [(x["kind"], x["step"]) for x in two] == [(x["kind"], x["step"]) for x in one]
    for a, b in zip(two, one, strict=True):
        for name in {"loss", "soft_dice", "grad_norm", "sdr"} & b.keys():
            assert a[name] == pytest.approx(b[name], rel=1e-4, abs=1e-4), name


def start_pair(cache, workdir, *flags, **kind):
    """Two processes of two devices each."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    together = ("--multihost", f"--coordinator=localhost:{port}", "--processes=2")
    flags = (*flags, *together)
    return [start(cache, workdir, *flags, f"--process_id={n}", devices=2, **kind) for n in (0, 1)]


@pytest.mark.slow
def test_two_processes_train_as_one(cache, tmp_path):
    """From an encoder that is frozen for the first epoch, with songs spread over the devices of both."""
    encoder = TwoLayers().init(jax.random.key(1), np.ones((1, 32, 32), np.float32))
    save_model(tmp_path, encoder_part(encoder))
    transfer = (
        "--config.steps_per_dispatch=2",
        f"--config.init_encoder={tmp_path}",
        "--config.freeze_encoder=weights",
        "--config.unfreeze_epoch=1",
    )
    pair = start_pair(cache, tmp_path / "two", *transfer, config="tests/small_spread.py")
    logs = [finish(process) for process in pair]
    assert "in 4 parts on the devices" in logs[0]
    finish(start(cache, tmp_path / "one", *transfer, devices=4))
    assert_same_history(tmp_path / "two", tmp_path / "one")
    assert json.loads((tmp_path / "two" / "config.json").read_text())["config"]["name"] == "smoke"


@pytest.mark.slow
@pytest.mark.usefixtures("_interruptible_children")
def test_one_of_two_is_told_to_stop_and_other_devices_go_on(cache, tmp_path):
    """Both stop at the same step; then one process of eight devices; then two again."""
    flags = ["--config.patches_per_epoch=2400", "--config.epochs=2", "--config.checkpoint.every_steps=50"]
    run = tmp_path / "run"
    pair = start_pair(cache, run, *flags)
    wait_for_checkpoint(run, pair[0], after=0)
    pair[1].send_signal(signal.SIGTERM)
    errors = finish(pair[0], 128 + signal.SIGTERM)
    finish(pair[1], 128 + signal.SIGTERM)
    stopped = checkpoint(run)
    assert f"stopped by SIGTERM at step {stopped}, saved" in errors

    one = start(cache, run, *flags, devices=8)
    wait_for_checkpoint(run, one, after=stopped)
    one.send_signal(signal.SIGTERM)
    errors = finish(one, 128 + signal.SIGTERM)
    assert (
        f"resuming {run} at step {stopped} on 8 device(s) of 1 process(es), before 4 device(s) of 2"
        in errors
    )

    pair = start_pair(cache, run, *flags)
    errors = finish(pair[0])
    finish(pair[1])
    assert "before 8 device(s) of 1 process(es): the same samples" in errors
    finish(start(cache, tmp_path / "whole", *flags, devices=4))
    assert_same_history(run, tmp_path / "whole")


@pytest.mark.slow
def test_one_of_two_that_is_lost_ends_the_other(cache, tmp_path):
    pair = start_pair(cache, tmp_path, "--config.patches_per_epoch=400000", "--peer_timeout=4")
    wait_for_checkpoint(tmp_path, pair[0], after=0)
    pair[1].kill()
    pair[0].communicate(timeout=100)
    assert pair[0].returncode not in (0, None)
    pair[1].communicate()


@pytest.mark.slow
def test_a_second_start_in_the_same_folder_is_refused(cache, tmp_path):
    first = start(
        cache, tmp_path, "--config.patches_per_epoch=400000", "--config.checkpoint.every_steps=50"
    )
    wait_for_checkpoint(tmp_path, first, after=0)
    errors = finish(start(cache, tmp_path), code=1)
    assert re.search(rf"another training is running there \(process {first.pid} of .+\)", errors)
    assert first.poll() is None
    first.kill()
    first.communicate()
    finish(start(cache, tmp_path, "--config.patches_per_epoch=400000", "--config.max_minutes=0.001"))


@pytest.mark.slow
def test_what_cannot_be_written_is_one_line_and_costs_no_checkpoint(cache, tmp_path):
    """By files that may not grow: that is as if the disk were full."""
    flags = [
        "--config.patches_per_epoch=400000",
        "--config.checkpoint.every_steps=50",
        "--config.log_every_steps=1",
    ]
    finish(start(cache, tmp_path, *flags, "--config.max_minutes=0.001"))
    before = checkpoint(tmp_path)
    errors = finish(start(cache, tmp_path, *flags, largest_file=60_000), code=1)
    assert re.search(r"error: .*(File too large|cannot be written)", errors.splitlines()[-1])
    saved = checkpoint(tmp_path)
    assert saved >= before
    errors = finish(start(cache, tmp_path, *flags, "--config.max_minutes=0.001"))
    assert f"resuming {tmp_path} at step {saved}" in errors
