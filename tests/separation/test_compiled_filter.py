import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import export

from tests.separation.test_streaming import STFT, noise, of_both_channels, of_its_surroundings, through
from vocalsep_jax.separation.compiled_filter import CompiledFilter, VoiceProgram
from vocalsep_jax.separation.streaming import MaskFilter, channel_groups

CPU = jax.devices("cpu")[0]
SIZES = {"patch_frames": 32, "batch_size": 4, "overlap": 0.5}


@functools.cache
def program(network, channels, together, copies, **options):
    groups = channel_groups(channels, together, copies)
    return VoiceProgram(
        STFT,
        lambda variables, x: variables * network(x),
        groups=groups,
        **(SIZES | options),
    )


def compiled(network=of_its_surroundings, channels=2, together=1, copies=1, **options):
    """The filter by one program, of a network that has one variable, and that is 1."""
    made = program(network, channels, together, copies, **options)
    return CompiledFilter(made, jax.device_put(np.float32(1), CPU), CPU)


def on_the_host(network=of_its_surroundings, channels=2, together=1, copies=1, **options):
    groups = channel_groups(channels, together, copies)
    return MaskFilter(STFT, network, channels=channels * copies, groups=groups, **(SIZES | options))


@pytest.mark.parametrize("samples", [0, 1, 61, 62, 672, 700, 5000, 9000])
@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.5, 0.75])
def test_it_is_the_filter_on_the_host(samples, overlap):
    x = noise(samples)
    ours = through(compiled(overlap=overlap), x, samples // 3)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, through(on_the_host(overlap=overlap), x), atol=2e-6)


@pytest.mark.parametrize(
    ("network", "channels", "together", "copies"),
    [
        (of_its_surroundings, 1, 1, 1),
        (of_its_surroundings, 2, 1, 2),
        (of_both_channels, 1, 2, 1),
        (of_both_channels, 2, 2, 1),
        (of_both_channels, 5, 2, 1),
        (of_both_channels, 3, 2, 2),
    ],
)
def test_so_it_is_with_channels_by_themselves_and_together(network, channels, together, copies):
    x = noise(7000, channels * copies)
    arguments = network, channels, together, copies
    np.testing.assert_allclose(
        through(compiled(*arguments), x, 3000), through(on_the_host(*arguments), x), atol=2e-6
    )


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 6000), st.lists(st.integers(0, 6000), max_size=6), st.sampled_from([2, 4, 9]))
def test_neither_blocks_nor_batches_change_the_result(samples, cuts, batch_size):
    x = noise(samples)
    ours = through(compiled(batch_size=batch_size), x, *cuts)
    assert ours.shape == x.shape
    np.testing.assert_allclose(ours, through(compiled(), x), atol=2e-6)


@pytest.mark.parametrize(("channels", "batch_size"), [(1, 1), (2, 4), (3, 16)])
def test_the_delay_is_bounded(channels, batch_size):
    stream, came, went = compiled(channels=channels, batch_size=batch_size), 0, 0
    for _ in range(300):
        came += 100
        went += len(stream.push(noise(100, channels)))
        assert 0 <= came - went <= stream.latency
        assert stream._waiting.shape[1] <= stream.latency
        assert len(stream._pending) <= 1
    assert went > 20_000


def test_calls_are_not_waited_for_at_once():
    """One is being computed while the waveform is read for the next."""
    stream, made = compiled(), program(of_its_surroundings, 2, 1, 1)
    assert not len(stream.push(noise(made.first_samples + made.samples)))
    assert len(stream.push(noise(made.samples))) == made.samples - STFT.n_fft


def test_one_program_serves_every_waveform_and_the_end_of_each():
    traced = []

    def network(x):
        traced.append(x.shape)
        return x

    for samples in (10, 3000, 20_000):
        through(compiled(network), noise(samples), 100)
    assert traced == [(4, 32, 32)]


def test_a_batch_is_never_larger_than_is_asked_for():
    with pytest.raises(ValueError, match="5 groups of channels do not fit a batch of 4"):
        program(of_its_surroundings, 5, 1, 1)


def test_masks_in_bfloat16_make_a_voice_in_float32():
    def rounded(x):
        return of_its_surroundings(x).astype(jax.numpy.bfloat16)

    x = noise(5000)
    ours = through(compiled(rounded), x)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, through(on_the_host(), x), atol=1e-2)


def test_silence_stays_silence():
    assert not through(compiled(), np.zeros((3000, 2), np.float32)).any()


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_accelerators_have_all_it_takes(platform):
    made = program(of_both_channels, 2, 2, 1)
    first, samples = (jax.ShapeDtypeStruct((2, n), np.float32) for n in (made.first_samples, made.samples))
    begin = export.export(made.begin, platforms=[platform])(first)
    variables, valid = (jax.ShapeDtypeStruct((), dtype) for dtype in (np.float32, np.int32))
    carry = jax.tree.unflatten(begin.out_tree, begin.out_avals)
    rest = export.export(made.proceed, platforms=[platform])(variables, carry, samples, valid)
    assert rest.out_avals == (*begin.out_avals, jax.core.ShapedArray(samples.shape, samples.dtype))
