import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vocalsep_jax.measures import losses
from vocalsep_jax.measures.losses import LOSSES


@pytest.mark.parametrize(("name", "expected"), [("mse", [0.5, 4.0]), ("l1", [0.5, 2.0])])
def test_closed_forms(name, expected):
    target = np.zeros((2, 1, 2), np.float32)
    estimate = np.array([[[1, 0]], [[2, -2]]], np.float32)
    np.testing.assert_allclose(LOSSES[name](estimate, target), expected)


@pytest.mark.parametrize("channels", [(), (2,)], ids=["mono", "stereo"])
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_one_value_a_patch_and_0_for_what_is_right(rng, name, channels):
    estimate, target = rng.random((2, 4, 5, 6, *channels)).astype(np.float32)
    together = LOSSES[name](estimate, target)
    assert (together.shape, together.dtype) == ((4,), np.float32)
    apart = [float(LOSSES[name](e[None], t[None])[0]) for e, t in zip(estimate, target, strict=True)]
    np.testing.assert_allclose(together, apart, rtol=1e-6)
    assert together.min() > 0
    np.testing.assert_array_equal(LOSSES[name](target, target), 0)


@pytest.mark.parametrize("name", LOSSES)
def test_channels_are_averaged(rng, name):
    estimate, target = rng.random((2, 4, 5, 6, 2)).astype(np.float32)
    each = [LOSSES[name](estimate[..., k], target[..., k]) for k in range(2)]
    np.testing.assert_allclose(LOSSES[name](estimate, target), np.mean(each, axis=0), rtol=1e-6)


def test_log_objective_counts_all_patches_alike_whatever_their_level():
    each, whole = jnp.array([0.3, 4.0, 0.0]), jnp.array([3.0, 4.0, 50.0])
    value = losses.log(1e6 * each, 1e6 * whole, 0.02)
    ratios = (np.asarray(each / whole) + 0.02) / 1.02
    np.testing.assert_allclose(value, np.mean(np.log(ratios)), rtol=1e-5)
    # A patch's weight is what is left of its loss, and the floor, turned upside down.
    gradient = jax.grad(losses.log)(1e6 * each, 1e6 * whole, 0.02)
    np.testing.assert_allclose(gradient, 1e-6 / 3 / (each + 0.02 * whole), rtol=1e-5)


def test_log_objective_of_silence_is_finite():
    value, gradient = jax.value_and_grad(losses.log)(jnp.zeros(2), jnp.zeros(2), 0.02)
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))


def test_mean_objective_is_the_mean():
    assert losses.OBJECTIVES["mean"](jnp.array([1.0, 3.0]), jnp.array([5.0, 5.0]), 0.5) == 2.0
