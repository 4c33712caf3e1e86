import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from tests.torch_unet import OURS, PUBLISHED, TorchUNet, gradients_to_flax, randomise, to_flax
from vocalsep_jax.coseparation import keys, proof
from vocalsep_jax.coseparation.keys import ConversionError, Network
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
    assert found == Network(64, depth, PUBLISHED, 512)
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


@pytest.mark.parametrize(("width", "depth"), [(8, 7), (4, 5)])
class TestTheEncoderIsTheSame:
    """The co-separation network of PyTorch, and our U-Net with the weights converted."""

    @pytest.fixture
    def pair(self, width, depth):
        network = published(width, depth)
        model = keys.to_flax(arrays(network), keys.identify(shapes(network)), full=True)
        return network, UNet(width, depth, input_transform="log"), model

    @pytest.fixture
    def magnitude(self, rng):
        return np.abs(rng.standard_normal((3, 256, 128))).astype(np.float32)

    def blocks(self, unet, model, magnitude, train):
        _, state = unet.apply(model, magnitude, train=train, mutable=["batch_stats", "intermediates"])
        encoder = [state["intermediates"][f"down{n}_block"][0] for n in range(1, unet.depth + 1)]
        return encoder, state["batch_stats"]

    def check(self, found, expected, tolerance=1e-4):
        for ours, reference in zip(found, expected, strict=True):
            reference = reference.detach().permute(0, 2, 3, 1).numpy()
            difference = np.abs(np.asarray(ours) - reference).max()
            assert difference < tolerance * np.abs(reference).max()

    def test_in_evaluation_mode(self, pair, magnitude):
        network, unet, model = pair
        expected = network.eval().encode(torch.from_numpy(np.log(magnitude + 1e-10)))
        found, _ = jax.jit(lambda m, x: self.blocks(unet, m, x, False))(model, magnitude)
        self.check(found, expected)

    def test_in_training_mode_with_statistics_and_gradients(self, pair, magnitude):
        network, unet, model = pair
        expected = network.train().encode(torch.from_numpy(np.log(magnitude + 1e-10)))
        directions = [np.random.default_rng(1).standard_normal(e.shape) for e in expected]
        directions = [d.astype(np.float32) / d.size**0.5 for d in directions]
        sum((e * torch.from_numpy(d)).sum() for e, d in zip(expected, directions, strict=True)).backward()

        @jax.jit
        def objective(params):
            found, stats = self.blocks(unet, model | {"params": params}, magnitude, True)
            products = [
                jnp.vdot(f, d.transpose(0, 2, 3, 1)) for f, d in zip(found, directions, strict=True)
            ]
            return sum(products), (found, stats)

        (_, (found, stats)), grads = jax.value_and_grad(objective, has_aux=True)(model["params"])
        self.check(found, expected)
        for name, layer in gradients_to_flax(network).items():
            if not name.startswith("down"):
                continue
            for part, reference in layer.items():
                if part == "bias" and "norm" not in name:
                    continue  # BatchNorm removes the bias: its true gradient is zero
                error = np.linalg.norm(np.asarray(grads[name][part]) - reference)
                assert error < 1e-3 * np.linalg.norm(reference), (name, part)
        after = to_flax(network)[1]
        for n in range(1, unet.depth + 1):
            name = f"down{n}_norm"
            count = 3 * (256 >> n) * (128 >> n)
            before = np.asarray(model["batch_stats"][name]["var"])
            # PyTorch keeps the unbiased variance, Flax the biased one: n / (n - 1) apart.
            batch = (np.asarray(stats[name]["var"]) - 0.9 * before) * count / (count - 1)
            np.testing.assert_allclose(0.9 * before + batch, after[name]["var"], rtol=1e-4)
            np.testing.assert_allclose(stats[name]["mean"], after[name]["mean"], atol=1e-4)


def test_the_audio_half_is_the_network_without_a_visual_feature(rng):
    network = published(4, 5).eval()
    model = keys.to_flax(arrays(network), keys.identify(shapes(network)), full=True)
    x = np.abs(rng.standard_normal((2, 64, 32))).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(x), torch.zeros(2, 24, 1, 1)).numpy()
    mask = UNet(4, 5).apply(model, x)
    assert np.abs(np.asarray(mask) - expected).max() < 1e-5


@pytest.mark.parametrize(("width", "depth"), [(4, 7), (3, 5)])
def test_a_run_goes_to_pytorch_and_back(rng, width, depth):
    unet = UNet(width, depth)
    x = np.abs(rng.standard_normal((1, 128, 128))).astype(np.float32)
    fresh = jax.jit(unet.init)(jax.random.key(3, impl="rbg"), x)
    model = jax.tree.map(lambda a: a + 0.1 * rng.random(a.shape).astype(np.float32), fresh)
    found = keys.network_of(model)
    assert found == Network(width, depth, OURS)
    state = keys.to_torch(model, found, step=7)
    network = TorchUNet(width, depth, decoder=OURS)
    network.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, strict=True)
    assert int(network.state_dict()["upconvlayer1.1.num_batches_tracked"]) == 7
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(x)).numpy()
    mask = np.asarray(jax.jit(unet.apply)(model, x))
    assert np.abs(mask - expected).max() < 1e-5 * np.abs(expected).max()
    back = keys.to_flax(state, keys.identify(shapes(network)), full=True)
    assert_same_tree(back, model)


def test_an_encoder_alone_is_enough():
    network = published()
    encoder = {k: v for k, v in shapes(network).items() if "_conv" in k and "num_batches" not in k}
    assert keys.identify(encoder) == Network(4, 7)


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
        model = jax.jit(UNet(2, 5).init)(jax.random.key(0), jnp.zeros((1, 32, 32)))
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


def test_the_proof_notices_a_wrong_weight():
    network = published(4, 5)
    model = keys.to_flax(arrays(network), keys.identify(shapes(network)), full=False)
    x = proof.proof_input()
    right = proof.activations(model, x)
    model["batch_stats"]["down3_norm"]["var"] = model["batch_stats"]["down3_norm"]["var"] * 1.01
    found = proof.relative_differences(proof.activations(model, x), right)
    assert found["down2"] == 0
    assert found["down3"] > proof.TOLERANCE
    assert proof.relative_differences({"a": np.array([np.nan])}, {"a": np.array([1.0])})["a"] == np.inf


def test_the_proof_s_input_is_a_log_magnitude():
    x = proof.proof_input()
    assert x.shape == (1, 256, 256)
    assert np.isfinite(x).all()
    assert x.std() > 0.3


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
