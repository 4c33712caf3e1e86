import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import tone
from vocalsep_jax.audio.resampling import Resampler, fit_length, resample, resampling_lag


def test_resampling_keeps_a_tone():
    up = resample(tone(440, 1.0), 8000, 44_100)
    assert len(up) == 44_100
    assert up.dtype == np.float32
    np.testing.assert_allclose(up[5000:-5000], tone(440, 1.0, 44_100)[5000:-5000], atol=2e-3)
    same = tone(440, 0.1)
    assert resample(same, 8000, 8000) is same


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 3000), max_size=5), st.sampled_from([4000, 8000, 11_025]))
def test_a_waveform_that_comes_in_blocks_is_resampled_as_a_whole(blocks, new_rate):
    x = np.random.default_rng(0).uniform(-1, 1, (sum(blocks), 2)).astype(np.float32)
    resampler = Resampler(8000, new_rate, 2)
    parts = [resampler.push(part) for part in np.split(x, np.cumsum(blocks)[:-1])] if blocks else []
    y = np.concatenate([*parts, resampler.finish()])
    np.testing.assert_allclose(y, resample(x, 8000, new_rate), atol=1e-6)


@pytest.mark.parametrize(("rate", "new_rate"), [(44_100, 11_025), (8000, 44_100)])
def test_a_resampler_is_never_later_than_its_lag(rng, rate, new_rate):
    lag, resampler, came, went = resampling_lag(rate, new_rate), Resampler(rate, new_rate, 1), 0, 0
    assert 0 < lag < 1
    for count in rng.integers(1, 3000, 50):
        came += count
        went += len(resampler.push(np.zeros((count, 1), np.float32)))
        assert came / rate - went / new_rate <= lag + 1e-9


def test_without_resampling_nothing_is_late():
    assert resampling_lag(8000, 8000) == 0


def test_fit_length():
    x = np.ones((5, 2), np.float32)
    assert fit_length(x, 3).shape == (3, 2)
    np.testing.assert_array_equal(fit_length(x, 7), [[1, 1]] * 5 + [[0, 0]] * 2)
