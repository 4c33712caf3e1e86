import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocalsep_jax.data.check.alignment import Aligner


def align(x, reference, block=4096):
    aligner = Aligner(block)
    for start in range(0, len(x), block):
        aligner.push(x[start : start + block], reference[start : start + block])
    return aligner.finish()


@settings(deadline=None, max_examples=40)
@given(st.integers(-1000, 1000), st.floats(0.1, 3.0), st.booleans())
def test_a_delay_and_a_gain_are_found(delay, gain, upside_down):
    noise = np.random.default_rng(0).standard_normal(30_000).astype(np.float32)
    factor = -gain if upside_down else gain
    found = align(factor * noise[5000 - delay : 25_000 - delay], noise[5000:25_000])
    assert found.delay == delay
    assert found.gain == pytest.approx(factor, rel=1e-3)
    assert found.correlation == pytest.approx(-1 if upside_down else 1, abs=1e-4)


def test_the_correlation_without_a_delay(rng):
    noise = rng.standard_normal(20_000).astype(np.float32)
    found = align(np.roll(noise, 300), noise)
    assert found.delay == 300
    assert abs(found.correlation_as_it_is) < 0.1


@pytest.mark.parametrize("length", [100, 8192])
def test_too_little_or_silence_has_no_alignment(length):
    assert align(np.zeros(length, np.float32), np.ones(length, np.float32)) is None
    assert align(np.ones(length, np.float32), np.zeros(length, np.float32)) is None
