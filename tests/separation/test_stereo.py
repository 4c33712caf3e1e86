"""Models that see left and right together: `Separator`, and what is exported, of other channels, too."""

import json

import jax
import numpy as np
import pytest
from jax import export

from tests.small_network import small_config, small_network
from vocalsep_jax.runs.checkpoints import Checkpoints
from vocalsep_jax.runs.record import RunRecord, write_record
from vocalsep_jax.separation.export import PROGRAM, export_model
from vocalsep_jax.separation.separator import Separator
from vocalsep_jax.separation.stem_files import STEMS


@pytest.fixture(scope="module", autouse=True)
def _small_network():
    with small_network():
        yield


def make(folder, **changes):
    """A run with random weights, whose two masks are not alike."""
    folder.mkdir()
    config = small_config(**changes)
    write_record(folder, RunRecord(config, {}))
    variables = config.network().init(jax.random.key(2), np.zeros((1, *config.network_input), np.float32))
    variables["params"]["up2"]["bias"] = jax.numpy.array([0.5, -0.5])
    with Checkpoints(folder) as checkpoints:
        checkpoints.save("best", 3, variables, {"step": np.int32(3)}, {})
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make(tmp_path_factory.mktemp("runs") / "stereo", data__channels="stereo")


@pytest.fixture(scope="module")
def separator(run):
    return Separator(run)


def noise(samples, channels):
    return np.random.default_rng(samples).uniform(-1, 1, (samples, channels)).astype(np.float32)


def vocals(separator, x, rate=8000):
    stems = separator.separate(x, rate)
    np.testing.assert_allclose(stems["vocals"] + stems["no_vocals"], x, atol=1e-6)
    assert stems["vocals"].shape == x.shape
    return stems["vocals"]


def test_left_and_right_are_seen_together(separator):
    x = noise(5000, 2)
    both = vocals(separator, x)
    other = x.copy()
    other[:, 1] = x[::-1, 1]
    assert np.abs(vocals(separator, other)[:, 0] - both[:, 0]).max() > 1e-3


@pytest.mark.parametrize("rate", [8000, 11_025])
def test_mono_is_stereo_whose_sides_are_the_same(separator, rate):
    x = noise(5000, 1)
    both = vocals(separator, np.repeat(x, 2, axis=1), rate)
    assert np.abs(both[:, 0] - both[:, 1]).max() > 1e-3
    for mono in (x, x[:, 0]):
        ours = vocals(separator, mono, rate).reshape(-1)
        np.testing.assert_allclose(ours, both.mean(axis=1), atol=1e-6)


def test_three_channels_are_two_and_one(separator):
    x = noise(5000, 3)
    ours = vocals(separator, x)
    np.testing.assert_allclose(ours[:, :2], vocals(separator, x[:, :2]), atol=1e-6)
    np.testing.assert_allclose(ours[:, 2:], vocals(separator, x[:, 2:]), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_shifts_are_averaged(run, separator, channels):
    """Of the song with silence before it, by a half of the step from patch to patch."""
    x = noise(5000, channels)
    step = 24 * 21  # of a patch of 32 frames, of which a quarter overlaps the next
    later = vocals(separator, np.pad(x, ((step // 2, 0), (0, 0))))[step // 2 :]
    expected = (vocals(separator, np.pad(x, ((0, step // 2), (0, 0))))[:5000] + later) / 2
    np.testing.assert_allclose(vocals(Separator(run, shifts=2), x), expected, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_however_it_comes_it_is_the_same(run, separator, channels):
    x = noise(9000, channels)
    blocks = np.split(x, [1, 700, 5000])
    small = Separator(run, batch_size=3)
    ours = np.concatenate([stems["vocals"] for stems in small.stream(blocks, 8000)])
    np.testing.assert_allclose(ours, vocals(separator, x), atol=1e-6)
    assert small.latency(8000, channels) > 0


@pytest.mark.slow
def test_the_program_separates_stereo_as_the_separator_does(run, separator, tmp_path):
    facts = export_model(run, tmp_path / "model", batch_size=2)
    assert facts["channels"] == json.loads((tmp_path / "model" / "model.json").read_text())["channels"] == 2
    assert 0 <= facts["program"]["largest_difference"] < 1e-5
    program = export.deserialize(bytearray((tmp_path / "model" / PROGRAM).read_bytes()))
    for samples in (1, 700, 9000):
        x = noise(samples, 2)
        expected, stems = separator.separate(x, 8000), program.call(x[None])
        for name in STEMS:
            np.testing.assert_allclose(stems[name][0], expected[name], atol=1e-5)
    again = Separator(tmp_path / "model")
    x = noise(4000, 3)
    np.testing.assert_allclose(vocals(again, x), vocals(separator, x), atol=1e-6)
