import re

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from tests.conftest import random_variables
from tests.torch_unet import OURS, PUBLISHED, TorchUNet, randomise, to_flax
from vocalsep_jax.coseparation import keys
from vocalsep_jax.coseparation.keys import ConversionError, TorchNetwork
from vocalsep_jax.models.unet import UNet


def published(width=4, depth=7, visual=24, seed=0):
    network = TorchUNet(width, depth, visual=visual, decoder=PUBLISHED)
    randomise(network, seed)
    return network


def arrays(network):
    return {key: x.numpy() for key, x in network.state_dict().items()}


def shapes(network):
    return {key: tuple(x.shape) for key, x in network.state_dict().items()}


def assert_same_tree(tree, expected):
    jax.tree.map(np.testing.assert_array_equal, tree, expected)


@pytest.mark.parametrize("depth", [7, 5])
def test_the_published_keys_and_shapes_are_those_of_the_full_network(depth):
    with torch.device("meta"):
        network = TorchUNet(64, depth, visual=512, decoder=PUBLISHED)
    found = keys.identify(shapes(network))
    assert found == TorchNetwork(64, depth, PUBLISHED, 512)
    wanted = {entry.source: entry.shape for entry in keys.entries(found)}
    assert wanted["audionet_convlayer1.0.weight"] == (64, 1, 4, 4)
    assert wanted["audionet_upconvlayer1.0.weight"] == (1024, 512, 4, 4)
    left = set(shapes(network)) - set(wanted)
    assert left == set(keys.counters(shapes(network)))
    assert len(left) == 2 * depth - 1


@pytest.mark.parametrize(("width", "depth"), [(4, 7), (3, 5)])
def test_weights_arrive_where_they_belong(width, depth):
    network = published(width, depth)
    found = keys.identify(shapes(network))
    params, stats = to_flax(network)
    whole = keys.to_flax(arrays(network), found, full=True)
    assert_same_tree(whole, {"params": params, "batch_stats": stats})
    encoder = keys.to_flax(arrays(network), found, full=False)
    for kind, tree in (("params", params), ("batch_stats", stats)):
        assert_same_tree(encoder[kind], {k: v for k, v in tree.items() if k.startswith("down")})


@pytest.mark.parametrize(
    ("width", "depth", "patch"),
    [(4, 5, (64, 32)), pytest.param(8, 7, (256, 128), marks=pytest.mark.slow)],
    ids=["5 layers", "7 layers"],
)
def test_the_network_is_the_same(rng, width, depth, patch):
    """PyTorch's without a visual feature, and our U-Net with the weights converted."""
    network = published(width, depth).eval()
    model = keys.to_flax(arrays(network), keys.identify(shapes(network)), full=True)
    unet = UNet(width, depth, input_transform="log")
    magnitude = np.abs(rng.standard_normal((3, *patch))).astype(np.float32)

    @jax.jit
    def blocks(model, x):
        mask, state = unet.apply(model, x, mutable=["intermediates"])
        return mask, [state["intermediates"][f"down{n}_block"][0] for n in range(1, depth + 1)]

    x = torch.from_numpy(np.log(magnitude + 1e-10))
    with torch.no_grad():
        expected, encoded = network(x, torch.zeros(3, 24, 1, 1)), network.encode(x)
    mask, encoder = blocks(model, magnitude)
    assert np.abs(np.asarray(mask) - expected.numpy()).max() < 1e-5
    for ours, reference in zip(encoder, encoded, strict=True):
        reference = reference.permute(0, 2, 3, 1).numpy()
        assert np.abs(np.asarray(ours) - reference).max() < 1e-4 * np.abs(reference).max()


@pytest.mark.parametrize(("width", "depth"), [(4, 7), (3, 5)])
def test_a_run_goes_to_pytorch_and_back(width, depth):
    model = random_variables(UNet(width, depth), (2**depth, 2**depth))
    found = keys.network_of(model)
    assert found == TorchNetwork(width, depth, OURS)
    state = keys.to_torch(model, found, step=7)
    network = TorchUNet(width, depth, decoder=OURS)
    network.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, strict=True)
    assert int(network.state_dict()["upconvlayer1.1.num_batches_tracked"]) == 7
    back = keys.to_flax(state, keys.identify(shapes(network)), full=True)
    assert_same_tree(back, model)


@pytest.mark.slow
def test_a_run_computes_the_same_in_pytorch(rng):
    unet = UNet(4, 7)
    x = np.abs(rng.standard_normal((1, 128, 128))).astype(np.float32)
    model = random_variables(unet, (128, 128))
    state = keys.to_torch(model, keys.network_of(model), step=7)
    network = TorchUNet(4, 7, decoder=OURS)
    network.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, strict=True)
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(x)).numpy()
    mask = np.asarray(jax.jit(unet.apply)(model, x))
    assert np.abs(mask - expected).max() < 1e-5 * np.abs(expected).max()


def test_an_encoder_alone_is_enough():
    network = published()
    encoder = {k: v for k, v in shapes(network).items() if "_conv" in k and "num_batches" not in k}
    assert keys.identify(encoder) == TorchNetwork(4, 7)


class TestWhatIsNoSuchNetwork:
    """Every key that is wrong is named, in one line."""

    @pytest.fixture(scope="class")
    def good(self):
        return shapes(published())

    def refused(self, found):
        with pytest.raises(ConversionError) as error:
            keys.identify(found)
        assert "\n" not in str(error.value)
        return str(error.value)

    def test_all_problems_are_listed(self, good):
        bad = dict(good) | {"audionet_convlayer2.0.weight": (8, 4, 3, 3), "extra": (1,), "more": (2,)}
        del bad["audionet_convlayer3.1.running_var"], bad["audionet_upconvlayer4.0.bias"]
        text = self.refused(bad)
        assert (
            "missing: audionet_convlayer3.1.running_var (16,), audionet_upconvlayer4.0.bias (16,)" in text
        )
        assert "unexpected: 'extra' (1,), 'more' (2,)" in text
        assert "misshapen: audionet_convlayer2.0.weight (8, 4, 3, 3) instead of (8, 4, 4, 4)" in text

    def test_another_network(self):
        text = self.refused({"conv1.weight": (64, 3, 7, 7), "fc.bias": (10,)})
        assert "none of its 2 keys" in text
        assert "conv1.weight" in text
        assert "empty" in self.refused({})

    @pytest.mark.parametrize("n", [1, 4, 7])
    def test_a_missing_layer(self, good, n):
        text = self.refused({k: v for k, v in good.items() if f"_convlayer{n}." not in k})
        assert f"audionet_convlayer{n}.1.running_mean" in text

    def test_too_few_and_too_many_layers_are_told_by_their_keys(self, good):
        text = self.refused({k: v for k, v in good.items() if re.match("audionet_convlayer[123]", k)})
        assert all(f"audionet_convlayer{n}.0.weight" in text for n in (4, 5))
        text = self.refused(good | {"audionet_convlayer40.0.weight": (32, 32, 4, 4)})
        assert "unexpected: 'audionet_convlayer40.0.weight'" in text

    def test_keys_cannot_write_to_the_terminal(self, good):
        text = self.refused(good | {"a\n\x1b[31m": (1,)})
        assert "\x1b" not in text
        assert "\x1b" not in self.refused({"a\n\x1b[31m": (1,)})

    def test_a_tree_that_is_no_unet(self):
        for params in ({}, {"conv": {"kernel": np.zeros(2)}}, {f"down{n}": {} for n in range(1, 6)}):
            with pytest.raises(ConversionError, match="holds no U-Net"):
                keys.network_of({"params": params, "batch_stats": {}})
        model = random_variables(UNet(2, 5), (32, 32))
        del model["params"]["down2"]["bias"]
        with pytest.raises(ConversionError, match="something like it"):
            keys.network_of(model)

    @pytest.mark.parametrize("shape", [(), (4,), (0, 0, 0, 0)])
    def test_a_first_layer_of_no_shape(self, good, shape):
        self.refused(good | {"audionet_convlayer1.0.weight": shape})

    def test_values_that_no_network_has(self):
        state = arrays(published())
        found = keys.identify({k: v.shape for k, v in state.items()})
        for value, message in ((np.nan, "NaN"), (-1.0, "negative variance")):
            bad = dict(state)
            bad["audionet_convlayer2.1.running_var"] = np.full(8, value, np.float32)
            with pytest.raises(ConversionError, match=message):
                keys.to_flax(bad, found, full=False)


@pytest.mark.parametrize(
    ("content", "layout"),
    [
        ({"a": 1}, "a plain state dict"),
        ({"state_dict": {"a": 1}, "epoch": 3}, "under 'state_dict'"),
        ({"model": {"module.a": 1}}, "under 'model', keys with the prefix 'module.'"),
        ({"module.a": 1}, "keys with the prefix 'module.'"),
    ],
)
def test_a_state_dict_is_found_where_training_scripts_put_it(content, layout):
    assert keys.unwrap(content) == ({"a": 1}, layout)


@pytest.mark.parametrize("content", [3, [1], {1: 2}, {"state_dict": {1: 2}}])
def test_what_holds_no_state_dict(content):
    with pytest.raises(ConversionError, match="no state dict"):
        keys.unwrap(content)


def test_block_keys():
    assert keys.block_key(TorchNetwork(2, 7, PUBLISHED), "down3") == "audionet_convlayer3"
    assert keys.block_key(TorchNetwork(2, 7, PUBLISHED), "up7") == "audionet_upconvlayer7"
