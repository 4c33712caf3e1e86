import itertools

import numpy as np
import pytest
import scipy.stats

from vocalsep_jax.evaluation.bootstrap import median_interval, paired_interval


def test_it_is_scipy_s_percentile_interval(rng):
    values = rng.normal(5, 2, 40)
    ours = median_interval(values.tolist())
    theirs = scipy.stats.bootstrap(
        (values,), np.median, n_resamples=10_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert ours.median == np.median(values)
    assert ours.songs == 40
    assert ours.low == pytest.approx(theirs.low, abs=0.1)
    assert ours.high == pytest.approx(theirs.high, abs=0.1)


def test_of_seven_songs_it_is_that_of_all_draws_there_are(rng):
    values = np.sort(rng.normal(size=7))
    medians = np.median(values[np.array(list(itertools.product(range(7), repeat=7)))], axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    found = median_interval(values.tolist())
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.is_sure


def test_the_interval_holds_the_true_median_about_as_often_as_it_says(rng):
    samples = rng.normal(size=(300, 25))
    found = [median_interval(x.tolist(), draws=500) for x in samples]
    assert 0.9 < np.mean([f.low <= 0 <= f.high for f in found]) <= 1


def test_the_same_values_have_the_same_interval():
    values = [1.0, 4.0, 2.0, 8.0, 5.0, 7.0, 3.0]
    assert median_interval(values) == median_interval(values)


def test_few_songs_have_their_least_and_greatest_value():
    found = median_interval([3.0, 1.0, None, 2.0])
    assert found == (2.0, 1.0, 3.0, 3)
    assert not found.is_sure
    assert median_interval([None, None]) is None


def test_pairs_tell_what_intervals_side_by_side_do_not(rng):
    """Songs differ by 10 dB, the methods by 0.5 dB in each of them."""
    first = rng.normal(0, 10, 20)
    second = first + 0.5 + rng.normal(0, 0.1, 20)
    one, other = median_interval(first.tolist()), median_interval(second.tolist())
    assert one.high > other.low
    found = paired_interval(first.tolist(), second.tolist())
    assert 0.3 < found.low < 0.5 < found.high < 0.7


def test_pairs_that_lack_one_are_left_out():
    found = paired_interval([1.0, None, 3.0], [2.0, 5.0, None])
    assert found == (1.0, 1.0, 1.0, 1)
