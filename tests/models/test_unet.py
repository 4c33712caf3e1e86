import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vocalsep_jax.measures import losses
from vocalsep_jax.models.frontend import unwarp, warp
from vocalsep_jax.models.unet import UNet, layer_channels, unet_from_config

MODEL = {"width": 4, "depth": 5, "dtype": "float32"}
CONFIG = {"model": MODEL, "input_transform": "raw", "frequency_scale": "linear", "frequency_bins": 32}


def count(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


def test_the_full_network_has_the_published_number_of_parameters():
    shapes = jax.eval_shape(UNet().init, jax.random.key(0), jnp.zeros((1, 256, 256)))
    params = shapes["params"]
    assert count(params) == 41_828_481
    assert count({k: v for k, v in params.items() if k.startswith("down")}) == 15_343_936
    assert count({k: v for k, v in params.items() if k.startswith("up")}) == 26_484_545


def test_channels_of_the_seven_and_the_five_layer_network():
    assert layer_channels(64, 7) == (
        [64, 128, 256, 512, 512, 512, 512],
        [512, 512, 512, 256, 128, 64, 1],
    )
    assert layer_channels(64, 5) == ([64, 128, 256, 512, 512], [512, 256, 128, 64, 1])


def test_initial_weights_follow_the_recipe():
    params = jax.jit(UNet(width=16).init)(jax.random.key(1, impl="rbg"), jnp.zeros((1, 256, 256)))["params"]
    kernel, scale = params["down5"]["kernel"], params["down5_norm"]["scale"]
    assert abs(float(kernel.mean())) < 1e-3
    assert float(kernel.std()) == pytest.approx(0.02, rel=0.02)
    assert float(scale.mean()) == pytest.approx(1.0, abs=0.01)
    assert float(scale.std()) == pytest.approx(0.02, rel=0.3)
    offsets = [x for path, x in jax.tree.leaves_with_path(params) if path[-1].key == "bias"]
    assert len(offsets) == 27
    assert all(not x.any() for x in offsets)


@pytest.mark.parametrize("patch", [(256, 256), (128, 384)])
def test_bottleneck_and_output_shapes(patch):
    model = UNet(width=2)
    x = jnp.ones((2, *patch))
    variables = jax.jit(model.init)(jax.random.key(0), x)

    @jax.jit
    def apply(variables, x):
        return model.apply(variables, x, capture_intermediates=True, mutable=["intermediates"])

    mask, state = apply(variables, x)
    assert mask.shape == (2, *patch)
    assert mask.dtype == jnp.float32
    assert 0 <= float(mask.min()) <= float(mask.max()) <= 1
    bottleneck = state["intermediates"]["down7"]["__call__"][0]
    assert bottleneck.shape == (2, patch[0] // 128, patch[1] // 128, 16)


def test_sides_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="multiples of 128"):
        UNet(width=1).init(jax.random.key(0), jnp.zeros((1, 256, 200)))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dtype", "float16"),
        ("input_transform", "square"),
        ("frequency_scale", "mel"),
        ("frequency_bins", 1),
        ("depth", 3),
        ("width", 0),
    ],
)
def test_a_config_that_names_no_network_is_refused(field, value):
    changed = {field: value} if field in CONFIG else {"model": MODEL | {field: value}}
    with pytest.raises(ValueError, match=field if field != "width" else "width >= 1"):
        unet_from_config(CONFIG | changed)


def test_a_warped_network_takes_and_gives_linear_frequency(rng):
    model = unet_from_config(CONFIG | {"frequency_scale": "coseparation", "input_transform": "log"})
    x = rng.random((2, 51, 64)).astype(np.float32)
    variables = jax.jit(model.init)(jax.random.key(0), x)
    mask = jax.jit(model.apply)(variables, x)
    assert mask.shape == x.shape
    assert 0 <= float(mask.min()) <= float(mask.max()) <= 1
    plain = UNet(width=4, depth=5, input_transform="log").apply(variables, warp(x, 32))
    np.testing.assert_allclose(mask, unwarp(plain, 51), atol=1e-6)
    with pytest.raises(ValueError, match="multiples of 32"):
        unet_from_config(CONFIG | {"frequency_scale": "coseparation", "frequency_bins": 40}).init(
            jax.random.key(0), x
        )


def test_frozen_statistics_are_used_and_left_alone(rng):
    x = rng.random((4, 32, 32)).astype(np.float32)
    model = unet_from_config(CONFIG, freeze_statistics=True)
    variables = jax.jit(model.init)(jax.random.key(0), x)
    stats = jax.tree.map(lambda s: s + 0.5, variables["batch_stats"])
    variables = variables | {"batch_stats": stats}

    def blocks(train):
        _, state = model.apply(variables, x, train=train, mutable=["batch_stats", "intermediates"])
        return state

    training, evaluation = blocks(True), blocks(False)
    for name, after in training["batch_stats"].items():
        changed = any((after[k] != stats[name][k]).any() for k in after)
        assert changed == name.startswith("up"), name
    for name, value in training["intermediates"].items():
        same = np.array_equal(value[0], evaluation["intermediates"][name][0])
        assert same == name.startswith("down"), name


def test_bfloat16_keeps_parameters_statistics_and_mask_in_float32():
    model = unet_from_config(CONFIG | {"model": MODEL | {"dtype": "bfloat16"}})
    x = jnp.ones((2, 32, 32))
    with jax.numpy_dtype_promotion("standard"):  # Flax's BatchNorm mixes dtypes
        variables = model.init(jax.random.key(0), x)
        mask, updated = model.apply(variables, x, train=True, mutable=["batch_stats"])
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert mask.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(updated)} == {jnp.dtype("float32")}


class TestAgainstPyTorch:
    """The same weights, the same input: the same mask, loss, gradients and statistics."""

    @pytest.fixture(params=[(8, 7), (4, 5)], ids=["7 layers", "5 layers"])
    def pair(self, request, rng):
        pytest.importorskip("torch", reason="PyTorch is not installed")
        from tests.torch_unet import TorchUNet, randomise, to_flax

        width, depth = request.param
        network = TorchUNet(width, depth)
        randomise(network, seed=3)
        mixture = np.abs(rng.standard_normal((4, 256, 128))).astype(np.float32)
        vocals = (mixture * rng.random(mixture.shape)).astype(np.float32)
        return network, UNet(width, depth), *to_flax(network), mixture, vocals

    def relative(self, value, reference):
        return np.abs(np.asarray(value) - reference).max() / np.abs(reference).max()

    def test_evaluation_mode(self, pair):
        import torch

        network, model, params, stats, mixture, _ = pair
        with torch.no_grad():
            expected = network.eval()(torch.from_numpy(mixture)).numpy()
        mask = jax.jit(model.apply)({"params": params, "batch_stats": stats}, mixture)
        assert expected.std() > 0.01
        assert self.relative(mask, expected) < 1e-4

    def test_training_mode(self, pair):
        import torch

        from tests.torch_unet import gradients_to_flax, to_flax

        network, model, params, stats, mixture, vocals = pair
        network.train()
        expected = network(torch.from_numpy(mixture))
        loss = torch.mean((expected * torch.from_numpy(mixture) - torch.from_numpy(vocals)) ** 2)
        loss.backward()

        @jax.jit
        def objective(params):
            mask, updated = model.apply(
                {"params": params, "batch_stats": stats}, mixture, train=True, mutable=["batch_stats"]
            )
            return jnp.mean(losses.mse(mask * mixture, vocals)), (mask, updated["batch_stats"])

        (value, (mask, new_stats)), grads = jax.value_and_grad(objective, has_aux=True)(params)
        assert self.relative(mask, expected.detach().numpy()) < 1e-4
        assert float(value) == pytest.approx(loss.item(), rel=1e-5)

        for name, layer in gradients_to_flax(network).items():
            for part, reference in layer.items():
                if part == "bias" and f"{name}_norm" in params:
                    continue  # the true gradient is zero: BatchNorm removes the bias
                error = np.linalg.norm(np.asarray(grads[name][part]) - reference)
                assert error < 1e-4 * np.linalg.norm(reference), (name, part)

        after = to_flax(network)[1]
        depth = len(network.down)
        for name, statistics in after.items():
            number = int("".join(c for c in name if c.isdigit()))
            halvings = number if name.startswith("down") else depth - number
            n = 4 * (256 >> halvings) * (128 >> halvings)
            assert self.relative(new_stats[name]["mean"], statistics["mean"]) < 1e-4
            # PyTorch's new variance is unbiased, Flax's is not: n / (n - 1) apart.
            unbiased = 0.9 * stats[name]["var"] + (
                np.asarray(new_stats[name]["var"]) - 0.9 * stats[name]["var"]
            ) * n / (n - 1)
            assert self.relative(unbiased, statistics["var"]) < 1e-4, name
