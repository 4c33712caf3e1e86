import numpy as np
import pytest

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
