import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uatmc_jax.numerics import kth_largest, kth_largest_beside


@pytest.mark.parametrize("shape", [(9, 200), (33, 50), (200, 9), (1200, 9)])
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


@pytest.mark.parametrize("compiled", [False, True])
def test_of_zeros_of_either_sign_the_first_is_selected(compiled):
    """XLA drops a sum with 0, which would have made -0 a 0."""
    values = jnp.array([[-0.0, -1.0, -1.0], [0.0, -0.0, -0.0], [-0.0, 0.0, 1.0]])

    def gradient(select, x):
        of_sum = jax.grad(lambda x: jnp.sum(select(x, 1)))
        return (jax.jit(of_sum) if compiled else of_sum)(x)

    assert gradient(kth_largest, values).argmax(0).tolist() == [0, 1, 2]
    beside = jnp.full((1, 3), -jnp.inf)
    of_two = gradient(lambda x, k: kth_largest_beside(x, beside, k), values)
    assert of_two.argmax(0).tolist() == [0, 1, 2]


ENTRIES = np.array([-np.inf, -1e30, -2.5, -0.0, 0.0, 1e-30, 1.0, 7.25, np.inf], np.float32)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 10_000), st.sampled_from([(1, 1), (3, 8), (8, 3), (40, 60), (97, 30), (5, 0)])
)
def test_the_kth_largest_of_two_tables_is_that_of_both_together(seed, sizes):
    rng = np.random.default_rng(seed)
    values, beside = (rng.choice(ENTRIES, (rows, 50)) for rows in sizes)
    values[:, :10] = rng.normal(size=values[:, :10].shape)
    beside = -np.sort(-beside, axis=0)
    together = -np.sort(-np.concatenate([values, beside]), axis=0)
    for k in {1, 2, min(sizes) or 1, sum(sizes) // 2 + 1, sum(sizes)} - {0}:
        if k <= sum(sizes):
            found = kth_largest_beside(jnp.asarray(values), jnp.asarray(beside), k)
            np.testing.assert_array_equal(found, together[k - 1])


def test_the_kth_largest_of_two_tables_moves_with_the_first_alone():
    """The selected entry's column has gradient 3, and none where the second table has it."""
    values = jnp.array([[1.0, 9.0, 2.0], [4.0, 8.0, 2.0]])
    beside = jnp.array([[5.0, 7.0, 2.0], [3.0, 6.0, 2.0]])

    def total(values, beside):
        return jnp.sum(3.0 * kth_largest_beside(values, beside, 2))

    by_values, by_beside = jax.grad(total, (0, 1))(values, beside)
    assert by_values.tolist() == [[0.0, 0.0, 3.0], [3.0, 3.0, 0.0]]
    assert not by_beside.any()
    (by_values,) = jax.grad(lambda x: jnp.sum(kth_largest_beside(x, beside, 3)), (0,))(values)
    # 3 and 7 are the second table's; of equal entries the first table's first is selected.
    assert by_values.tolist() == [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
