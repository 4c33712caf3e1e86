import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vocalsep_jax.models import layers

FORMS = {
    "down": (layers.down_conv_matmul, layers.down_conv_lax, layers.down_conv, layers.down_conv_tiled),
    "up": (layers.up_conv_matmul, layers.up_conv_lax, layers.up_conv, layers.up_conv_tiled),
}
SHAPES = [
    (1, 2, 2, 1, 3),
    (2, 4, 4, 3, 2),
    (2, 8, 4, 3, 5),
    (1, 12, 20, 2, 3),
    (1, 16, 16, 4, 1),
    (2, 32, 16, 3, 2),
    (1, 32, 32, 1, 2),
]


def forms_for(direction, h, w):
    """All forms, or all but the tiled one, which needs whole tiles."""
    side = 4 if direction == "down" else 2
    return FORMS[direction] if h % side == w % side == 0 else FORMS[direction][:3]


@pytest.mark.parametrize("direction", ["down", "up"])
@pytest.mark.parametrize("shape", SHAPES)
def test_all_forms_agree_with_a_sum_over_the_definition(rng, direction, shape):
    b, h, w, c, o = shape
    x = rng.standard_normal((b, h, w, c)).astype(np.float32)
    kernel = rng.standard_normal((4, 4, c, o)).astype(np.float32)
    padded = np.zeros((b, 2 * h + 4, 2 * w + 4, o)) if direction == "up" else None
    if direction == "down":
        source = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))).astype(np.float64)
        expected = sum(
            source[:, i : i + h : 2, j : j + w : 2] @ kernel[i, j].astype(np.float64)
            for i in range(4)
            for j in range(4)
        )
    else:
        for i in range(4):
            for j in range(4):
                padded[:, i : i + 2 * h : 2, j : j + 2 * w : 2] += x @ kernel[i, j]
        expected = padded[:, 1 : 1 + 2 * h, 1 : 1 + 2 * w]
    for form in forms_for(direction, h, w):
        np.testing.assert_allclose(form(x, kernel), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("direction", ["down", "up"])
def test_tiles_keep_their_digits_where_the_input_is_nearly_constant(rng, direction):
    """Their differences and sums cancel there."""
    x = (10 + 0.1 * rng.standard_normal((2, 32, 32, 16))).astype(np.float32)
    kernel = 0.02 * rng.standard_normal((4, 4, 16, 8)).astype(np.float32)
    _, lax, _, tiled = FORMS[direction]
    expected = lax(x, kernel)
    assert np.abs(tiled(x, kernel) - expected).max() < 2e-5 * np.abs(expected).max()


@pytest.mark.parametrize("direction", ["down", "up"])
@pytest.mark.parametrize(("side", "channels"), [(6, 3), (8, 3), (24, 3), (8, 1)])
def test_gradients_of_the_forms_agree(rng, direction, side, channels):
    x = rng.standard_normal((2, side, side, channels)).astype(np.float32)
    kernel = rng.standard_normal((4, 4, channels, 5)).astype(np.float32)

    def gradients(form):
        return jax.grad(lambda x, k: jnp.sum(jnp.sin(form(x, k))), argnums=(0, 1))(x, kernel)

    reference, *others = [gradients(form) for form in forms_for(direction, side, side)]
    for other in others:
        for a, b in zip(reference, other, strict=True):
            assert np.abs(a - b).max() < 1e-5 * np.abs(a).max()


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
def test_tiles_take_nine_sixteenths_of_the_multiplications_forwards_and_backwards(direction):
    x, kernel = jnp.zeros((2, 32, 16, 3)), jnp.zeros((4, 4, 3, 5))
    matmul, tiled = (multiplications(FORMS[direction][i], x, kernel) for i in (0, 3))
    assert tiled * 16 == matmul * 9


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
    ],
)
def test_tiles_are_taken_where_they_are_whole_many_and_exact(shape, dtype, products):
    b, h, w, c, o = shape
    x, kernel = jnp.zeros((b, h, w, c), dtype), jnp.zeros((4, 4, c, o), dtype)
    expected = products if isinstance(products, dict) else {"down": products, "up": products}
    for direction, number in expected.items():
        form = {"down": layers.down_conv_cpu, "up": layers.up_conv_cpu}[direction]
        assert str(jax.make_jaxpr(form)(x, kernel)).count("dot_general[") == number, direction
