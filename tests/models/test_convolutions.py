from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vocalsep_jax.models import convolutions

DOWN, UP = (partial(convolutions.convolve, choice) for choice in convolutions.FORMS["auto"])
FORMS = {
    "down": (convolutions.down_conv_matmul, convolutions.down_conv_lax, DOWN, convolutions.down_conv_tiled),
    "up": (
        convolutions.up_conv_matmul,
        convolutions.up_conv_lax,
        UP,
        convolutions.up_conv_tiled,
        convolutions.up_conv_large_tiles,
    ),
}


def forms_for(direction, h, w):
    """All forms, or those that need no tiles, or no large ones, where these are not whole."""
    side = 4 if direction == "down" else 2
    if h % side or w % side:
        return FORMS[direction][:3]
    return FORMS[direction] if h % 4 == w % 4 == 0 else FORMS[direction][:4]


def by_definition(direction, x, kernel):
    """PyTorch's `Conv2d` and `ConvTranspose2d`, as sums over the kernel's positions, float64."""
    b, h, w, _ = x.shape
    x, kernel = x.astype(np.float64), kernel.astype(np.float64)
    places = [(i, j) for i in range(4) for j in range(4)]
    if direction == "down":
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        return sum(padded[:, i : i + h : 2, j : j + w : 2] @ kernel[i, j] for i, j in places)
    padded = np.zeros((b, 2 * h + 4, 2 * w + 4, kernel.shape[-1]))
    for i, j in places:
        padded[:, i : i + 2 * h : 2, j : j + 2 * w : 2] += x @ kernel[i, j]
    return padded[:, 1 : 1 + 2 * h, 1 : 1 + 2 * w]


@pytest.mark.parametrize("direction", ["down", "up"])
@pytest.mark.parametrize(
    "shape",
    [
        (1, 2, 6, 1, 3),  # one channel; no whole tiles
        (2, 4, 4, 3, 2),  # one tile down
        (2, 8, 12, 3, 1),
        (1, 32, 16, 3, 2),  # enough positions for tiles to be chosen
    ],
)
def test_all_forms_agree_with_a_sum_over_the_definition(rng, direction, shape):
    b, h, w, c, o = shape
    x = rng.standard_normal((b, h, w, c)).astype(np.float32)
    kernel = rng.standard_normal((4, 4, c, o)).astype(np.float32)
    expected = by_definition(direction, x, kernel)
    for y in jax.jit(lambda x, k: [form(x, k) for form in forms_for(direction, h, w)])(x, kernel):
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("direction", ["down", "up"])
def test_tiles_keep_their_digits_where_the_input_is_nearly_constant(rng, direction):
    """Their differences and sums cancel there."""
    x = (10 + 0.1 * rng.standard_normal((2, 32, 32, 16))).astype(np.float32)
    kernel = 0.02 * rng.standard_normal((4, 4, 16, 8)).astype(np.float32)
    _, lax, _, *tiled = FORMS[direction]
    expected, *ours = jax.jit(lambda x, k: [form(x, k) for form in (lax, *tiled)])(x, kernel)
    for y in ours:
        assert np.abs(y - expected).max() < 2e-5 * np.abs(expected).max()


@pytest.mark.parametrize("direction", ["down", "up"])
@pytest.mark.parametrize(("side", "channels"), [pytest.param(8, 1, marks=pytest.mark.slow), (16, 3)])
def test_gradients_of_the_forms_agree(rng, direction, side, channels):
    x = rng.standard_normal((2, side, side, channels)).astype(np.float32)
    kernel = rng.standard_normal((4, 4, channels, 5)).astype(np.float32)

    @jax.jit
    def gradients(x, kernel):
        return [
            jax.grad(lambda x, k, form=form: jnp.sum(jnp.sin(form(x, k))), argnums=(0, 1))(x, kernel)
            for form in forms_for(direction, side, side)
        ]

    reference, *others = gradients(x, kernel)
    assert len(others) == (3 if direction == "down" else 4)
    for other in others:
        for a, b in zip(reference, other, strict=True):
            assert np.abs(a - b).max() < 1e-5 * np.abs(a).max()


@pytest.mark.parametrize("direction", ["down", "up"])
@pytest.mark.parametrize("side", [4, 32])
def test_products_in_bfloat16_where_jax_is_asked_for_them(rng, direction, side):
    """Outputs and gradients are as precise as numbers of eight bits; without being asked, exact."""
    form = {"down": DOWN, "up": UP}[direction]
    x = rng.standard_normal((2, side, side, 32)).astype(np.float32)
    kernel = rng.standard_normal((4, 4, 32, 8)).astype(np.float32)
    expected = by_definition(direction, x, kernel)
    seen = rng.standard_normal(expected.shape).astype(np.float32)

    def all_of(x, kernel):
        y, gradients = jax.vjp(form, x, kernel)
        return y, *gradients(seen)

    exact = jax.jit(all_of)(x, kernel)
    with jax.default_matmul_precision("bfloat16"):
        program = jax.jit(all_of).lower(x, kernel).compile()
        rounded = jax.jit(all_of)(x, kernel)
    assert "bf16[" in program.as_text()
    np.testing.assert_allclose(exact[0], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    for a, b in zip(rounded, exact, strict=True):
        assert a.dtype == np.float32
        error = np.sqrt(np.mean(np.square(a - b)) / np.mean(np.square(b)))
        assert 1e-4 < error < 1e-2


def test_what_prediction_is_prepared_for_does_not_depend_on_the_precision():
    kernel = np.zeros((4, 4, 64, 32), np.float32)
    for choice in convolutions.FORMS["cpu_forward"]:
        form = choice(kernel, 32, 32)
        with jax.default_matmul_precision("bfloat16"):
            assert choice(kernel, 32, 32) is form


@pytest.mark.parametrize("direction", ["down", "up"])
def test_the_form_is_chosen_by_the_platform_it_is_lowered_for(direction):
    operation = FORMS[direction][2]
    x, kernel = jnp.zeros((1, 8, 8, 2)), jnp.zeros((4, 4, 2, 3))
    for platform, has_convolution in (("cpu", False), ("tpu", True), ("cuda", True)):
        text = jax.jit(operation).trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
        assert ("stablehlo.convolution" in text) == has_convolution, platform
        assert ("stablehlo.dot_general" in text) != has_convolution, platform


def multiplications(form, x, kernel):
    """Of all matrix products of a form and of its gradients."""

    def step(x, kernel):
        y, gradients = jax.vjp(form, x, kernel)
        return gradients(y)

    total = 0
    for equation in jax.make_jaxpr(step)(x, kernel).eqns:
        if equation.primitive.name == "dot_general":
            contracted = equation.params["dimension_numbers"][0][0]
            lhs = equation.invars[0].aval.shape
            total += equation.outvars[0].aval.size * int(np.prod([lhs[i] for i in contracted]))
    return total


@pytest.mark.parametrize("direction", ["down", "up"])
def test_tiles_take_fewer_multiplications_forwards_and_backwards(direction):
    x, kernel = jnp.zeros((2, 32, 16, 3)), jnp.zeros((4, 4, 3, 5))
    matmul, _, _, tiled, *large = (multiplications(form, x, kernel) for form in FORMS[direction])
    assert tiled * 16 == matmul * 9
    assert [n * 64 for n in large] == [matmul * 25] * len(large)


@pytest.mark.parametrize(
    ("shape", "dtype", "products"),
    [
        ((1, 16, 16, 2, 3), jnp.float32, 9),
        ((1, 4, 4, 2, 3), jnp.float32, 1),
        ((1, 18, 18, 2, 3), jnp.float32, {"down": 1, "up": 9}),
        ((1, 17, 18, 2, 3), jnp.float32, {"up": 1}),
        ((1, 32, 32, 1, 3), jnp.float32, 1),
        ((1, 32, 32, 3, 1), jnp.float32, 1),
        ((1, 32, 32, 2, 3), jnp.bfloat16, 1),
        ((1, 32, 32, 2, 3), jnp.float32, {"up": 25}),
        ((1, 34, 34, 2, 3), jnp.float32, {"up": 9}),
    ],
)
def test_tiles_are_taken_where_they_are_whole_many_and_exact(shape, dtype, products):
    b, h, w, c, o = shape
    x, kernel = jnp.zeros((b, h, w, c), dtype), jnp.zeros((4, 4, c, o), dtype)
    expected = products if isinstance(products, dict) else {"down": products, "up": products}
    for direction, number in expected.items():
        choice = {"down": convolutions.down_conv_cpu, "up": convolutions.up_conv_cpu}[direction]
        jaxpr = jax.make_jaxpr(partial(convolutions.convolve, choice))(x, kernel)
        assert str(jaxpr).count("dot_general[") == number, direction
