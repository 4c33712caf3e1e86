"""The exported program's function, against `Separator`'s path."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from tests.separation.test_streaming import (
    STFT,
    make,
    noise,
    of_both_channels,
    of_its_surroundings,
    through,
)
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


class TestChannelsTogether:
    """A network that sees two channels at once."""

    @pytest.mark.parametrize("samples", [1, 62, 651, 3000])
    def test_it_computes_what_streaming_does(self, samples):
        x = noise(samples)
        stems = program(of_both_channels, together=2)(x[None])
        expected = through(make(of_both_channels, groups=[(0, 1)]), x)
        assert stems["vocals"].shape == (1, samples, 2)
        np.testing.assert_allclose(stems["vocals"][0], expected, atol=1e-6)
        np.testing.assert_allclose(stems["vocals"] + stems["no_vocals"], x[None], atol=1e-6)

    def test_a_network_that_treats_channels_alone_is_one_of_a_channel(self):
        x = noise(2000)[None]
        ours, expected = program(together=2)(x)["vocals"], program()(x)["vocals"]
        np.testing.assert_allclose(ours, expected, atol=1e-6)

    @pytest.mark.parametrize("batch_size", [3, *slow(1, 16)])
    def test_waveforms_of_a_batch_are_separated_alone(self, batch_size):
        x = np.stack([noise(2000), noise(2000)[::-1]])
        both = program(of_both_channels, together=2, batch_size=batch_size)(x)["vocals"]
        for ours, one in zip(both, x, strict=True):
            expected = through(make(of_both_channels, groups=[(0, 1)]), one)
            np.testing.assert_allclose(ours, expected, atol=1e-6)

    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_other_channels_are_refused(self, channels):
        with pytest.raises(ValueError, match=f"separates 2 channels, the waveform has {channels}"):
            program(of_both_channels, together=2)(noise(500, channels)[None])

    @pytest.mark.slow
    def test_one_program_for_all_lengths(self):
        shape = jax.ShapeDtypeStruct((*export.symbolic_shape("b, s"), 2), np.float32)
        made = program(of_both_channels, together=2)
        again = export.deserialize(export.export(made)(shape).serialize())
        for batch, samples in ((1, 1), (2, 500), (1, 4000)):
            x = np.stack([noise(samples)] * batch)
            np.testing.assert_allclose(again.call(x)["vocals"], made(x)["vocals"], atol=1e-6)
