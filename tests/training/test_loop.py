import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.conftest import ROOT, tone
from vocalsep_jax.runs.folder import checkpoint_folder, config_path, read_config

train = pytest.importorskip("vocalsep_jax.train", reason="needs the train extra")
smoke = pytest.importorskip("configs.smoke", reason="needs the train extra")

from vocalsep_jax.data.songs import SongError
from vocalsep_jax.runs.checkpoints import (
    has_checkpoint,
    named_arrays,
    read_model,
    restore_model,
    save_model,
)
from vocalsep_jax.runs.folder import RunError
from vocalsep_jax.runs.history import read_history
from vocalsep_jax.training.loop import ConfigError, TrainingDivergedError, train_and_evaluate
from vocalsep_jax.training.transfer import encoder_part

TIMING = {"patches_per_second", "data_wait_fraction", "seconds"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _forget_the_run_s_programs():
    """Each run has functions, and so programs, of its own."""
    yield
    jax.clear_caches()


def config(cache, **changes):
    result = smoke.get_config()
    result.data.cache = cache
    result.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    return result


def history(run):
    """The history without what depends on the clock."""
    return [{k: v for k, v in line.items() if k not in TIMING} for line in read_history(run)]


def raw_state(run):
    """Everything in the latest checkpoint, as arrays."""
    import orbax.checkpoint as ocp

    (folder,) = (checkpoint_folder(run) / "latest").glob("[0-9]*")
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
        trees = [reader.restore(folder / item) for item in ("model", "training")]
    return [np.asarray(x) for x in jax.tree.leaves(trees)]


@pytest.fixture(scope="module")
def finished(cache, tmp_path_factory):
    """A finished smoke run."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    assert train_and_evaluate(config(cache), run).step == 8
    return run


def test_a_run_leaves_what_is_promised(finished):
    assert {p.name for p in finished.iterdir()} == {
        "config.json",
        "history.jsonl",
        "checkpoints",
        "figures",
        "tensorboard",
    }
    assert {p.name for p in (finished / "figures").iterdir()} == {"curves.png", "prediction.png"}
    assert all(p.stat().st_size > 10_000 for p in (finished / "figures").iterdir())
    assert list((finished / "tensorboard").glob("events*"))
    content = read_config(finished)
    assert content["songs"]["valid"] == [["Built-in - valid 01", 32_000]]
    lines = read_history(finished)
    assert [(x["kind"], x["step"]) for x in lines] == [
        ("train", 2), ("train", 4), ("valid", 4), ("train", 6), ("train", 8), ("valid", 8),
    ]  # fmt: skip
    for line in lines:
        assert {"step", "epoch", "loss", "dice", "soft_dice"} <= line.keys()
    expected = {"learning_rate", "patches_per_second", "data_wait_fraction", "grad_norm", "update_norm"}
    assert expected <= lines[0].keys()
    assert {"sdr", "sdr_mixture", "sdr_silence", "sdr_ideal", "train_loss"} <= lines[2].keys()
    assert lines[2]["sdr_silence"] == 0
    assert lines[2]["sdr_ideal"] > lines[2]["sdr_mixture"]
    mean = np.mean([lines[3]["loss"], lines[4]["loss"]])
    assert lines[5]["train_loss"] == pytest.approx(mean, rel=1e-6)


def test_validation_loss_is_the_mean_over_the_patches_of_the_saved_model(finished, cache):
    """12 patches in batches of 8: the short last batch neither dropped nor counted twice."""
    from vocalsep_jax.audio.stft import Stft
    from vocalsep_jax.data.pipeline import PatchPipeline
    from vocalsep_jax.data.synth.song import builtin_library
    from vocalsep_jax.data.tfds_songs import prepare
    from vocalsep_jax.models.unet import unet_from_config

    settings = config(cache)
    library = builtin_library(train_songs=2, valid_songs=1, test_songs=0, seconds=4.0, seed=0)
    store = prepare(library, 8000, cache)["valid"]
    patches = list(PatchPipeline(store, Stft(62, 21), 32, 1).validation(12))
    model = unet_from_config(settings)
    shapes = jax.eval_shape(model.init, jax.random.key(0), patches[0].mixture)
    best, step = restore_model(finished, shapes)
    losses = [
        float(np.mean((np.asarray(model.apply(best, p.mixture)) * p.mixture - p.vocals) ** 2))
        for p in patches
    ]
    assert len(losses) == 12
    line = next(x for x in read_history(finished) if x["kind"] == "valid" and x["step"] == step)
    assert line["loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    others = [x["loss"] for x in read_history(finished) if x["kind"] == "valid"]
    assert line["loss"] == min(others)


def test_stopping_and_resuming_changes_nothing(finished, cache, tmp_path):
    run = tmp_path / "stopped"
    for step in (1, 2, 3):  # each call stops after one step, in the middle of a logging interval or not
        assert train_and_evaluate(config(cache, max_minutes=1e-9), run).step == step
    assert train_and_evaluate(config(cache), run).step == 8
    assert history(run) == history(finished)
    for a, b in zip(raw_state(run), raw_state(finished), strict=True):
        np.testing.assert_array_equal(a, b)
    assert train_and_evaluate(config(cache), run).step == 8  # finished: nothing more to do
    assert history(run) == history(finished)


PLACES = [("host", "host"), ("host", "device"), ("resident", "host")]


@pytest.mark.parametrize(("placement", "stft_on"), PLACES)
def test_wherever_the_songs_are_the_run_is_the_same(finished, cache, tmp_path, placement, stft_on):
    changes = {"data__placement": placement, "data__stft_on": stft_on}
    train_and_evaluate(config(cache, **changes, max_minutes=1e-9), tmp_path)
    train_and_evaluate(config(cache, **changes), tmp_path)
    for a, b in zip(history(tmp_path), history(finished), strict=True):
        assert a["step"] == b["step"]
        for name in ("loss", "soft_dice", "sdr"):
            if name in b:
                assert a[name] == pytest.approx(b[name], rel=1e-4, abs=1e-4), name


@pytest.mark.parametrize("parallel", ["pmap", "shard_map"])
def test_several_steps_a_dispatch(finished, cache, tmp_path, parallel):
    """Three where two are due: no log line is missed. Stopped in between, it goes on bit for bit."""
    several = {"steps_per_dispatch": 3, "parallel": parallel}
    assert train_and_evaluate(config(cache, **several), tmp_path / "whole").step == 8
    for step in (1, 2, 3):  # the first step of a call comes alone
        assert train_and_evaluate(config(cache, **several, max_minutes=1e-9), tmp_path / "cut").step == step
    assert train_and_evaluate(config(cache, **several), tmp_path / "cut").step == 8
    assert history(tmp_path / "cut") == history(tmp_path / "whole")
    for a, b in zip(raw_state(tmp_path / "cut"), raw_state(tmp_path / "whole"), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(history(tmp_path / "whole"), history(finished), strict=True):
        assert (a["kind"], a["step"], a.get("steps")) == (b["kind"], b["step"], b.get("steps"))
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3 if parallel == "shard_map" else 1e-5)
    rates = [x["patches_per_second"] for x in read_history(tmp_path / "whole") if x["kind"] == "train"]
    assert min(rates) > 0


@pytest.mark.parametrize(("placement", "stft_on"), PLACES)
def test_nothing_is_fetched_but_what_is_due(cache, tmp_path, monkeypatch, placement, stft_on):
    """Between log lines no value comes back from the devices: not as an array, not as a number."""
    from jax._src.array import ArrayImpl

    steps, fetches = [0], []
    waiting, value = train.Clock.waiting, ArrayImpl._value

    def counting(clock, work):
        for item in waiting(clock, work):
            steps.append(steps[-1] + item.steps)
            yield item

    def noted(fetch):
        return lambda x: (fetches.append(steps[-1]), fetch(x))[1]

    monkeypatch.setattr(train.Clock, "waiting", counting)
    monkeypatch.setattr(ArrayImpl, "_value", property(noted(value.fget)))  # float(), int(), bool(), print()
    monkeypatch.setattr(train, "to_host", noted(train.to_host))
    monkeypatch.setattr(jax, "device_get", noted(jax.device_get))
    settings = config(cache, data__placement=placement, data__stft_on=stft_on)
    settings.patches_per_epoch, settings.epochs, settings.log_every_steps = 80, 1, 4
    assert train_and_evaluate(settings, tmp_path).step == 10
    assert fetches.count(4) == fetches.count(8) == 1  # the totals
    assert set(fetches) == {0, 4, 8, 10}


def test_shard_map_does_what_pmap_does(finished, cache, tmp_path):
    train_and_evaluate(config(cache, parallel="shard_map"), tmp_path)
    for a, b in zip(history(tmp_path), history(finished), strict=True):
        for name in ("loss", "soft_dice", "sdr"):
            if name in b:
                assert a[name] == pytest.approx(b[name], rel=1e-3, abs=2e-3), name


def test_a_changed_config_is_refused_and_shown(finished, cache):
    before = (finished / "history.jsonl").read_text()
    changed = config(cache, optimizer__learning_rate=0.5, data__repair=0.0)
    with pytest.raises(RunError) as error:
        train_and_evaluate(changed, finished)
    assert "data.repair: 0.5 -> 0.0; optimizer.learning_rate: 0.001 -> 0.5" in str(error.value)
    assert f"--config.init_from={finished}" in str(error.value)
    assert (finished / "history.jsonl").read_text() == before


def test_changed_songs_are_refused(song_root, tmp_path, cache):
    import soundfile

    settings = config(cache, data__root=str(song_root), max_minutes=1e-9)
    train_and_evaluate(settings, tmp_path / "run")
    for name in ("vocals", "accompaniment"):
        soundfile.write(song_root / "train" / "B - Two" / f"{name}.wav", tone(700, 1), 8000)
    with pytest.raises(RunError, match="trained on other songs"):
        train_and_evaluate(settings, tmp_path / "run")


def test_a_run_of_an_older_version_is_not_resumed(finished, cache, tmp_path):
    import shutil

    shutil.copytree(finished, tmp_path / "old")
    path = config_path(tmp_path / "old")
    path.write_text(path.read_text().replace('"format": 3', '"format": 1'))
    with pytest.raises(RunError, match=r"made by an older version.*init_from"):
        train_and_evaluate(config(cache), tmp_path / "old")


def test_a_warm_start_takes_weights_and_statistics_only(finished, cache, tmp_path, caplog):
    caplog.set_level("INFO")
    settings = config(cache, init_from=str(finished), max_minutes=1e-9)
    settings.optimizer.learning_rate = 0.0
    settings.optimizer.weight_decay = 0.0
    train_and_evaluate(settings, tmp_path)
    assert f"weights: from {finished}, step" in caplog.text
    model = train.unet_from_config(settings)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 32, 32), np.float32))
    source, _ = restore_model(finished, shapes)
    target, step = restore_model(tmp_path, shapes)
    assert step == 1
    for a, b in zip(*map(jax.tree.leaves, (source["params"], target["params"])), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_warm_start_from_another_network_is_refused(finished, cache, tmp_path):
    with pytest.raises(RunError, match="cannot be restored"):
        train_and_evaluate(config(cache, init_from=str(finished), model__width=3), tmp_path)


class TestTransfer:
    """Runs that start from an encoder, frozen or not."""

    @pytest.fixture(scope="class")
    def encoder(self, finished, tmp_path_factory):
        """The encoder of a finished run, as the converter would leave it."""
        folder = tmp_path_factory.mktemp("encoder")
        save_model(folder, encoder_part(read_model(finished)[0]))
        return str(folder)

    def latest(self, run):
        return named_arrays(read_model(checkpoint_folder(run) / "latest")[0])

    def test_set_free_with_several_steps_a_dispatch(self, encoder, cache, tmp_path):
        changes = {"init_encoder": encoder, "freeze_encoder": "weights", "unfreeze_epoch": 1}
        for name, steps in (("one", 1), ("several", 4)):
            train_and_evaluate(config(cache, **changes, steps_per_dispatch=steps), tmp_path / name)
        for a, b in zip(history(tmp_path / "one"), history(tmp_path / "several"), strict=True):
            assert (a["step"], a.get("steps")) == (b["step"], b.get("steps"))
            assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)

    @pytest.mark.parametrize("freeze", ["none", "weights", "weights_and_statistics"])
    def test_what_is_frozen_stays_bit_for_bit(self, encoder, cache, tmp_path, freeze, caplog):
        caplog.set_level("INFO")
        settings = config(cache, init_encoder=encoder, freeze_encoder=freeze, epochs=1)
        assert train_and_evaluate(settings, tmp_path).step == 4
        assert f"encoder: from {encoder}" in caplog.text
        assert ("encoder: frozen" in caplog.text) == (freeze != "none")
        after = self.latest(tmp_path)
        for name, x in named_arrays(read_model(Path(encoder))[0]).items():
            kept = freeze == "weights_and_statistics" or (freeze == "weights" and "params" in name)
            assert np.array_equal(x, after[name]) == kept, name

    def test_set_free_in_the_middle_and_interrupted_it_ends_the_same(
        self, encoder, cache, tmp_path, caplog
    ):
        caplog.set_level("INFO")
        changes = {"init_encoder": encoder, "freeze_encoder": "weights_and_statistics", "unfreeze_epoch": 1}
        train_and_evaluate(config(cache, **changes), tmp_path / "whole")
        assert caplog.text.count("encoder: trained from step 4 on") == 1

        run, start = tmp_path / "stopped", named_arrays(read_model(Path(encoder))[0])
        arrays = []
        for step in range(1, 7):  # stopped before, at and after the change
            assert train_and_evaluate(config(cache, **changes, max_minutes=1e-9), run).step == step
            after = self.latest(run)
            same = [np.array_equal(x, after[name]) for name, x in start.items()]
            assert all(same) if step <= 4 else not any(same)
            arrays.append(len(raw_state(run)))
        # The optimiser has nothing of the encoder until it is set free: then two averages for each array,
        # and a counter each for updates and for the learning rate.
        encoders = sum(name.startswith("params") for name in start)
        assert arrays == [arrays[0]] * 4 + [arrays[0] + 2 * encoders + 2] * 2
        train_and_evaluate(config(cache, **changes), run)
        assert history(run) == history(tmp_path / "whole")
        for a, b in zip(raw_state(run), raw_state(tmp_path / "whole"), strict=True):
            np.testing.assert_array_equal(a, b)

    def test_an_encoder_of_another_size_is_refused_with_a_table(self, encoder, cache, tmp_path):
        with pytest.raises(
            RunError, match=r"(?s)not of this network's sizes.*params/down1/kernel +4x4x1x3"
        ):
            train_and_evaluate(config(cache, init_encoder=encoder, model__width=3), tmp_path)

    def test_the_front_end_of_the_encoder(self, cache, tmp_path):
        """Logarithmic frequency and amplitude, from 48 bins to the network's 32."""
        changes = {"frequency_scale": "coseparation", "frequency_bins": 32, "input_transform": "log"}
        settings = config(cache, audio__n_fft=94, **changes, max_minutes=1e-9)
        assert train_and_evaluate(settings, tmp_path).step == 1
        song = np.random.default_rng(0).standard_normal((9000, 2)).astype(np.float32)
        from vocalsep_jax.separation.separator import Separator

        stems = Separator(tmp_path).separate(song, 11_025)
        np.testing.assert_allclose(stems["vocals"] + stems["no_vocals"], song, atol=1e-6)


def test_training_that_diverges_stops_and_names_the_step(cache, tmp_path):
    settings = config(cache, optimizer__learning_rate=1e30)
    with pytest.raises(TrainingDivergedError, match=r"not finite at step [23]\b.*learning_rate"):
        train_and_evaluate(settings, tmp_path)
    assert not has_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("loss", "l3", "loss must be one of mse, l1"),
        ("parallel", "xmap", "parallel must be one of pmap"),
        ("batch_size", 12, "cannot be split over 8 devices"),
        ("batch_size", 0, "batch_size must be at least 1"),
        ("patches_per_epoch", 4, "less than one batch"),
        ("audio.patch_frames", 40, r"multiples of 32 .*, got 32 bins x 40 frames.*audio\.patch_frames"),
        ("audio.n_fft", 60, "multiples of 32"),
        ("audio.hop", 60, "hop must be between"),
        ("data.channels", "both", "data.channels"),
        ("data.placement", "moon", "data.placement must be one of host, resident, auto"),
        ("data.stft_on", "moon", "data.stft_on must be one of host, device"),
        ("steps_per_dispatch", -1, "steps_per_dispatch must be at least 0"),
        ("seed", 2**32, "seed must be from 0"),
        ("epochs", 2**30, "must be below 2"),
        ("valid.song_overlap", 1.0, "valid.song_overlap"),
        ("optimizer.schedule", "step", "optimizer.schedule"),
        ("model.dtype", "float16", "model.dtype"),
        ("frequency_scale", "mel", "frequency_scale must be one of linear, coseparation"),
        ("freeze_encoder", "all", "freeze_encoder must be one of none"),
        ("unfreeze_epoch", 2, "nothing is frozen"),
        ("encoder_lr_scale", 0.0, "encoder_lr_scale"),
    ],
)
def test_impossible_configs_name_the_field(cache, tmp_path, field, value, message):
    with pytest.raises(ConfigError, match=message):
        train_and_evaluate(config(cache, **{field: value}), tmp_path)


@pytest.mark.parametrize("absent", ["data.placement", "model.width", "rematerialise"])
def test_dictionaries_that_lack_a_field_name_it(cache, tmp_path, absent):
    fields = config(cache).to_dict()
    within = fields
    *path, name = absent.split(".")
    for part in path:
        within = within[part]
    del within[name]
    with pytest.raises((ConfigError, RunError), match=f"no field {absent}"):
        train_and_evaluate(fields, tmp_path)


@pytest.mark.parametrize(("section", "name"), [(None, "batch_size"), ("data", "gain_db")])
def test_dictionaries_with_a_field_of_another_type(cache, tmp_path, section, name):
    fields = config(cache).to_dict()
    (fields[section] if section else fields)[name] = "8"
    with pytest.raises(ConfigError, match="of the wrong type"):
        train_and_evaluate(fields, tmp_path)


def test_two_starts_are_one_too_many(cache, tmp_path):
    with pytest.raises(ConfigError, match="not both"):
        train_and_evaluate(config(cache, init_from="a", init_encoder="b"), tmp_path)


def test_a_workdir_that_cannot_be(cache, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="cannot be made"):
        train_and_evaluate(config(cache), tmp_path / "file" / "run")


def test_missing_songs(cache, tmp_path):
    with pytest.raises(SongError, match="no such folder"):
        train_and_evaluate(config(cache, data__root=str(tmp_path / "none")), tmp_path / "run")


def test_built_in_songs_are_announced_loudly(cache, tmp_path, caplog):
    train_and_evaluate(config(cache, max_minutes=1e-9), tmp_path)
    (line,) = [r for r in caplog.records if "NO SONGS GIVEN" in r.message]
    assert line.levelname == "WARNING"
    assert "--config.data.root" in line.message


class TestCommand:
    """`python -m vocalsep_jax.main`, in processes of its own."""

    def start(self, cache, workdir, *flags, devices=1):
        environment = os.environ | {
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
            "PYTHONUNBUFFERED": "1",
        }
        command = [sys.executable, "-m", "vocalsep_jax.main", "--config", "configs/smoke.py"]
        command += [f"--config.data.cache={cache}", *flags]
        command += ["--workdir", str(workdir)] if workdir else []
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def finish(self, process, code=0):
        _, errors = process.communicate(timeout=300)
        assert process.returncode == code, errors[-3000:]
        assert "Traceback" not in errors
        return errors

    # Long enough to be stopped in the middle; checkpoints often.
    LONG = ("--config.patches_per_epoch=4000", "--config.epochs=4", "--config.checkpoint.every_steps=50")

    def wait_for_checkpoint(self, workdir, process):
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline and process.poll() is None:
            if any(p.name.isdigit() for p in (workdir / "checkpoints" / "latest").glob("*")):
                return
            time.sleep(0.05)
        pytest.fail("no checkpoint came")

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
    def test_a_stopped_run_goes_on(self, cache, tmp_path, number):
        process = self.start(cache, tmp_path, *self.LONG)
        self.wait_for_checkpoint(tmp_path, process)
        process.send_signal(number)
        _, errors = process.communicate(timeout=100)
        if number == signal.SIGKILL:
            assert process.returncode == -number
        else:
            assert process.returncode == 128 + number
            stopped = int(re.search(r"stopped by \w+ at step (\d+), saved", errors).group(1))
            assert (tmp_path / "checkpoints" / "latest" / str(stopped)).is_dir()
        assert "Traceback" not in errors

        process = self.start(
            cache, tmp_path, *self.LONG, "--config.max_minutes=0.01", "--config.log_every_steps=1"
        )
        errors = self.finish(process)
        resumed = int(re.search(r"resuming .* at step (\d+)", errors).group(1))
        assert resumed >= 50
        lines = read_history(tmp_path)
        steps = [x["step"] for x in lines if x["kind"] == "train"]
        assert steps == sorted(set(steps))
        assert steps[-1] > resumed
        # An interval under way is in the checkpoint: no step is left out or counted twice.
        assert sum(x["steps"] for x in lines if x["kind"] == "train") == steps[-1]

    def test_errors_are_one_line_and_exit_code_1(self, cache, tmp_path):
        process = self.start(cache, tmp_path / "run", "--config.data.root=/no/such/folder")
        errors = self.finish(process, code=1)
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
    def test_wrong_flags_are_one_line(self, tmp_path, flag, message):
        command = [sys.executable, "-m", "vocalsep_jax.main", "--config=configs/smoke.py", flag]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
        assert result.returncode == 1
        assert message in result.stderr
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: ")

    def test_two_processes_train_as_one(self, finished, cache, tmp_path):
        """From an encoder that is frozen for the first epoch: all that happens on several processes."""
        transfer = (
            "--config.steps_per_dispatch=2",
            f"--config.init_encoder={finished}",
            "--config.freeze_encoder=weights",
            "--config.unfreeze_epoch=1",
        )
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        pair = [
            self.start(
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
            self.finish(process)
        self.finish(self.start(cache, tmp_path / "one", *transfer, devices=4))
        two, one = history(tmp_path / "two"), history(tmp_path / "one")
        assert [(x["kind"], x["step"]) for x in two] == [(x["kind"], x["step"]) for x in one]
        for a, b in zip(two, one, strict=True):
            for name in ("loss", "soft_dice", "grad_norm", "sdr"):
                if name in b:
                    assert a[name] == pytest.approx(b[name], rel=1e-3, abs=2e-3), name
        assert json.loads((tmp_path / "two" / "config.json").read_text())["config"]["name"] == "smoke"
