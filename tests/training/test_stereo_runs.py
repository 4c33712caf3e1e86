"""Whole runs in stereo, of a U-Net, with all that a sample, a scale and a target can be."""

import numpy as np
import pytest

pytest.importorskip("tensorflow_datasets", reason="needs the train extra")

from tests.conftest import tone, write_song
from tests.small_network import small_config
from tests.training.test_whole_runs import assert_close, assert_same, train
from vocalsep_jax.runs.history import read_history
from vocalsep_jax.runs.record import read_record
from vocalsep_jax.separation.separator import Separator
from vocalsep_jax.training import monitoring
from vocalsep_jax.training.loop import Outcome, train_and_evaluate

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    """Two songs to train on, one to validate on, and music without a voice: noise that comes and goes."""
    root = tmp_path_factory.mktemp("songs")
    rng = np.random.default_rng(0)
    for n, name in enumerate(("train/A", "train/B", "valid/V", "train/N")):
        samples = 8000 * (2 + n)
        level = np.repeat(rng.uniform(0, 0.6, (samples // 800, 2, 1)), 800, axis=0)
        voice, other = level.transpose(1, 0, 2) * rng.uniform(-1, 1, (2, samples, 2))
        voice = np.repeat(np.cumsum(voice[:, :1], axis=0), 2, axis=1) / 20  # low, and in the middle
        stems = {"vocals": voice - voice.mean(axis=0), "accompaniment": other}
        write_song(root / name, {"accompaniment": other} if name.endswith("N") else stems)
    return root


@pytest.fixture(scope="module")
def config(songs, tmp_path_factory):
    """Everything at once, in two epochs of four steps."""
    cache = tmp_path_factory.mktemp("cache")
    return lambda **changes: small_config(
        data={
            "root": str(songs),
            "cache": str(cache),
            "speeds": [1.1],
            "channels": "stereo",
            "voiced_share": 0.5,
            "gain_db": 3.0,
            "level_db": 3.0,
            "swap_channels": 0.5,
            "invert": 0.5,
            "balance_db": 3.0,
            "width": 2.0,
            "voice_absent": 0.1,
            "accompaniment_absent": 0.1,
            "equalizer_db": 3.0,
            "remix": 0.5,
            **{name.removeprefix("data__"): x for name, x in changes.items() if name.startswith("data__")},
        },
        model={"width": 2, "depth": 4, "mixing": 4},
        input_transform="log1p",
        input_norm=True,
        frequency_scale="zoned",
        frequency_bins=16,
        target="in_phase",
        loss="l1",
        valid={"patches": 12, "best_by": "sdr"},
        **{name: x for name, x in changes.items() if not name.startswith("data__")},
    )


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(monitoring, "FIGURES", {"prediction": monitoring.FIGURES["prediction"]})
        assert train_and_evaluate(config(), run) == Outcome(8)
    return run


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    monkeypatch.setattr(monitoring, "FIGURES", {})


def test_it_leaves_what_a_run_leaves(finished, config):
    record = read_record(finished)
    assert record.config == config()
    assert [name for name, _ in record.songs["train"]] == [
        "A", "B", "N", "A (speed 1.1)", "B (speed 1.1)", "N (speed 1.1)",
    ]  # fmt: skip
    assert record.songs["train"][3][1] == round(16_000 / 1.1)
    assert [name for name, _ in record.songs["valid"]] == ["V"]
    lines = read_history(finished)
    assert [(x["kind"], x["step"]) for x in lines] == [
        ("train", 2), ("train", 4), ("valid", 4), ("train", 6), ("train", 8), ("valid", 8),
    ]  # fmt: skip
    for line in lines:
        assert all(np.isfinite(line[name]) for name in ("loss", "dice", "soft_dice"))
    assert (finished / "figures" / "prediction.png").stat().st_size > 5000


def test_the_best_is_that_of_the_highest_sdr(finished):
    scores = {x["step"]: x["sdr"] for x in read_history(finished) if x["kind"] == "valid"}
    assert Separator(finished).step == max(scores, key=scores.get)


def test_stopped_and_resumed_it_is_the_same_bit_for_bit(finished, config, tmp_path):
    for step in (3, 4):
        train(config(), tmp_path, until=step)
    assert train_and_evaluate(config(), tmp_path) == Outcome(8)
    assert_same(tmp_path, finished)


@pytest.mark.parametrize(("placement", "stft_on"), [("host", "host"), ("host", "device")])
def test_wherever_the_songs_are_the_run_is_the_same(finished, config, tmp_path, placement, stft_on):
    settings = config(data__placement=placement, data__stft_on=stft_on)
    assert train_and_evaluate(settings, tmp_path) == Outcome(8)
    assert_close(tmp_path, finished, tolerance=1e-2)


def test_it_separates_any_number_of_channels(finished):
    separator = Separator(finished)
    assert separator.model.channels == 2
    song = np.concatenate([tone(300, 1.5), tone(500, 1.5, level=0.1), tone(900, 1.5)], axis=1)[:, :3]
    song[:, 1] += np.random.default_rng(0).normal(0, 0.05, len(song)).astype(np.float32)
    found = {}
    for name, x in (("three", song), ("stereo", song[:, :2]), ("mono", song[:, 2:]), ("flat", song[:, 2])):
        stems = separator.separate(x, 8000)
        assert stems["vocals"].shape == x.shape
        np.testing.assert_allclose(stems["vocals"] + stems["no_vocals"], x, atol=1e-6)
        assert 0 < np.abs(stems["vocals"]).max() < 1
        found[name] = stems["vocals"]
    np.testing.assert_allclose(found["three"][:, :2], found["stereo"], atol=1e-5)
    np.testing.assert_allclose(found["three"][:, 2:], found["mono"], atol=1e-5)
    np.testing.assert_allclose(found["mono"][:, 0], found["flat"], atol=1e-6)
