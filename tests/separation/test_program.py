"""The exported program's function, against `Separator`'s path."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from tests.separation.test_streaming import STFT, make, noise, of_its_surroundings, through
from vocalsep_jax.audio.stft import Stft
from vocalsep_jax.separation.program import separation


def program(predict=of_its_surroundings, stft=STFT, **options):
    defaults = {"patch_frames": 32, "batch_size": 4, "overlap": 0.5}
    return jax.jit(separation(predict, stft, **(defaults | options)))


def slow(*values):
    """Each is a program to compile."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


@pytest.mark.parametrize("samples", [1, 61, 62, 63, 651, 714, 1050, 3000])
@pytest.mark.parametrize("overlap", [0.3, *slow(0.0, 0.75)])
def test_it_computes_what_streaming_does(samples, overlap):
    x = noise(samples)
    stems = program(overlap=overlap)(x[None])
    assert stems["vocals"].shape == (1, samples, 2)
    expected = through(make(overlap=overlap), x)
    np.testing.assert_allclose(stems["vocals"][0], expected, atol=1e-6)
    np.testing.assert_allclose(stems["vocals"] + stems["no_vocals"], x[None], atol=1e-6)


@pytest.mark.parametrize("stft", [Stft(63, 20), *slow(Stft(62, 31), Stft(64, 16))])
def test_a_mask_of_ones_gives_the_waveform_back(stft):
    x = noise(2000)[None]
    np.testing.assert_allclose(program(jnp.ones_like, stft)(x)["vocals"], x, atol=2e-6)


@pytest.mark.parametrize("batch_size", [3, *slow(1, 16)])
def test_the_batch_size_does_not_change_the_result(batch_size):
    x = np.stack([noise(2000), noise(2000)[::-1]])
    ours = program(batch_size=batch_size)(x)["vocals"]
    np.testing.assert_allclose(ours, program()(x)["vocals"], atol=1e-6)
    np.testing.assert_allclose(ours[1], program()(x[1:])["vocals"][0], atol=1e-6)


@pytest.mark.slow
def test_one_program_for_all_shapes():
    shape = jax.ShapeDtypeStruct(export.symbolic_shape("b, s, c"), np.float32)
    exported = export.export(program(), platforms=("cpu", "cuda", "tpu"))(shape)
    again = export.deserialize(exported.serialize())
    for batch, samples, channels in ((1, 1, 1), (2, 500, 1), (1, 4000, 3)):
        x = np.stack([noise(samples, channels)] * batch)
        np.testing.assert_allclose(again.call(x)["vocals"], program()(x)["vocals"], atol=1e-6)


def test_silence_stays_silence():
    assert not np.asarray(program()(np.zeros((1, 3000, 2), np.float32))["vocals"]).any()
