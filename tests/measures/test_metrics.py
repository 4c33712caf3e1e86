import numpy as np
import pytest

from vocalsep_jax.audio.masks import ratio_mask
from vocalsep_jax.measures import metrics


def one(values):
    return np.asarray(values, np.float32)[None]


def test_hard_dice_counts_bins():
    mask = one([[0.9, 0.6, 0.1, 0.4]])
    vocals, accompaniment = one([[2, 1, 1, 1]]), one([[1, 2, 0.5, 2]])
    # predicted {0, 1}, ideal {0, 2}: one in common
    assert float(metrics.dice(mask, vocals, accompaniment)[0]) == pytest.approx((2 * 1 + 1) / (2 + 2 + 1))


def test_two_empty_masks_agree():
    zero = one([[0, 0]])
    assert float(metrics.dice(zero, zero, one([[1, 1]]))[0]) == 1


def test_a_perfect_mask_has_soft_dice_near_one_only_if_binary(rng):
    vocals = rng.random((3, 16, 16)).astype(np.float32)
    silence = np.zeros_like(vocals)
    ones = np.ones_like(vocals)
    np.testing.assert_allclose(metrics.soft_dice(ones, vocals, silence), 1, atol=1e-5)
    mask = ratio_mask(vocals, 1 - vocals)
    p = np.asarray(mask, np.float64)
    expected = (2 * (p * p).sum((1, 2)) + 1) / (2 * p.sum((1, 2)) + 1)
    np.testing.assert_allclose(metrics.soft_dice(mask, vocals, 1 - vocals), expected, rtol=1e-5)


@pytest.mark.parametrize("name", metrics.PATCH_METRICS)
def test_every_metric_of_training_is_one_value_a_patch_and_1_for_the_right_binary_mask(rng, name):
    measure = metrics.PATCH_METRICS[name].measure
    mask, vocals = rng.random((2, 4, 5, 6)).astype(np.float32)
    together = measure(mask, vocals, 1 - vocals)
    assert (together.shape, together.dtype) == ((4,), np.float32)
    apart = [float(measure(m[None], v[None], 1 - v[None])[0]) for m, v in zip(mask, vocals, strict=True)]
    np.testing.assert_allclose(together, apart, rtol=1e-6)
    binary = np.round(vocals)
    np.testing.assert_allclose(measure(binary, binary, 1 - binary), 1, rtol=1e-6)


class TestUsdr:
    """Whole-track SDR."""

    def test_of_silence_is_zero(self, rng):
        assert metrics.usdr(rng.standard_normal((1000, 2)), np.zeros((1000, 2))) == 0

    def test_of_a_tenth_of_noise_is_20_db(self, rng):
        reference = rng.standard_normal((1000, 2))
        assert metrics.usdr(reference, 0.9 * reference) == pytest.approx(20, abs=1e-4)

    def test_of_a_perfect_estimate_and_of_silence_for_silence_is_finite(self, rng):
        reference = rng.standard_normal((1000, 2))
        assert 90 < metrics.usdr(reference, reference) < 120
        assert metrics.usdr(np.zeros((10, 1)), np.zeros((10, 1))) == 0

    def test_refuses_shapes_that_would_broadcast(self):
        with pytest.raises(ValueError, match="shapes differ"):
            metrics.usdr(np.zeros((10, 2)), np.zeros((10, 1)))


def test_leakage_is_a_level_in_decibels(rng):
    music = rng.standard_normal((1000, 2))
    assert metrics.leakage(music, 0.1 * music) == pytest.approx(-20)
    assert metrics.leakage(music, music) == pytest.approx(0)
    assert metrics.leakage(music, np.zeros_like(music)) < -100
    assert metrics.leakage(np.zeros((10, 2)), np.zeros((10, 2))) == 0
