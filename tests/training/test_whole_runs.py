"""Whole runs, of a small network: what they leave, and what does not change it."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from etils import epath

pytest.importorskip("tensorflow_datasets", reason="needs the train extra")

from tests import old_runs
from tests.conftest import ROOT, write_song
from tests.small_network import FIELDS, small_config
from vocalsep_jax.data import placement
from vocalsep_jax.data.pipeline import PatchPipeline
from vocalsep_jax.data.songs import find_library
from vocalsep_jax.data.tfds_songs import prepare
from vocalsep_jax.runs.checkpoints import (
    has_checkpoint,
    named_arrays,
    read_model,
    restore_model,
    save_model,
)
from vocalsep_jax.runs.folder import checkpoint_folder, config_path
from vocalsep_jax.runs.history import read_history
from vocalsep_jax.runs.record import read_record
from vocalsep_jax.separation.separator import Separator
from vocalsep_jax.training import clock, loop, monitoring
from vocalsep_jax.training.interruption import Interruption
from vocalsep_jax.training.loop import Outcome, TrainingDivergedError, start_training, train_and_evaluate
from vocalsep_jax.training.plan import Plan
from vocalsep_jax.training.transfer import encoder_part

pytestmark = pytest.mark.usefixtures("_small_network")

TIMING = {"patches_per_second", "data_wait_fraction", "seconds"}
PLACES = [("host", "host"), ("host", "device"), ("resident", "host")]


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    """Two songs to train on and one to validate on, of noise that comes and goes."""
    root = tmp_path_factory.mktemp("songs")
    rng = np.random.default_rng(0)
    for n, name in enumerate(("train/A", "train/B", "valid/V")):
        samples = 8000 * (3 + n)
        level = np.repeat(rng.uniform(0, 0.6, (samples // 800, 2, 1)), 800, axis=0)
        voice, other = level.transpose(1, 0, 2) * rng.uniform(-1, 1, (2, samples, 2))
        voice = np.cumsum(voice, axis=0) / 20  # low, where the other is not
        write_song(root / name, {"vocals": voice - voice.mean(axis=0), "accompaniment": other})
    return root


@pytest.fixture(scope="module")
def config(songs, tmp_path_factory, _small_network):
    """The small config with changes, on these songs."""
    cache = tmp_path_factory.mktemp("cache")
    return lambda **changes: small_config(data__root=str(songs), data__cache=str(cache), **changes)


class StopAt(Interruption):
    """A signal that comes once so many steps are taken."""

    def __init__(self, training, step):
        super().__init__()
        self._training, self._step = training, step

    def stops_here(self):
        if self._training.step >= self._step:
            self.signal = signal.SIGTERM
        return super().stops_here()


def train(config, run, until):
    """Train until a step, as if a signal came then."""
    run.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        training = start_training(Plan.of(config), run, stack)
        assert training.take_steps(StopAt(training, until), time.monotonic()).step == until


def history(run):
    """The history without what depends on the clock."""
    return [{k: v for k, v in line.items() if k not in TIMING} for line in read_history(run)]


def raw_state(run):
    """Everything in the latest checkpoint, as arrays by name."""
    import orbax.checkpoint as ocp

    steps = (checkpoint_folder(run) / "latest").glob("[0-9]*")
    folder = max(steps, key=lambda path: int(path.name))
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
        trees = [reader.restore(folder / item) for item in ("model", "training")]
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree.leaves_with_path(trees)}


def assert_same(run, expected):
    """Bit for bit."""
    assert history(run) == history(expected)
    ours, theirs = raw_state(run), raw_state(expected)
    assert ours.keys() == theirs.keys()
    for name, x in theirs.items():
        np.testing.assert_array_equal(ours[name], x, err_msg=name)


def assert_close(run, expected, tolerance=1e-5):
    """But for rounding."""
    for a, b in zip(history(run), history(expected), strict=True):
        assert (a["kind"], a["step"], a.get("steps")) == (b["kind"], b["step"], b.get("steps"))
        for name in {"loss", "soft_dice", "sdr"} & b.keys():
            assert a[name] == pytest.approx(b[name], rel=tolerance, abs=tolerance), name


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    """A finished run."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    assert train_and_evaluate(config(), run) == Outcome(8)
    return run


@pytest.fixture(autouse=True)
def _no_figures(request, monkeypatch):
    """They take most of a run's time; `finished` has them."""
    monkeypatch.setattr(monitoring, "FIGURES", {})


def test_a_run_leaves_what_is_promised(finished):
    assert {p.name for p in finished.iterdir()} == {
        "config.json",
        "history.jsonl",
        "checkpoints",
        "figures",
        "tensorboard",
        ".lock",
    }
    assert {p.name for p in (finished / "figures").iterdir()} == {"curves.png", "prediction.png"}
    assert all(p.stat().st_size > 10_000 for p in (finished / "figures").iterdir())
    (events,) = (finished / "tensorboard").glob("events*")
    assert all(
        name in events.read_bytes() for name in (b"train/loss", b"valid/sdr", b"prediction", b"desired")
    )
    record = read_record(finished)
    assert record.songs == {"train": [("A", 24_000), ("B", 32_000)], "valid": [("V", 40_000)]}
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


def test_validation_is_of_all_patches_and_the_whole_song_with_the_saved_model(finished, songs, config):
    """12 patches in batches of 8: the short last batch neither dropped nor counted twice."""
    settings = config()
    store = prepare(find_library(songs), 8000, settings.data.cache)["valid"]
    patches = list(PatchPipeline(store, settings.stft, 32, 1, settings.data).validation(12))
    model = settings.network()
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

    stems = find_library(songs).splits["valid"][0].load(8000)
    vocals = Separator(finished).separate(stems.mixture, 8000)["vocals"]
    error = np.sum((stems.vocals - vocals) ** 2, dtype=np.float64)
    sdr = 10 * np.log10(np.sum(stems.vocals**2, dtype=np.float64) / error)
    assert line["sdr"] == pytest.approx(sdr, abs=1e-3)


@pytest.fixture(scope="module")
def stopped(config, tmp_path_factory):
    """A run that was stopped in the middle of a logging interval."""
    run = tmp_path_factory.mktemp("runs") / "stopped"
    train(config(), run, until=3)
    return run


@pytest.mark.slow
def test_stopping_and_resuming_changes_nothing(stopped, finished, config, tmp_path):
    run = shutil.copytree(stopped, tmp_path / "run")
    for step in (4, 5):  # at an epoch's end, and after a step
        train(config(), run, until=step)
    assert train_and_evaluate(config(), run) == Outcome(8)
    assert_same(run, finished)
    assert train_and_evaluate(config(), run) == Outcome(8)  # finished: nothing more to do
    assert_same(run, finished)


@pytest.mark.parametrize("format", [3, 4])
def test_a_run_of_an_earlier_format_goes_on_bit_for_bit(stopped, finished, config, tmp_path, format):
    """Such as earlier versions left it: without what is new, the third with `data.repair`."""
    run = shutil.copytree(stopped, tmp_path / "run")
    content = json.loads(config_path(run).read_text())
    old_runs.make_older(content, format)
    config_path(run).write_text(json.dumps(content))
    assert train_and_evaluate(config(), run) == Outcome(8)
    assert_same(run, finished)
    assert read_record(run).format == format


@pytest.mark.slow
@pytest.mark.parametrize(("placement", "stft_on"), PLACES[:2])
def test_wherever_the_songs_are_the_run_is_the_same(finished, config, tmp_path, placement, stft_on):
    settings = config(data__placement=placement, data__stft_on=stft_on)
    train(settings, tmp_path, until=3)
    train_and_evaluate(settings, tmp_path)
    assert_close(tmp_path, finished)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 3])
def test_spread_over_the_devices_the_run_is_the_same(finished, config, tmp_path, monkeypatch, steps):
    """Songs of which a device holds a half go the way of those that it holds whole, bit for bit."""
    monkeypatch.setattr(placement, "fits", lambda samples, longest, crop, parts, **_: parts == 2)
    settings = config(data__placement="resident", steps_per_dispatch=steps)
    train_and_evaluate(settings, tmp_path)
    (assert_same if steps == 1 else assert_close)(tmp_path, finished)


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["pmap", "shard_map"])
def test_several_steps_a_dispatch(finished, config, tmp_path, parallel):
    """Three where two are due: no log line is missed. Stopped in between, it goes on bit for bit."""
    settings = config(steps_per_dispatch=3, parallel=parallel)
    assert train_and_evaluate(settings, tmp_path / "whole") == Outcome(8)
    for step in (1, 2, 3):  # the first step of a call comes alone
        train(settings, tmp_path / "cut", until=step)
    assert train_and_evaluate(settings, tmp_path / "cut") == Outcome(8)
    assert_same(tmp_path / "cut", tmp_path / "whole")
    assert_close(tmp_path / "whole", finished)
    rates = [x["patches_per_second"] for x in read_history(tmp_path / "whole") if x["kind"] == "train"]
    assert min(rates) > 0


@pytest.mark.slow
@pytest.mark.parametrize(("placement", "stft_on"), PLACES)
def test_nothing_is_fetched_but_what_is_due(config, tmp_path, monkeypatch, placement, stft_on):
    """Between log lines no value comes back from the devices: not as an array, not as a number."""
    from jax._src.array import ArrayImpl

    steps, fetches = [0], []
    waiting, value = clock.Clock.waiting, ArrayImpl._value

    def counting(watch, work):
        for item in waiting(watch, work):
            steps.append(steps[-1] + item.steps)
            yield item

    def noted(fetch):
        return lambda x: (fetches.append(steps[-1]), fetch(x))[1]

    monkeypatch.setattr(clock.Clock, "waiting", counting)
    monkeypatch.setattr(ArrayImpl, "_value", property(noted(value.fget)))  # float(), int(), bool(), print()
    monkeypatch.setattr(loop, "to_host", noted(loop.to_host))
    monkeypatch.setattr(jax, "device_get", noted(jax.device_get))
    settings = config(
        data__placement=placement, data__stft_on=stft_on, patches_per_epoch=80, epochs=1, log_every_steps=4
    )
    assert train_and_evaluate(settings, tmp_path).step == 10
    assert fetches.count(4) == fetches.count(8) == 1  # the totals
    assert set(fetches) == {0, 4, 8, 10}


def test_a_run_in_a_bucket_is_the_same(finished, config, tmp_path, monkeypatch, caplog):
    """A local folder, used by the methods that buckets have alone, stands for one."""
    monkeypatch.setattr(loop, "place", epath.Path)
    run = epath.Path(tmp_path) / "run"
    train(config(), run, 3)
    train_and_evaluate(config(), run)
    assert history(tmp_path / "run") == history(finished)
    mine, other = (named_arrays(read_model(x)[0]) for x in (run, finished))
    jax.tree.map(np.testing.assert_array_equal, mine, other)
    assert f"{run}/.lock: a bucket has no locks" in caplog.text


def test_training_that_diverges_stops_and_names_the_step(finished, config, tmp_path):
    """From weights as large as numbers get; nothing is saved."""
    (tmp_path / "start").mkdir()
    broken = jax.tree.map(lambda x: np.full_like(x, 3e38), read_model(finished)[0])
    save_model(tmp_path / "start", broken)
    with pytest.raises(TrainingDivergedError, match=r"not finite at step 1\b.*learning_rate"):
        train_and_evaluate(config(init_from=str(tmp_path / "start")), tmp_path / "run")
    assert not has_checkpoint(tmp_path / "run")


@pytest.mark.slow
class TestTransfer:
    """Runs that start from what was trained before, frozen or not."""

    @pytest.fixture(scope="class")
    def encoder(self, finished, tmp_path_factory):
        """The encoder of a finished run, as the converter would leave it."""
        folder = tmp_path_factory.mktemp("encoder")
        save_model(folder, encoder_part(read_model(finished)[0]))
        return str(folder)

    def latest(self, run):
        return named_arrays(read_model(checkpoint_folder(run) / "latest")[0])

    def test_a_warm_start_takes_weights_and_statistics_only(self, finished, config, tmp_path, caplog):
        caplog.set_level("INFO")
        settings = config(init_from=str(finished), optimizer={"learning_rate": 0.0, "weight_decay": 0.0})
        train(settings, tmp_path, until=1)
        assert f"weights: from {finished}, step" in caplog.text
        source, target = named_arrays(read_model(finished)[0]), self.latest(tmp_path)
        for name, x in source.items():
            assert np.array_equal(x, target[name]) == name.startswith("params"), name

    @pytest.mark.parametrize("freeze", ["none", "weights", "weights_and_statistics"])
    def test_what_is_frozen_stays_bit_for_bit(self, encoder, config, tmp_path, freeze, caplog):
        caplog.set_level("INFO")
        settings = config(init_encoder=encoder, freeze_encoder=freeze, epochs=1)
        assert train_and_evaluate(settings, tmp_path).step == 4
        assert f"encoder: from {encoder}" in caplog.text
        assert ("encoder: frozen" in caplog.text) == (freeze != "none")
        after = self.latest(tmp_path)
        for name, x in named_arrays(read_model(Path(encoder))[0]).items():
            kept = freeze == "weights_and_statistics" or (freeze == "weights" and "params" in name)
            assert np.array_equal(x, after[name]) == kept, name

    def test_set_free_in_the_middle_and_interrupted_it_ends_the_same(
        self, encoder, config, tmp_path, caplog
    ):
        caplog.set_level("INFO")
        changes = {"init_encoder": encoder, "freeze_encoder": "weights_and_statistics", "unfreeze_epoch": 1}
        train_and_evaluate(config(**changes), tmp_path / "whole")
        assert caplog.text.count("encoder: trained from step 4 on") == 1

        run, start = tmp_path / "stopped", named_arrays(read_model(Path(encoder))[0])
        arrays = []
        for step in range(2, 7):  # stopped before, at and after the change
            train(config(**changes), run, until=step)
            after = self.latest(run)
            same = [np.array_equal(x, after[name]) for name, x in start.items()]
            assert all(same) if step <= 4 else not any(same)
            arrays.append(len(raw_state(run)))
        # The optimiser has nothing of the encoder until it is set free: then two averages for each array,
        # and a counter each for updates and for the learning rate.
        encoders = sum(name.startswith("params") for name in start)
        assert arrays == [arrays[0]] * 3 + [arrays[0] + 2 * encoders + 2] * 2
        train_and_evaluate(config(**changes), run)
        assert_same(run, tmp_path / "whole")

        several = config(**changes, steps_per_dispatch=4)  # none goes beyond the change
        train_and_evaluate(several, tmp_path / "several")
        assert_close(tmp_path / "several", tmp_path / "whole")

    def test_a_frozen_encoder_that_is_random_is_warned_of(self, config, tmp_path, caplog):
        train(config(freeze_encoder="weights"), tmp_path, until=1)
        assert "FROZEN AS IT IS" in caplog.text


@pytest.mark.slow
def test_what_is_added_to_the_registries_turns_up_in_a_run(songs, tmp_path):
    """A network, a metric and a figure, each an entry; in a process that has them from its start."""
    fields = FIELDS | {
        "data": {"root": str(songs), "cache": str(tmp_path)},
        "epochs": 1,
        "model": {"network": "new"},
    }
    code = f"""
from vocalsep_jax.measures.metrics import PATCH_METRICS, PatchMetric
PATCH_METRICS["level"] = PatchMetric(lambda mask, vocals, other: mask.mean(axis=(1, 2)), "Mean of the mask")
from vocalsep_jax.training import figures
figures.FIGURES["mask"] = lambda snapshot: figures.prediction(snapshot)
from tests.small_network import TwoLayers
from vocalsep_jax.models.networks import NETWORKS
NETWORKS["new"] = TwoLayers
from vocalsep_jax import train_and_evaluate
train_and_evaluate({fields!r}, {str(tmp_path / "run")!r})
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    names = {p.name for p in (tmp_path / "run" / "figures").iterdir()}
    assert names == {"curves.png", "prediction.png", "mask.png"}
    lines = read_history(tmp_path / "run")
    assert {line["kind"] for line in lines} == {"train", "valid"}
    assert all(0 < line["level"] < 1 for line in lines)
    assert "train_level" in lines[-1]
