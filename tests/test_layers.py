import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vocalsep_jax.models import layers

FORMS = {
    "down": (layers.down_conv_matmul, layers.down_conv_lax, layers.down_conv),
    "up": (layers.up_conv_matmul, layers.up_conv_lax, layers.up_conv),
}
# Of the matmul form downwards: one channel, few outputs, and many.
SHAPES = [(1, 2, 2, 1, 3), (2, 8, 4, 3, 5), (1, 16, 16, 4, 1), (2, 32, 16, 3, 2), (1, 32, 32, 1, 2)]


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
    for form in FORMS[direction]:
        np.testing.assert_allclose(form(x, kernel), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("direction", ["down", "up"])
@pytest.mark.parametrize("side", [8, 24])
def test_gradients_of_the_forms_agree(rng, direction, side):
    x = rng.standard_normal((2, side, side, 3)).astype(np.float32)
    kernel = rng.standard_normal((4, 4, 3, 5)).astype(np.float32)

    def gradients(form):
        return jax.grad(lambda x, k: jnp.sum(jnp.sin(form(x, k))), argnums=(0, 1))(x, kernel)

    reference, *others = [gradients(form) for form in FORMS[direction]]
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
