import numpy as np
import pytest

from vocalsep_jax.measures.losses import LOSSES


@pytest.mark.parametrize(("name", "expected"), [("mse", [0.5, 4.0]), ("l1", [0.5, 2.0])])
def test_closed_forms(name, expected):
    target = np.zeros((2, 1, 2), np.float32)
    estimate = np.array([[[1, 0]], [[2, -2]]], np.float32)
    np.testing.assert_allclose(LOSSES[name](estimate, target), expected)
