"""The two convolutions of the U-Net, each with the lowering that suits the device it is compiled for.

Both layers compute what PyTorch's `Conv2d(4, stride=2, padding=1)` and
`ConvTranspose2d(4, stride=2, padding=1)` compute. Three forms of each give the same numbers, to rounding:

* *matmul*: space-to-depth (or depth-to-space) around a 2x2 convolution written as one matrix
  product. XLA's CPU backend has fast matrix products but no fast gradient of a transposed
  convolution, so this is a form for CPUs.
* *tiled*: the 2x2 convolution of *matmul* in fewer multiplications, in tiles that take nine matrix
  products (or 25, of larger tiles) each: the form for CPUs where a layer has enough positions.
* *lax*: `lax.conv_general_dilated`, the form GPUs and TPUs have kernels for.

`jax.lax.platform_dependent` chooses when the program is lowered, so a program exported for, or
placed on, another platform than the default one still gets the right form.

Each form has two parts: what it makes of the kernel alone, and what it does with the input. Training does
both at each step; prediction does the first once (`unet.UNet.for_prediction`).

Axis letters: `B` batch, `H` height, `W` width, `C` input channels, `O` output channels.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Array = jax.Array
_DIMENSIONS = ("NHWC", "HWIO", "NHWC")

_FEW = 64
"""Least positions (rows x columns, on a layer's smaller side) for which tiles are used.

With fewer, moving the weights takes most of the time.
"""

_MANY = 1024
"""Least positions for which large tiles are used: with fewer, the 25 sums of the kernel take too long."""

_FEW_CHANNELS = 32
"""Most input channels for which XLA's own convolution is faster than tiles, forward, on CPUs."""


class Form(NamedTuple):
    """A way to compute a convolution.

    Attributes:
      weights: kernel `[4, 4, C, O]`, of NumPy or of JAX, to the arrays that `convolve` takes.
      convolve: `x` `[B, H, W, C]` and those to `[B, H/2 or 2H, W/2 or 2W, O]`.
    """

    weights: Callable[[Any], Any]
    convolve: Callable[[Array, Any], Array]

    def __call__(self, x: Array, kernel: Array) -> Array:
        """The convolution of `x` by `kernel`."""
        return self.convolve(x, self.weights(kernel))


def _bfloat16_products() -> bool:
    """Whether JAX is asked for matrix products in bfloat16, which XLA leaves undone on CPUs."""
    return jax.config.jax_default_matmul_precision == "bfloat16"  # type: ignore[attr-defined]


def _product(a: Array, k: Array) -> Array:
    """`a` `[P, C]` times `k` `[C, O]`."""
    if a.dtype == jnp.float32 and _bfloat16_products():
        return _product_of_bfloat16(a, k)
    return a @ k


@jax.custom_vjp
def _product_of_bfloat16(a: Array, k: Array) -> Array:
    """The product of both rounded to bfloat16, summed in float32; so are those of its gradient.

    CPUs that multiply bfloat16 do so at twice the rate, if the sums are asked for in float32.
    """
    return _product_and_kept(a, k)[0]


def _product_and_kept(a: Array, k: Array) -> tuple[Array, tuple[Array, Array]]:
    a, k = a.astype(jnp.bfloat16), k.astype(jnp.bfloat16)
    return _summed_product(a, k, 1, 0), (a, k)


def _gradients_of_product(kept: tuple[Array, Array], d: Array) -> tuple[Array, Array]:
    (a, k), d = kept, d.astype(jnp.bfloat16)
    return _summed_product(d, k, 1, 1), _summed_product(a, d, 0, 0)


def _summed_product(a: Array, b: Array, axis: int, other: int) -> Array:
    """The products of `a` and `b`, summed in float32 over an axis of each."""
    axes = (((axis,), (other,)), ((), ()))
    return lax.dot_general(a, b, axes, preferred_element_type=jnp.float32)


_product_of_bfloat16.defvjp(_product_and_kept, _gradients_of_product)


def _down_matmul_weights(kernel: Any) -> Any:
    """`[16 C, O]`; the 16 positions by cells, but for one channel."""
    *_, c, o = kernel.shape
    if c == 1:
        return kernel.reshape(16, o)
    return _kernel_cells(kernel).transpose(0, 2, 1, 3, 4, 5).reshape(16 * c, o)


def _down_matmul(x: Array, weights: Array) -> Array:
    """4x4 convolution with stride 2 and padding 1, as one matrix product; H and W even."""
    b, h, w, c = x.shape
    o = weights.shape[-1]
    rows, columns = h // 2, w // 2
    if c == 1:
        # Kernel positions first: the kernel's gradient is then a product that needs nothing transposed.
        image = jnp.pad(x[..., 0], ((0, 0), (1, 1), (1, 1)))
        taps = jnp.stack([image[:, i : i + h : 2, j : j + w : 2] for i in range(4) for j in range(4)])
        y = jnp.einsum("kp,ko->po", taps.reshape(16, -1), weights)
        return y.reshape(b, rows, columns, o)
    # An output sums over 2x2 cells, two along each axis: cell (i, j) meets kernel cell (i, j).
    cells = _cells(x).transpose(0, 1, 3, 2, 4, 5)
    cells = cells.reshape(*cells.shape[:3], 4 * c)
    beside = [cells[:, i : i + rows, j : j + columns] for i in (0, 1) for j in (0, 1)]
    flat = jnp.concatenate(beside, axis=-1).reshape(-1, 16 * c)
    return _product(flat, weights).reshape(b, rows, columns, o)


down_conv_matmul = Form(_down_matmul_weights, _down_matmul)


class Tiles(NamedTuple):
    """How the products of polynomials of m and of two terms are computed by m + 1 multiplications.

    Toom and Cook: both are evaluated at m points and at infinity, the values multiplied, and the product's
    coefficients interpolated. Along an axis, m inputs of the layer up add such a product to m + 1 cells
    of its output; the layer down is the transpose of that (Winograd's F(m, 2)). A direct computation takes
    2 m multiplications.

    Attributes:
      inputs: values of m terms, `[m + 1, m]`.
      kernel: values of two terms, `[m + 1, 2]`.
      outputs: coefficients by values, `[m + 1, m + 1]`.
    """

    inputs: np.ndarray
    kernel: np.ndarray
    outputs: np.ndarray

    @classmethod
    def at(cls, *points: float) -> Tiles:
        """With m points besides infinity."""
        m = len(points)

        def values(terms: int) -> np.ndarray:
            return np.array([*(np.power(p, np.arange(terms)) for p in points), np.eye(terms)[-1]])

        zero_at_all = np.polynomial.polynomial.polyfromroots(points)
        outputs = np.zeros((m + 1, m + 1))
        outputs[:, m] = zero_at_all
        for j, p in enumerate(points):
            one_at_p = np.polynomial.polynomial.polyfromroots(np.delete(points, j))
            outputs[:m, j] = one_at_p / np.polynomial.polynomial.polyval(p, one_at_p)
        return cls(values(m), values(2), outputs)

    @property
    def side(self) -> int:
        """m."""
        return self.inputs.shape[1]

    def kernel_points(self, kernel: Any) -> list[Any]:
        """The kernel in the (m + 1)^2 products of a tile: `[2, 2, C, O]` each, by place in a cell."""
        rows = _combined(self.kernel, list(_kernel_cells(kernel)))
        return [point for row in rows for point in _combined(self.kernel, [row[:, 0], row[:, 1]])]


def _combined(matrix: np.ndarray, arrays: Sequence[Any]) -> list[Any]:
    """The sums of arrays by each row of a matrix, without what is 0 in it."""
    return [
        functools.reduce(
            operator.add,
            [
                a if factor == 1 else float(factor) * a
                for factor, a in zip(row, arrays, strict=True)
                if factor
            ],
        )
        for row in matrix
    ]


_TWO = Tiles.at(0, 1)
"""Tiles of 2x2: nine sixteenths of the multiplications, by factors of 1 and -1."""

_FOUR = Tiles.at(0, 1, -1, 0.5)
"""Tiles of 4x4: 25/64 of them. The sums' larger factors cost half a digit."""


def _down_tiled_weights(kernel: Any) -> list[Any]:
    """Nine times `[4 C, O]`."""
    *_, c, o = kernel.shape
    return [point.reshape(4 * c, o) for point in _TWO.kernel_points(kernel)]


def _down_tiled(x: Array, weights: Sequence[Array]) -> Array:
    """The same as `_down_matmul` in 9/16 of its multiplications; H and W multiples of 4."""
    b, h, w, c = x.shape
    rows, columns = h // 4, w // 4

    def points(cells: Array, axis: int, tiles: int) -> list[Array]:
        three = [lax.slice_in_dim(cells, i, i + 2 * tiles - 1, stride=2, axis=axis) for i in range(3)]
        return _combined(_TWO.outputs.T, three)

    cells = [points(row, 3, columns) for row in points(_cells(x), 1, rows)]
    flat = [cell.transpose(0, 1, 3, 2, 4, 5).reshape(-1, 4 * c) for row in cells for cell in row]
    products = [_product(a, k).reshape(b, rows, columns, -1) for a, k in zip(flat, weights, strict=True)]
    upper, lower = zip(*[_combined(_TWO.inputs.T, products[j::3]) for j in range(3)], strict=True)
    y = jnp.stack([jnp.stack(_combined(_TWO.inputs.T, row), axis=3) for row in (upper, lower)], axis=2)
    return y.reshape(b, h // 2, w // 2, -1)


down_conv_tiled = Form(_down_tiled_weights, _down_tiled)


def _cells(x: Array) -> Array:
    """The 2x2 cells of the image with a border of one: `[B, H/2 + 1, 2, W/2 + 1, 2, C]`."""
    b, h, w, c = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return padded.reshape(b, h // 2 + 1, 2, w // 2 + 1, 2, c)


def _kernel_cells(kernel: Any) -> Any:
    """`[2, 2, 2, 2, C, O]`: cell along the height, place in it, cell along the width, place in it."""
    return kernel.reshape(2, 2, 2, 2, *kernel.shape[2:])


def _as_it_is(kernel: Any) -> Any:
    return kernel


def _down_lax(x: Array, kernel: Array) -> Array:
    """The same as `_down_matmul`, by `lax.conv_general_dilated`."""
    return lax.conv_general_dilated(
        x, kernel, window_strides=(2, 2), padding=((1, 1), (1, 1)), dimension_numbers=_DIMENSIONS
    )


down_conv_lax = Form(_as_it_is, _down_lax)


def _up_matmul_weights(kernel: Any) -> Any:
    """`[C, 16 O]`."""
    *_, c, o = kernel.shape
    return kernel.transpose(2, 0, 1, 3).reshape(c, 16 * o)


def _up_matmul(x: Array, weights: Array) -> Array:
    """4x4 transposed convolution with stride 2 and padding 1, as one matrix product.

    Output pixel `2i + k - 1` receives `x[i] * kernel[k]` along each axis.
    """
    b, h, w, c = x.shape
    o = weights.shape[1] // 16
    # The product comes first, for all 16 kernel positions of each input pixel: the input is read once and
    # never copied, which matters where it has many more channels than the output (the last layer).
    taps = _product(x.reshape(-1, c), weights).reshape(b, h, w, 2, 2, 2, 2, o)
    taps = jnp.pad(taps, ((0, 0), (1, 1), (1, 1), *[(0, 0)] * 5))
    # Output 2p - 1 + r (r = 0, 1) sums x[p] * kernel[r] and x[p - 1] * kernel[2 + r].
    y = jnp.zeros((b, h + 1, w + 1, 2, 2, o), x.dtype)
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        y = y + taps[:, 1 - i : 2 - i + h, 1 - j : 2 - j + w, i, :, j]
    y = y.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h + 2, 2 * w + 2, o)
    return y[:, 1:-1, 1:-1]


up_conv_matmul = Form(_up_matmul_weights, _up_matmul)


def _up_tiled_weights(tiles: Tiles, kernel: Any) -> list[Any]:
    """(m + 1)^2 times `[C, 4 O]`."""
    *_, c, o = kernel.shape
    return [point.transpose(2, 0, 1, 3).reshape(c, 4 * o) for point in tiles.kernel_points(kernel)]


def _up_tiled(tiles: Tiles, x: Array, weights: Sequence[Array]) -> Array:
    """The same as `_up_matmul` in fewer multiplications; H and W multiples of m."""
    b, h, w, c = x.shape
    o, m = weights[0].shape[1] // 4, tiles.side
    parts = x.reshape(b, h // m, m, w // m, m, c)
    rows = _combined(tiles.inputs, [parts[:, :, i] for i in range(m)])
    flat = [
        point.reshape(-1, c)
        for row in rows
        for point in _combined(tiles.inputs, [row[..., j, :] for j in range(m)])
    ]
    # The sums of large tiles would make the error of products in bfloat16 six times as large.
    product = _product if m == 2 else operator.matmul
    products = [
        product(a, k).reshape(b, h // m, w // m, 2, 2, o) for a, k in zip(flat, weights, strict=True)
    ]

    def cells(axis: int, values: Sequence[Array]) -> Array:
        # The last cell of a tile is the first of the next one.
        def pad(a: Array, before: int, after: int) -> Array:
            return jnp.pad(a, [(before, after) if i == axis else (0, 0) for i in range(a.ndim)])

        first, *between, last = _combined(tiles.outputs, values)
        all_of_tile = [pad(first, 0, 1) + pad(last, 1, 0), *(pad(cell, 0, 1) for cell in between)]
        y = jnp.stack(all_of_tile, axis=axis + 1)
        y = y.reshape(*first.shape[:axis], -1, *first.shape[axis + 1 :])
        return lax.slice_in_dim(y, 0, y.shape[axis] - (m - 1), axis=axis)

    y = cells(1, [cells(2, products[i : i + m + 1]) for i in range(0, (m + 1) ** 2, m + 1)])
    y = y.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h + 2, 2 * w + 2, o)
    return y[:, 1:-1, 1:-1]


up_conv_tiled, up_conv_large_tiles = (
    Form(partial(_up_tiled_weights, tiles), partial(_up_tiled, tiles)) for tiles in (_TWO, _FOUR)
)


def _up_lax_weights(kernel: Any) -> Any:
    return kernel[::-1, ::-1]


def _up_lax(x: Array, kernel: Array) -> Array:
    """The same as `_up_matmul`, by `lax.conv_general_dilated` on the dilated input."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(1, 1),
        padding=((2, 2), (2, 2)),
        lhs_dilation=(2, 2),
        dimension_numbers=_DIMENSIONS,
    )


up_conv_lax = Form(_up_lax_weights, _up_lax)


Choice = Callable[[Any, int, int], Form]
"""The form for a layer: of its kernel, or what has that one's shape and dtype, and its input's H and W."""


def down_conv_cpu(kernel: Any, h: int, w: int) -> Form:
    """The form for CPUs: tiles where these are faster."""
    return down_conv_tiled if _suits_tiles(h // 2, w // 2, kernel) else down_conv_matmul


def up_conv_cpu(kernel: Any, h: int, w: int) -> Form:
    """The form for CPUs: tiles where these are faster; large ones always multiply float32."""
    return _up_conv_cpu(kernel, h, w, math.inf if _bfloat16_products() else _MANY)


def up_conv_cpu_forward(kernel: Any, h: int, w: int) -> Form:
    """The form for CPUs where the kernel's sums are made beforehand: large tiles pay sooner.

    It does not look at the precision of products, which may be another one when the kernel is prepared.
    """
    return _up_conv_cpu(kernel, h, w, _MANY // 4)


def _up_conv_cpu(kernel: Any, h: int, w: int, many: float) -> Form:
    """Tiles where these are faster, and large ones from `many` positions on."""
    if not _suits_tiles(h, w, kernel, outputs=3):
        return up_conv_matmul
    large = h % 4 == w % 4 == 0 and h * w >= many
    return up_conv_large_tiles if large else up_conv_tiled


def down_conv_cpu_forward(kernel: Any, h: int, w: int) -> Form:
    """The form for CPUs where no gradient is asked for: XLA's own convolution where there are few channels.

    It takes 0.6 to 0.8 of the time of tiles there; its gradients take far longer. One or two channels, the
    song's own, are fewer than it is made for.
    """
    few = 2 < kernel.shape[2] <= _FEW_CHANNELS and kernel.dtype == jnp.float32
    return down_conv_lax if few else down_conv_cpu(kernel, h, w)


def _suits_tiles(rows: int, columns: int, kernel: Any, outputs: int = 2) -> bool:
    """Whether a layer with so many positions on its smaller side is to be computed in tiles.

    With one channel in, or fewer than `outputs` out, sums of cells cost more than the products they save:
    the layers up have larger sums, over their outputs. In bfloat16 the sums would be rounded.
    """
    whole = rows % 2 == 0 and columns % 2 == 0
    channels = kernel.shape[2] > 1 and kernel.shape[3] >= outputs
    return whole and rows * columns >= _FEW and channels and kernel.dtype == jnp.float32


def convolve(choice: Choice, x: Array, kernel: Array) -> Array:
    """The convolution of `x` `[B, H, W, C]` by `kernel` `[4, 4, C, O]`."""
    return choice(kernel, *x.shape[1:3])(x, kernel)


def _always(form: Form) -> Choice:
    return lambda kernel, h, w: form


def _by_platform(cpu: Choice, other: Choice) -> Choice:
    """The form that is fastest on the platform a program is compiled for."""
    here, there = partial(convolve, cpu), partial(convolve, other)

    def by_platform(x: Array, kernel: Array) -> Array:
        return lax.platform_dependent(x, kernel, cpu=here, default=there)

    return _always(Form(_as_it_is, by_platform))


_LAX = _always(down_conv_lax), _always(up_conv_lax)

FORMS: dict[str, tuple[Choice, Choice]] = {
    "auto": (_by_platform(down_conv_cpu, _LAX[0]), _by_platform(up_conv_cpu, _LAX[1])),
    "cpu": (down_conv_cpu, up_conv_cpu),
    "cpu_forward": (down_conv_cpu_forward, up_conv_cpu_forward),
    "matmul": (_always(down_conv_matmul), _always(up_conv_matmul)),
    "lax": _LAX,
}
"""The two convolutions, down and up, in each form that a whole network can have."""
