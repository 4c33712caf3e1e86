import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import interp1d

from vocalsep_jax.models.frontend import INPUT_TRANSFORMS, unwarp, warp


@pytest.mark.parametrize(
    ("name", "expected"),
    [("raw", lambda x: x), ("log", lambda x: np.log(x + 1e-10)), ("log1p", lambda x: np.log(1 + 100 * x))],
)
def test_input_transforms(name, expected):
    x = np.array([0.0, 1e-3, 1.0, 10.0], np.float32).reshape(1, 2, 2)
    features = INPUT_TRANSFORMS[name](jnp.asarray(x))
    assert features.dtype == jnp.float32
    np.testing.assert_allclose(features, expected(x)[..., None], rtol=1e-5)


def forward_places(bins):
    """Where the warp looks, as the co-separation front end defines it; -1 is DC, 1 Nyquist."""
    return (np.power(21.0, (np.linspace(-1, 1, bins) + 1) / 2) - 11) / 10


def inverse_places(bins):
    return 2 * np.log(10 * np.linspace(-1, 1, bins) + 11) / np.log(21) - 1


PAIRS = [
    (warp, forward_places, 512, 256),
    (unwarp, inverse_places, 256, 512),
    (warp, forward_places, 32, 32),
]


@pytest.mark.parametrize(("function", "places", "old", "new"), PAIRS)
def test_the_warp_is_scipy_s_linear_interpolation(rng, function, places, old, new):
    x = rng.random((2, old, 7)).astype(np.float32)
    expected = interp1d(np.linspace(-1, 1, old), x, axis=1)(np.clip(places(new), -1, 1))
    np.testing.assert_allclose(function(x, new), expected, atol=1e-6)


@pytest.mark.parametrize(("function", "places", "old", "new"), PAIRS)
def test_the_warp_is_torch_s_grid_sample(rng, function, places, old, new):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    frames = 9
    x = rng.random((2, old, frames)).astype(np.float32)
    time = np.broadcast_to(np.linspace(-1, 1, frames), (new, frames))
    frequency = np.broadcast_to(places(new)[:, None], (new, frames))
    grid = torch.from_numpy(np.stack([time, frequency], axis=-1).astype(np.float32))
    expected = torch.nn.functional.grid_sample(
        torch.from_numpy(x)[:, None], grid.expand(2, -1, -1, -1), align_corners=True
    )[:, 0]
    np.testing.assert_allclose(function(x, new), expected.numpy(), atol=5e-5)


def test_warping_there_and_back_keeps_a_smooth_spectrum():
    smooth = np.sin(np.linspace(0, 6, 512))[None, :, None].astype(np.float32) + 2
    back = unwarp(warp(smooth, 256), 512)
    assert np.abs(back - smooth).max() < 2e-3


@settings(deadline=None, max_examples=15)  # each compiles
@given(bins=st.integers(2, 80), new=st.integers(2, 80), seed=st.integers(0, 99))
def test_a_mask_stays_a_mask_and_a_constant_stays_one(bins, new, seed):
    mask = np.random.default_rng(seed).random((1, bins, 2)).astype(np.float32)
    for function in (warp, unwarp):
        out = np.asarray(function(mask, new))
        assert out.min() >= mask.min() - 1e-6
        assert out.max() <= mask.max() + 1e-6
        np.testing.assert_allclose(function(np.full_like(mask, 0.3), new), 0.3, atol=1e-6)


def test_the_gradient_of_the_warp_is_its_transpose(rng):
    x, y = (rng.random((1, n, 3)).astype(np.float32) for n in (20, 12))
    forward, pull = jax.vjp(lambda a: warp(a, 12), jnp.asarray(x))
    assert float(jnp.vdot(forward, y)) == pytest.approx(
        float(jnp.vdot(pull(jnp.asarray(y))[0], x)), rel=1e-5
    )
