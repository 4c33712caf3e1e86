import json
import math

import numpy as np
import pytest
import scipy.signal
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.conftest import tone
from vocalsep_jax.data.check.meters import CLIPPED_RUN, FULL_SCALE, Meter, Runs, decibels


def measure(x, rate=8000, cuts=()):
    meter = Meter(rate, x.shape[1])
    for block in np.split(x, sorted(cuts)):
        meter.push(block)
    return meter.finish()


def test_a_sine():
    levels = measure(tone(1000, 2.0, level=0.5))
    assert (levels.seconds, levels.rate, levels.channels) == (2.0, 8000, 2)
    assert levels.peak_db == pytest.approx(-6.02, abs=0.01)
    assert levels.rms_db == levels.loudness_db == pytest.approx(-9.03, abs=0.01)
    assert levels.side_to_mid_db is None
    assert 1000 <= levels.band_edge_hz <= 1250
    assert levels.clipped_share == levels.clipped_runs == levels.longest_run == 0
    assert levels.dc_offset == pytest.approx(0, abs=1e-6)


def test_silence_has_no_level():
    levels = measure(np.zeros((8000, 1), np.float32))
    assert levels.peak_db is levels.rms_db is levels.loudness_db is levels.band_edge_hz is None
    assert not levels.cut_off


def test_samples_whose_squares_overflow_have_levels_that_json_has():
    levels = measure(np.full((8000, 2), 1e24, np.float32))
    assert (levels.band_edge_hz, levels.cut_off) == (None, False)
    assert levels.peak_db == levels.rms_db == levels.loudness_db == 300
    json.dumps(vars(levels), allow_nan=False)


def test_the_loudness_leaves_rests_out():
    x = tone(500, 4.0, level=0.5)
    x[8000:24000] = 0
    levels = measure(x)
    assert levels.loudness_db == pytest.approx(-9.03, abs=0.01)
    assert levels.rms_db == pytest.approx(-9.03 - 3.01, abs=0.01)


def test_the_width_is_side_to_mid():
    left, right = tone(440, 1.0)[:, :1], tone(440, 1.0)[:, :1] * 0.5
    assert measure(np.hstack([left, right])).side_to_mid_db == pytest.approx(
        20 * math.log10(0.5 / 1.5), abs=0.01
    )


def test_an_offset_is_that_of_the_worse_channel():
    x = tone(440, 1.0)
    x[:, 1] -= 0.05
    assert measure(x).dc_offset == pytest.approx(-0.05, abs=1e-4)


@pytest.mark.parametrize("edge", [5000, 8000, 11_000, 16_000])
def test_the_edge_of_a_low_pass_filter_is_found(rng, edge):
    rate = 44_100
    noise = rng.standard_normal((3 * rate, 2)) * 0.1
    low = scipy.signal.sosfiltfilt(
        scipy.signal.ellip(12, 0.1, 90, edge, fs=rate, output="sos"), noise, axis=0
    )
    levels = measure(low.astype(np.float32), rate)
    assert levels.band_edge_hz == pytest.approx(edge, abs=600)
    assert levels.cut_off


def test_noise_that_gets_softer_by_itself_is_not_cut_off(rng):
    noise = rng.standard_normal((88_200, 2)).astype(np.float32) * 0.1
    assert not measure(noise, 44_100).cut_off
    assert measure(noise, 44_100).band_edge_hz == pytest.approx(22_050)
    red = scipy.signal.lfilter([1], [1, -0.9], noise, axis=0).astype(np.float32) * 0.1
    assert not measure(red, 44_100).cut_off


def runs_of(flags):
    """A slow reference: lengths of runs of true values."""
    lengths, run = [], 0
    for flag in [*flags, False]:
        if not flag and run:
            lengths.append(run)
        run = run + 1 if flag else 0
    return lengths


@settings(deadline=None)
@given(
    hnp.arrays(bool, st.tuples(st.integers(1, 60), st.integers(1, 2))),
    st.sets(st.integers(1, 59), max_size=5),
)
def test_runs_are_counted_across_blocks(flags, cuts):
    runs = Runs(flags.shape[1])
    for block in np.split(flags, sorted(c for c in cuts if c < len(flags))):
        if block.any():
            runs.push(block)
        else:
            runs.push_nothing()
    lengths = [length for column in flags.T for length in runs_of(column)]
    assert runs.finish() == (sum(n >= CLIPPED_RUN for n in lengths), max(lengths, default=0))


def test_clipped_samples_are_counted():
    x = np.clip(tone(100, 1.0, level=1.5), -1, 1)
    levels = measure(x)
    assert levels.clipped_share == pytest.approx((np.abs(x) >= FULL_SCALE).mean())
    assert levels.clipped_runs == 2 * 200  # two a period and channel
    assert levels.longest_run >= 10


@settings(deadline=None, max_examples=30)
@given(st.sets(st.integers(1, 11_999), max_size=6), st.integers(0, 100))
@example({912, 9974}, 88)
def test_measures_do_not_depend_on_the_blocks(cuts, seed):
    x = np.random.default_rng(seed).standard_normal((12_000, 2)).astype(np.float32) * 0.5
    whole, parts = measure(x), measure(x, cuts=cuts)
    for name, value in vars(whole).items():
        near = 1e-4 if name.endswith("_db") else 1e-6  # a ratio near 0 dB has no relative error
        assert getattr(parts, name) == pytest.approx(value, rel=1e-4, abs=near), name


def test_decibels_are_numbers_that_json_has():
    assert decibels(0.0) is None
    assert decibels(math.inf) == 300
    assert decibels(0.01) == pytest.approx(-20)
