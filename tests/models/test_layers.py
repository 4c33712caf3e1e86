import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vocalsep_jax.models import layers
from vocalsep_jax.models.convolutions import FORMS


def test_a_convolution_starts_small_and_its_norm_around_1():
    x = jnp.zeros((1, 2, 2, 64))
    conv = layers.Conv4x4(128, FORMS["auto"][0])
    norm = layers.batch_norm(True, jnp.float32, None, "norm")

    @jax.jit
    def initial(key):
        params = conv.init(key, x)["params"]
        return (
            params["kernel"],
            params["bias"],
            norm.init(key, jnp.zeros((1, 1, 1, 2000)))["params"]["scale"],
        )

    kernel, bias, scale = initial(jax.random.key(1, impl="rbg"))
    assert kernel.shape == (4, 4, 64, 128)
    assert abs(float(kernel.mean())) < 1e-3
    assert float(kernel.std()) == pytest.approx(0.02, rel=0.02)
    assert not bias.any()
    assert float(scale.mean()) == pytest.approx(1.0, abs=0.002)
    assert float(scale.std()) == pytest.approx(0.02, rel=0.1)


def test_a_norm_moves_its_averages_by_a_tenth_of_the_batch_of_all_devices(rng):
    x = (1000 + rng.standard_normal((2, 3, 4, 4, 2))).astype(np.float32)  # on two devices
    norm = layers.batch_norm(True, jnp.float32, "devices", "norm")
    variables = {
        "params": {"scale": np.full(2, 2, np.float32), "bias": np.ones(2, np.float32)},
        "batch_stats": {"mean": np.full(2, 500, np.float32), "var": np.full(2, 3, np.float32)},
    }

    def step(x):
        return norm.apply(variables, x, mutable=["batch_stats"])

    y, after = jax.jit(jax.vmap(step, axis_name="devices"))(x)
    mean, var = x.mean(axis=(0, 1, 2, 3), dtype=np.float64), x.var(axis=(0, 1, 2, 3), dtype=np.float64)
    np.testing.assert_allclose(y, 1 + 2 * (x - mean) / np.sqrt(var + 1e-5), atol=2e-3)
    for device in (0, 1):
        np.testing.assert_allclose(after["batch_stats"]["mean"][device], 450 + 0.1 * mean, rtol=1e-6)
        np.testing.assert_allclose(after["batch_stats"]["var"][device], 2.7 + 0.1 * var, rtol=1e-4)
