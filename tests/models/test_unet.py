import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import random_variables
from vocalsep_jax.measures import losses
from vocalsep_jax.models.convolutions import FORMS
from vocalsep_jax.models.frontend import INPUT_TRANSFORMS, from_zones, log1p, to_zones, unwarp, warp
from vocalsep_jax.models.unet import FrequencyMixing, UNet, is_encoder, layer_channels


def shapes_of(model, patch):
    """Of the variables that a network is initialised with."""
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *patch)))


def count(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


def test_the_full_network_has_the_published_number_of_parameters():
    params = shapes_of(UNet(), (256, 256))["params"]
    assert count(params) == 41_828_481
    assert count({k: v for k, v in params.items() if is_encoder(k)}) == 15_343_936
    assert count({k: v for k, v in params.items() if not is_encoder(k)}) == 26_484_545


def test_channels_of_the_seven_and_the_five_layer_network():
    assert layer_channels(64, 7) == (
        [64, 128, 256, 512, 512, 512, 512],
        [512, 512, 512, 256, 128, 64, 1],
    )
    assert layer_channels(64, 5) == ([64, 128, 256, 512, 512], [512, 256, 128, 64, 1])


@pytest.mark.parametrize(("width", "depth"), [(0, 7), (64, 3)])
def test_networks_that_there_are_not(width, depth):
    with pytest.raises(ValueError, match=f"width >= 1 and depth >= 4, got {width} and {depth}"):
        layer_channels(width, depth)


@pytest.mark.slow
def test_initial_weights_follow_the_recipe():
    model = UNet(width=16, depth=4)
    params = jax.jit(model.init)(jax.random.key(1, impl="rbg"), jnp.zeros((1, 16, 16)))["params"]
    kernel, scale = params["down4"]["kernel"], params["down4_norm"]["scale"]
    assert abs(float(kernel.mean())) < 1e-3
    assert float(kernel.std()) == pytest.approx(0.02, rel=0.02)
    assert float(scale.mean()) == pytest.approx(1.0, abs=0.01)
    assert float(scale.std()) == pytest.approx(0.02, rel=0.3)
    offsets = [x for path, x in jax.tree.leaves_with_path(params) if path[-1].key == "bias"]
    assert len(offsets) == 15
    assert all(not x.any() for x in offsets)


@pytest.mark.parametrize("patch", [(256, 256), (128, 384)])
def test_bottleneck_and_output_shapes(patch):
    model = UNet(width=2)

    def apply(variables, x):
        return model.apply(variables, x, mutable=["intermediates"])

    mask, state = jax.eval_shape(apply, shapes_of(model, patch), jnp.zeros((2, *patch)))
    assert (mask.shape, mask.dtype) == ((2, *patch), jnp.float32)
    blocks = state["intermediates"]
    assert blocks["down7_block"][0].shape == (2, patch[0] // 128, patch[1] // 128, 16)
    assert blocks["up7_block"][0].shape == (2, *patch, 1)


@pytest.mark.parametrize(
    ("model", "patch", "message"),
    [
        (UNet(width=1), (256, 200), r"multiples of 128 \(2\^depth\), got 256 bins x 200 frames"),
        (UNet(width=1, depth=5), (51, 64), "multiples of 32 .*, got 51 bins x 64 frames"),
        (
            UNet(1, 5, frequency_scale="coseparation", frequency_bins=40),
            (51, 64),
            "got 40 bins x 64 frames",
        ),
        (UNet(1, 5, frequency_scale="zoned", frequency_bins=40), (64, 64), "got 40 bins x 64 frames"),
        (
            UNet(1, 5, frequency_scale="zoned", frequency_bins=32),
            (51, 64),
            "an even number less of 51 bins",
        ),
        (UNet(1, 5, frequency_scale="zoned", frequency_bins=32), (98, 64), "less of 98 bins"),
    ],
)
def test_sides_that_do_not_fit_are_refused(model, patch, message):
    with pytest.raises(ValueError, match=message):
        model.check_patch(*patch)
    with pytest.raises(ValueError, match=message):
        shapes_of(model, patch)


def test_a_warped_network_takes_and_gives_linear_frequency(rng):
    plain = UNet(4, 4, input_transform="log")
    warped = plain.clone(frequency_scale="coseparation", frequency_bins=32)
    x = rng.random((2, 51, 32)).astype(np.float32)

    @jax.jit
    def masks(variables, x):
        return warped.apply(variables, x), unwarp(plain.apply(variables, warp(x, 32)), 51)

    mask, expected = masks(random_variables(warped, (51, 32)), x)
    assert mask.shape == x.shape
    assert 0 <= float(mask.min()) < float(mask.max()) <= 1
    np.testing.assert_allclose(mask, expected, atol=1e-6)


def test_a_zoned_network_takes_and_gives_linear_frequency(rng):
    plain = UNet(4, 4, input_transform="log1p")
    zoned = plain.clone(frequency_scale="zoned", frequency_bins=16)
    x = rng.random((2, 32, 16)).astype(np.float32)

    @jax.jit
    def masks(variables, x):
        return zoned.apply(variables, x), from_zones(plain.apply(variables, to_zones(x, 16)), 32)

    mask, expected = masks(random_variables(zoned, (32, 16)), x)
    assert mask.shape == x.shape
    np.testing.assert_allclose(mask, expected, atol=1e-6)
    np.testing.assert_array_equal(mask[:, 8::3], mask[:, 9::3])  # three bins of the upper zone are one
    assert np.abs(np.diff(mask[:, :8], axis=1)).min() > 0


class TestChannels:
    """A network that sees, and masks, channels together."""

    def test_channels_are_features_of_the_first_layer_and_of_the_last(self):
        for features, transform in ((2, "raw"), (2, "log1p")):
            variables = shapes_of(UNet(2, 4, 2, input_transform=transform), (16, 32, 2))
            params, plain = variables["params"], shapes_of(UNet(2, 4), (16, 32))["params"]
            assert params["down1"]["kernel"].shape == (4, 4, features, 2)
            assert params["up4"]["bias"].shape == (2,)
            for name in set(params) - {"down1", "up4"}:
                assert jax.tree.map(jnp.shape, params[name]) == jax.tree.map(jnp.shape, plain[name])

    def test_a_mask_of_each_channel_comes_of_both(self, rng):
        model = UNet(4, 4, 2)
        apply = jax.jit(model.apply)
        variables = random_variables(model, (16, 16, 2))
        x = rng.random((2, 16, 16, 2)).astype(np.float32)
        mask = np.asarray(apply(variables, x))
        assert (mask.shape, mask.dtype) == (x.shape, np.float32)
        assert 0 <= mask.min() < mask.max() <= 1
        other = x.copy()
        other[..., 1] = rng.random((2, 16, 16))
        change = np.abs(np.asarray(apply(variables, other)) - mask).max(axis=(0, 1, 2))
        assert (change > 0.01).all()  # of the left mask, too, though only the right channel is another

    def test_features_of_each_channel_follow_one_another(self, rng, monkeypatch):
        """Left's, then right's: so the weights of the first layer are laid out."""
        monkeypatch.setitem(INPUT_TRANSFORMS, "both", lambda x: jnp.stack([x, jnp.sqrt(x)], axis=-1))
        plain, model = UNet(2, 4, 2), UNet(2, 4, 2, input_transform="both")
        x, variables = rng.random((1, 16, 16, 2)).astype(np.float32), random_variables(plain, (16, 16, 2))
        kernel = variables["params"]["down1"]["kernel"]
        expected = jax.jit(plain.apply)(variables, x)
        none = np.zeros_like(kernel[:, :, :1])
        wide = [kernel[:, :, :1], none, kernel[:, :, 1:], none]
        variables["params"]["down1"]["kernel"] = np.concatenate(wide, axis=2)
        np.testing.assert_allclose(jax.jit(model.apply)(variables, x), expected, atol=1e-5)

    @pytest.mark.parametrize(
        ("channels", "shape"), [(1, (16, 16, 2)), (1, (16, 16, 1)), (2, (16, 16)), (2, (16, 16, 3))]
    )
    def test_other_channels_are_refused(self, channels, shape):
        with pytest.raises(ValueError, match=f"the network has {channels} channels, the patches are "):
            shapes_of(UNet(1, 4, channels), shape)

    def test_with_a_scale_and_standardised(self, rng):
        model = UNet(2, 4, 2, frequency_scale="zoned", frequency_bins=16, input_norm=True)
        shapes = shapes_of(model, (32, 16, 2))
        assert shapes["params"]["input_norm"]["scale"].shape == (16 * 2,)
        x = jax.ShapeDtypeStruct((3, 32, 16, 2), np.float32)
        mask = jax.eval_shape(model.apply, shapes, x)
        assert (mask.shape, mask.dtype) == (x.shape, np.float32)


class TestInputNorm:
    """The BatchNorm of the input, one of each bin."""

    @pytest.mark.parametrize("channels", [1, 2])
    def test_each_bin_of_each_channel_is_standardised_over_patches_and_frames(self, rng, channels):
        model = UNet(1, 4, channels, input_norm=True, input_transform="log1p")
        shape = (5, 16, 32) if channels == 1 else (5, 16, 32, channels)
        loudness = rng.uniform(0.1, 10, (16, 1) if channels == 1 else (16, 1, channels))
        x = (rng.random(shape) * loudness).astype(np.float32)
        variables = random_variables(model, shape[1:])
        before = variables["batch_stats"]["input_norm"]
        assert variables["params"]["input_norm"]["scale"].shape == (16 * channels,)

        @jax.jit
        def trained(variables, x):
            return model.apply(variables, x, train=True, mutable=["batch_stats"])[1]["batch_stats"]

        after = trained(variables, x)["input_norm"]
        features = np.log(1 + 100 * x).reshape(5, 16, 32, channels)
        mean, var = (f(features, axis=(0, 2)).ravel() for f in (np.mean, np.var))
        np.testing.assert_allclose(after["mean"], 0.9 * before["mean"] + 0.1 * mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(after["var"], 0.9 * before["var"] + 0.1 * var, rtol=1e-3)

    def test_it_is_what_a_network_without_it_sees_of_standardised_features(self, rng, monkeypatch):
        x = rng.random((2, 16, 16)).astype(np.float32)
        model = UNet(4, 4, input_norm=True, input_transform="log1p")
        variables = random_variables(model, (16, 16))
        stats, norm = variables["batch_stats"]["input_norm"], variables["params"]["input_norm"]
        ours = jax.jit(model.apply)(variables, x)

        def standardised(x):
            mean, var, scale, bias = (
                y[None, :, None] for y in (stats["mean"], stats["var"], norm["scale"], norm["bias"])
            )
            return ((log1p(x)[..., 0] - mean) / np.sqrt(var + np.float32(1e-5)) * scale + bias)[..., None]

        monkeypatch.setitem(INPUT_TRANSFORMS, "standardised", standardised)
        without = {k: {n: x for n, x in v.items() if n != "input_norm"} for k, v in variables.items()}
        theirs = jax.jit(UNet(4, 4, input_transform="standardised").apply)(without, x)
        np.testing.assert_allclose(ours, theirs, atol=1e-4)

    def test_in_bfloat16_it_is_float32(self):
        model = UNet(1, 4, dtype=jnp.dtype("bfloat16"), input_norm=True)
        with jax.numpy_dtype_promotion("standard"):  # Flax's BatchNorm mixes dtypes
            variables = shapes_of(model, (16, 16))
        assert {x.dtype for x in jax.tree.leaves(variables)} == {np.dtype(np.float32)}

    def test_networks_without_it_have_the_parameters_they_had(self):
        assert "input_norm" not in shapes_of(UNet(1, 4), (16, 16))["params"]


def test_a_feature_of_the_input_is_a_channel_of_the_first_layer(rng, monkeypatch):
    """Of a transform that is added to those there are."""

    def both(magnitude):
        return jnp.stack([magnitude, jnp.sqrt(magnitude)], axis=-1)

    monkeypatch.setitem(INPUT_TRANSFORMS, "both", both)
    model, x = UNet(4, 4, input_transform="both"), rng.random((2, 16, 32)).astype(np.float32)
    variables = random_variables(model, (16, 32))
    kernel = variables["params"]["down1"]["kernel"]
    assert kernel.shape == (4, 4, 2, 4)
    apply = jax.jit(model.apply)
    mask = apply(variables, x)
    assert mask.shape == x.shape
    first = np.concatenate([kernel[:, :, :1], np.zeros_like(kernel[:, :, :1])], axis=2)
    variables["params"]["down1"]["kernel"] = first
    without = apply(variables, x)
    assert np.abs(mask - without).max() > 0.01
    variables["params"]["down1"]["kernel"] = kernel[:, :, :1]
    np.testing.assert_allclose(jax.jit(UNet(4, 4).apply)(variables, x), without, atol=1e-5)


def test_frozen_statistics_are_used_and_left_alone(rng):
    x = rng.random((4, 16, 16)).astype(np.float32)
    model = UNet(4, 4, freeze_statistics=True)
    variables = random_variables(model, (16, 16))
    stats = variables["batch_stats"]

    @jax.jit
    def blocks(variables):
        kept = ["batch_stats", "intermediates"]
        return [model.apply(variables, x, train=train, mutable=kept)[1] for train in (True, False)]

    training, evaluation = blocks(variables)
    for name, after in training["batch_stats"].items():
        changed = any((after[k] != stats[name][k]).any() for k in after)
        assert changed == (not is_encoder(name)), name
    for name, value in training["intermediates"].items():
        same = np.array_equal(value[0], evaluation["intermediates"][name][0])
        assert same == is_encoder(name), name


def test_bfloat16_keeps_parameters_statistics_and_mask_in_float32():
    model = UNet(4, 5, dtype=jnp.dtype("bfloat16"))

    def apply(variables, x):
        return model.apply(variables, x, train=True, mutable=["batch_stats", "intermediates"])

    with jax.numpy_dtype_promotion("standard"):  # Flax's BatchNorm mixes dtypes
        variables = shapes_of(model, (32, 32))
        mask, updated = jax.eval_shape(apply, variables, jnp.ones((2, 32, 32)))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert mask.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(updated["batch_stats"])} == {jnp.dtype("float32")}
    assert updated["intermediates"]["down3_block"][0].dtype == jnp.bfloat16


@pytest.mark.parametrize("name", FORMS)
def test_a_network_has_its_convolutions_in_the_form_that_is_asked_for(name):
    model = UNet(2, 4, convolutions=name)
    lowered = jax.jit(model.apply).lower(shapes_of(model, (16, 16)), jnp.zeros((1, 16, 16)))
    assert ("stablehlo.convolution" in lowered.as_text()) == (name in ("lax", "cpu_forward"))


@pytest.mark.parametrize("platform", ["cpu", "gpu", None])
@jax.numpy_dtype_promotion("standard")  # Flax's BatchNorm mixes dtypes
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"channels": 2, "frequency_scale": "zoned", "frequency_bins": 64, "input_norm": True, "mixing": 2},
        {"dtype": jnp.bfloat16},
    ],
    ids=["as published", "with all that can be asked for", "bfloat16"],
)
def test_the_network_for_predicting_predicts_the_same_by_fewer_operations(rng, platform, options):
    model = UNet(4, 4, **options)
    frames, bins = 64, 128 if "frequency_scale" in options else 64
    x = rng.random((3, bins, frames, *([2] if model.channels == 2 else []))).astype(np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    variables = jax.tree.map(lambda s: rng.normal(0, 0.2, s.shape).astype(np.float32), shapes)
    variables["batch_stats"] = jax.tree.map(lambda x: np.abs(x) + 0.1, variables["batch_stats"])
    expected = jax.jit(model.apply)(variables, x)
    assert expected.std() > 1e-3
    fast, prepared = model.for_prediction(variables, bins, frames, platform)
    tolerance = 0.03 if "dtype" in options else 1e-5
    np.testing.assert_allclose(jax.jit(fast.apply)(prepared, x), expected, atol=tolerance)

    def operations(model, variables):
        return str(jax.make_jaxpr(model.clone(convolutions=fast.convolutions).apply)(variables, x))

    before, after = operations(model, variables), operations(fast, prepared)
    for operation in ("dot_general[", "conv_general_dilated["):
        assert after.count(operation) == before.count(operation)
    assert after.count("rsqrt") == before.count("rsqrt") - 7  # all norms of the convolutions


@pytest.mark.parametrize(
    ("statistics", "scale", "message"),
    [(-1e-6, 1, "a variance in the network is negative"), (1e-30, 1e38, "too large to compute with")],
)
def test_weights_that_cannot_be_predicted_with(statistics, scale, message):
    model = UNet(2, 4)
    variables = jax.tree.map(lambda s: np.ones(s.shape, np.float32), shapes_of(model, (16, 16)))
    variables["batch_stats"]["down2_norm"]["var"] *= np.float32(statistics)
    variables["params"]["down2_norm"]["scale"] *= np.float32(scale)
    with pytest.raises(ValueError, match=message):
        model.for_prediction(variables, 16, 16, "cpu")


class TestAgainstPyTorch:
    """The same weights, the same input: the same mask, loss, gradients and statistics."""

    def pair(self, width, depth, patch, rng):
        pytest.importorskip("torch", reason="PyTorch is not installed")
        from tests.torch_unet import TorchUNet, randomise, to_flax

        network = TorchUNet(width, depth)
        randomise(network, seed=3)
        mixture = np.abs(rng.standard_normal((4, *patch))).astype(np.float32)
        return network, UNet(width, depth), *to_flax(network), mixture

    def relative(self, value, reference):
        return np.abs(np.asarray(value) - reference).max() / np.abs(reference).max()

    @pytest.mark.parametrize(
        ("width", "depth", "patch"),
        [(4, 4, (32, 16)), pytest.param(8, 7, (256, 128), marks=pytest.mark.slow)],
        ids=["4 layers", "7 layers"],
    )
    def test_evaluation_mode(self, rng, width, depth, patch):
        network, model, params, stats, mixture = self.pair(width, depth, patch, rng)
        import torch

        with torch.no_grad():
            expected = network.eval()(torch.from_numpy(mixture)).numpy()
        mask = jax.jit(model.apply)({"params": params, "batch_stats": stats}, mixture)
        assert expected.std() > 0.01
        assert self.relative(mask, expected) < 1e-4

    @pytest.mark.slow
    def test_training_mode(self, rng):
        network, model, params, stats, mixture = self.pair(8, 7, (256, 128), rng)
        import torch

        from tests.torch_unet import gradients_to_flax, to_flax

        vocals = (mixture * rng.random(mixture.shape)).astype(np.float32)
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
            halvings = number if is_encoder(name) else depth - number
            n = 4 * (256 >> halvings) * (128 >> halvings)
            assert self.relative(new_stats[name]["mean"], statistics["mean"]) < 1e-4
            # PyTorch's new variance is unbiased, Flax's is not: n / (n - 1) apart.
            unbiased = 0.9 * stats[name]["var"] + (
                np.asarray(new_stats[name]["var"]) - 0.9 * stats[name]["var"]
            ) * n / (n - 1)
            assert self.relative(unbiased, statistics["var"]) < 1e-4, name


class TestMixing:
    def test_every_bin_sees_all_bins_of_its_frame_and_no_other_frame(self, rng):
        block = FrequencyMixing(4)
        x = jnp.asarray(rng.random((2, 16, 5, 3)).astype(np.float32))
        variables = block.init(jax.random.key(0), x, False)

        def bins(x):
            return block.apply(variables, x, False)[0, :, 2, 1]

        seen = np.asarray(jax.jacobian(bins)(x))[:, 0]  # [F, F, T, C]
        assert seen[:, :, 2, 1].any(axis=0).all()
        assert not seen[:, :, [0, 1, 3, 4]].any()
        assert not seen[:, :, :, [0, 2]].any()

    def test_it_is_two_dense_layers_beside_a_connection(self, rng):
        x = rng.random((2, 8, 3, 2)).astype(np.float32)
        block = FrequencyMixing(4)
        variables = block.init(jax.random.key(0), x, True)
        found, _ = block.apply(variables, x, True, mutable=["batch_stats"])
        params, y = jax.device_get(variables["params"]), x
        assert params["inner_kernel"].shape == (8, 2)
        for name in ("inner", "outer"):
            y = np.einsum("bftc,fg->bgtc", y, params[f"{name}_kernel"])
            y = (y - y.mean((0, 1, 2))) / np.sqrt(y.var((0, 1, 2)) + 1e-5)
            norm = params[f"{name}_norm"]
            y = np.maximum(y * norm["scale"] + norm["bias"], 0)
        np.testing.assert_allclose(found, x + y, rtol=1e-4, atol=1e-5)

    def test_it_belongs_to_the_encoder(self):
        plain, mixed = (shapes_of(UNet(4, 5, mixing=mixing), (32, 32))["params"] for mixing in (0, 8))
        assert mixed.keys() - plain.keys() == {f"down{n}_mixing" for n in range(1, 6)}
        assert all(map(is_encoder, mixed.keys() - plain.keys()))
