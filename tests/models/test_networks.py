import jax
import jax.numpy as jnp
import pytest

from vocalsep_jax.models.frontend import FREQUENCY_SCALES, INPUT_TRANSFORMS
from vocalsep_jax.models.networks import NETWORKS, make_network
from vocalsep_jax.models.unet import UNet

OPTIONS = {
    "width": 2,
    "depth": 4,
    "mixing": 0,
    "channels": 1,
    "dtype": "float32",
    "input_transform": "raw",
    "frequency_scale": "linear",
    "frequency_bins": 16,
    "input_norm": False,
}


def test_arguments_are_the_attributes_of_the_network():
    changes = {"dtype": "bfloat16", "channels": 2, "input_norm": True}
    network = make_network("unet", **OPTIONS | changes, freeze_statistics=True, axis_name="d")
    assert network == UNet(2, 4, 2, 0, jnp.dtype("bfloat16"), "raw", "linear", 16, True, True, "d")


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("scale", FREQUENCY_SCALES)
@pytest.mark.parametrize("transform", INPUT_TRANSFORMS)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_maps_magnitudes_to_masks(name, transform, scale, channels):
    changes = {"input_transform": transform, "frequency_scale": scale, "channels": channels}
    network = make_network(name, **OPTIONS | changes)
    assert network.channels == channels
    bins = {"linear": 16, "coseparation": 51, "zoned": 38}[scale]
    network.check_patch(bins, 32)
    x = jnp.zeros((3, bins, 32) if channels == 1 else (3, bins, 32, channels))
    variables = jax.eval_shape(network.init, jax.random.key(0), x)
    assert set(variables) == {"params", "batch_stats"}
    mask = jax.eval_shape(network.apply, variables, x)
    assert (mask.shape, mask.dtype) == (x.shape, jnp.float32)
    with pytest.raises(ValueError, match="both sides of a patch"):
        network.check_patch(bins, 31)


def test_another_network_is_an_entry(monkeypatch):
    monkeypatch.setitem(NETWORKS, "other", lambda **attributes: attributes)
    network = make_network("other", **OPTIONS)
    assert network == OPTIONS | {"dtype": jnp.float32, "freeze_statistics": False, "axis_name": None}
