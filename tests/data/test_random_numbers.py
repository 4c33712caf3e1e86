import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.extend.random import threefry_2x32

from vocalsep_jax.data.random_numbers import below, random_words, uniform


def test_the_generator_gives_its_known_answer():
    """The one of those published with Random123 whose counter has one word: all zeros."""
    assert random_words(0, np.zeros(1, np.uint32), 1)[0, 0] == 0x6B200159


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_random_words_are_those_of_jax(seed, index):
    """JAX's own Threefry, an independent implementation, under the same keys."""
    ours = random_words(seed, np.array([index], np.uint32), 12)
    for draw in (0, 1, 11):
        key = np.array([seed, draw], np.uint32)
        theirs = threefry_2x32(key, np.array([index, 0], np.uint32))
        assert ours[draw, 0] == np.asarray(theirs)[0]


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=9), st.integers(1, 2**31 - 1))
def test_integers_below_a_limit_are_the_upper_half_of_the_product(words, limit):
    ours = below(np.array(words, np.uint32), np.array([limit], np.int32))
    assert ours.tolist() == [word * limit >> 32 for word in words]


def test_numbers_are_uniform():
    u, other = uniform(random_words(3, np.arange(100_000, dtype=np.uint32), 7)[5:])
    assert u.min() >= 0
    assert u.max() < 1
    histogram = np.histogram(u, 20, (0, 1))[0]
    assert np.abs(histogram - 5000).max() < 5 * np.sqrt(5000)
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 0.02
    assert abs(np.corrcoef(u, other)[0, 1]) < 0.02


def test_numpy_and_jax_give_the_same_bits():
    def numbers(index, limit):
        words = random_words(2**32 - 1, index, 5)
        return words, uniform(words), below(words[4], limit)

    index = np.arange(4000, dtype=np.uint32) + np.uint32(2**32 - 4000)
    limit = np.array([2**31 - 1], np.int32)
    on_device = jax.jit(numbers)(jnp.asarray(index), jnp.asarray(limit))
    for ours, expected in zip(on_device, numbers(index, limit), strict=True):
        assert ours.dtype == expected.dtype
        np.testing.assert_array_equal(ours, expected)
