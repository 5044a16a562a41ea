import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uatmc_jax.numerics import kth_largest


@pytest.mark.parametrize("shape", [(9, 200), (200, 9)])
def test_kth_largest_equals_sorting_with_infinities_and_ties(shape):
    rng = np.random.default_rng(0)
    values = rng.choice([-np.inf, -1e30, -2.5, -0.0, 0.0, 1e-30, 1.0, 7.25], shape)
    values = values.astype(np.float32)
    for k in (1, 4, 9):
        expected = -np.sort(-values, axis=0)[k - 1]
        np.testing.assert_array_equal(kth_largest(jnp.asarray(values), k), expected)


@pytest.mark.parametrize("shape", [(9, 20), (200, 2)])
def test_kth_largest_has_the_gradient_of_a_selection(shape):
    values = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    gradient = jax.grad(lambda x: jnp.sum(3.0 * kth_largest(x, 4)))(values)
    chosen = np.argsort(-np.asarray(values), axis=0)[3]
    expected = np.zeros(shape)
    expected[chosen, np.arange(shape[1])] = 3.0
    np.testing.assert_array_equal(gradient, expected)
