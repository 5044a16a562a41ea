import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.extend.core import jaxprs_in_params

from tests import oracles
from tests.conftest import make_interactions
from uatmc_jax.models import make_graph, mean_neighbours, sum_neighbours

N_USERS, N_ITEMS = 5, 4
pair_sets = st.sets(
    st.tuples(st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 1)), min_size=1, max_size=20
)


def values(width=3):
    return np.random.default_rng(0).normal(size=(N_USERS + N_ITEMS, width)).astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(pair_sets, st.sampled_from([None, 1, 2, 8]))
def test_mean_equals_dense(pairs, width):
    pairs = make_interactions(pairs)
    graph = make_graph(pairs, N_USERS, N_ITEMS, width)
    expected = oracles.mean_matrix(pairs, N_USERS, N_ITEMS) @ values()
    np.testing.assert_allclose(mean_neighbours(graph, values()), expected, rtol=1e-5, atol=1e-6)
    for side in (graph.users, graph.items):
        assert (np.diff(side.receivers) >= 0).all()


PAIRS = make_interactions([(0, 0), (0, 1), (0, 2), (1, 1), (2, 1), (4, 1), (4, 3)])


@pytest.mark.parametrize("width", [1, 2, 4])
def test_derivatives_and_batching_equal_dense(width):
    graph = make_graph(PAIRS, N_USERS, N_ITEMS, width)
    mean = jnp.asarray(oracles.mean_matrix(PAIRS, N_USERS, N_ITEMS), jnp.float32)
    x = jnp.asarray(values())

    def smooth(propagate):
        return lambda x: jnp.sum(jnp.tanh(propagate(jnp.tanh(propagate(x)))) ** 3)

    sparse, dense = smooth(lambda x: mean_neighbours(graph, x)), smooth(lambda x: mean @ x)

    def second(f):
        return jax.grad(lambda x: jnp.sum(jax.grad(f)(x) ** 2))

    close = {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(jax.grad(sparse)(x), jax.grad(dense)(x), **close)
    np.testing.assert_allclose(second(sparse)(x), second(dense)(x), **close)
    batch = jnp.stack([x, 2 * x, -x])
    np.testing.assert_allclose(jax.vmap(sparse)(batch), jax.vmap(dense)(batch), **close)
    np.testing.assert_allclose(
        jax.vmap(jax.grad(sparse))(batch), jax.vmap(jax.grad(dense))(batch), **close
    )


def test_backward_pass_scatters_by_sorted_index_only():
    graph = make_graph(PAIRS, N_USERS, N_ITEMS, 2)
    gradient = jax.make_jaxpr(jax.grad(lambda x: jnp.sum(sum_neighbours(graph, x) ** 2)))(values())
    scatters = [e for e in all_equations(gradient.jaxpr) if e.primitive.name.startswith("scatter")]
    assert len(scatters) == 4  # one forward, one backward, for each side
    assert all(e.params["indices_are_sorted"] for e in scatters)


def all_equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from all_equations(inner)


def test_isolated_nodes_get_zeros_and_degrees_are_right():
    graph = make_graph(PAIRS, N_USERS, N_ITEMS)
    assert graph.degrees.tolist() == [3, 1, 1, 0, 2, 1, 4, 1, 1]
    assert not np.asarray(mean_neighbours(graph, values()))[3].any()
