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


def test_silence_is_below_80_db():
    assert metrics.is_silent(np.full((10, 2), 0.9e-4))
    assert not metrics.is_silent(np.full((10, 2), 1.1e-4))
    samples = np.zeros((25, 1))
    samples[12] = 0.1
    np.testing.assert_array_equal(metrics.silent_frames(samples, 10), [True, False])
    assert metrics.silent_frames(samples, 100).shape == (1,)


def test_usdr_of_frames(rng):
    reference = rng.standard_normal((250, 2))
    gains = np.repeat([0.9, 0.5, 1.0], [100, 100, 50])[:, None]
    usdr, signal, error = metrics.frame_usdr(reference, gains * reference, 100)
    np.testing.assert_allclose(usdr, [20, 20 * np.log10(2)], atol=1e-6)
    np.testing.assert_allclose(signal, [np.sum(reference[:100] ** 2), np.sum(reference[100:200] ** 2)])
    np.testing.assert_allclose(error / signal, [0.01, 0.25])


def test_predicted_energy_at_silence_is_the_mean_level_over_silent_frames(rng):
    """Frames of 10 samples, of which two are silent; there, energies of 10 and 0.1: 10 and -10 dB."""
    reference = np.zeros((40, 2))
    reference[:20] = 0.5
    estimate = np.full((40, 2), 0.7)
    estimate[20:30], estimate[30:] = 1.0, 0.1
    assert metrics.predicted_energy_at_silence(reference, estimate, 10) == pytest.approx(0, abs=1e-9)
    mono = metrics.predicted_energy_at_silence(reference[:, :1], estimate[:, :1], 10)
    assert mono == pytest.approx(0, abs=1e-9)


def test_predicted_energy_at_silence_has_a_floor_and_may_not_be_there():
    sounding, silent = np.full((20, 2), 0.5), np.zeros((20, 2))
    assert metrics.predicted_energy_at_silence(silent, silent, 10) == pytest.approx(-120)
    assert metrics.predicted_energy_at_silence(sounding, silent, 10) is None
