import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import interp1d

from vocalsep_jax.models.frontend import (
    FREQUENCY_SCALES,
    INPUT_TRANSFORMS,
    from_zones,
    to_zones,
    unwarp,
    warp,
    zone_border,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("raw", lambda x: x), ("log", lambda x: np.log(x + 1e-10)), ("log1p", lambda x: np.log(1 + 100 * x))],
)
def test_input_transforms(name, expected):
    x = np.array([0.0, 1e-3, 1.0, 10.0], np.float32).reshape(1, 2, 2)
    for shaped in (x, x.reshape(1, 2, 1, 2)):  # of one channel, and of two
        features = INPUT_TRANSFORMS[name](jnp.asarray(shaped))
        assert features.dtype == jnp.float32
        np.testing.assert_allclose(features, expected(shaped)[..., None], rtol=1e-5)


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


@pytest.mark.parametrize("name", [name for name, scale in FREQUENCY_SCALES.items() if scale])
def test_every_scale_treats_channels_alone(rng, name):
    scale = FREQUENCY_SCALES[name]
    x, mask = (rng.random((2, bins, 5, 3)).astype(np.float32) for bins in (32, 20))
    scale.check(32, 20)
    for both, one in (
        (scale.to(x, 20), lambda k: scale.to(x[..., k], 20)),
        (scale.back(mask, 32), lambda k: scale.back(mask[..., k], 32)),
    ):
        assert both.dtype == jnp.float32
        for k in range(3):
            np.testing.assert_allclose(both[..., k], one(k), atol=1e-6)


def test_the_linear_scale_is_none_at_all():
    assert FREQUENCY_SCALES["linear"] is None


class TestZones:
    """Low frequencies bin by bin, high ones in threes."""

    @pytest.mark.parametrize(
        ("linear", "bins", "border"),
        [(1024, 512, 256), (32, 16, 8), (32, 32, 32), (33, 11, 0), (9, 5, 3), (10, 4, 1), (1, 1, 1)],
    )
    def test_the_border_follows_from_the_bins(self, linear, bins, border):
        assert zone_border(linear, bins) == border
        assert border + 3 * (bins - border) == linear

    @pytest.mark.parametrize(
        ("linear", "bins"), [(1024, 511), (1024, 340), (1024, 1026), (32, 10), (33, 9), (32, 34), (4, 3)]
    )
    def test_bins_that_there_cannot_be(self, linear, bins):
        message = f"frequency_bins: .* an even number less of {linear} bins, .* not {bins}"
        with pytest.raises(ValueError, match=message):
            zone_border(linear, bins)
        with pytest.raises(ValueError, match=message):
            to_zones(np.zeros((1, linear, 2), np.float32), bins)
        with pytest.raises(ValueError, match=message):
            from_zones(np.zeros((1, bins, 2), np.float32), linear)

    def test_bins_below_the_border_stay_and_those_above_are_means_of_three(self):
        x = np.array([1, 2, 3, 4, 5, 9, 7, 7, 10], np.float32)
        zones = to_zones(x[None, :, None], 5)
        np.testing.assert_allclose(zones[0, :, 0], [1, 2, 3, 6, 8])
        np.testing.assert_array_equal(from_zones(zones, 9)[0, :, 0], [1, 2, 3, 6, 6, 6, 8, 8, 8])

    def test_of_as_many_bins_as_there_are_nothing_changes(self, rng):
        x = rng.random((2, 12, 3)).astype(np.float32)
        np.testing.assert_array_equal(to_zones(x, 12), x)
        np.testing.assert_array_equal(from_zones(x, 12), x)

    @settings(deadline=None, max_examples=25)  # each compiles
    @given(
        border=st.integers(0, 12),
        threes=st.integers(0, 8),
        channels=st.sampled_from([(), (1,), (2,)]),
        seed=st.integers(0, 99),
    )
    def test_there_and_back(self, border, threes, channels, seed):
        """A mask of zones comes back as it was, sums of magnitudes stay, and a mask stays a mask."""
        bins, linear = border + threes, border + 3 * threes
        if not bins:
            return
        assert zone_border(linear, bins) == border
        rng = np.random.default_rng(seed)
        mask = rng.random((2, bins, 3, *channels)).astype(np.float32)
        back = np.asarray(from_zones(mask, linear))
        assert back.shape == (2, linear, 3, *channels)
        np.testing.assert_allclose(to_zones(back, bins), mask, atol=1e-6)
        assert set(back.ravel().tolist()) == set(mask.ravel().tolist())
        x = rng.random((2, linear, 3, *channels)).astype(np.float32)
        zones = np.asarray(to_zones(x, bins))
        np.testing.assert_allclose(from_zones(zones, linear).sum(axis=1), x.sum(axis=1), rtol=1e-5)
        assert x.min() - 1e-6 <= zones.min()
        assert zones.max() <= x.max() + 1e-6
