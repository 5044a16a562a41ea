import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import oracles
from tests.conftest import make_interactions
from tests.data.test_graph import all_equations
from uatmc_jax.data import make_csr
from uatmc_jax.evaluation.metrics import mean_metrics
from uatmc_jax.evaluation.ranking import count_at_least, make_plan, top_k


@settings(max_examples=8, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from([(1, 4), (7, 5), (8, 12)]),
    st.sampled_from([(1, 1), (3, 4), (9, 5), (2, 20)]),
    st.booleans(),
)
def test_equals_brute_force_with_ties_in_any_blocks(seed, sizes, blocks, many_ties):
    """Small integers make scores exact, so ties are exact and the order must be too."""
    n_users, n_items = sizes
    rng = np.random.default_rng(seed)
    span = 2 if many_ties else 20
    user = rng.integers(-span, span, (n_users, 3)).astype(np.float32)
    item = rng.integers(-span, span, (n_items, 3)).astype(np.float32)
    # Each user's first three items are unseen, up to two of them held out.
    orders = [[int(i) for i in rng.permutation(n_items)] for _ in range(n_users)]
    seen = {(u, i) for u, order in enumerate(orders) for i in order[4:] if rng.random() < 0.5}
    seen |= {(n_users - 1, orders[-1][3])}
    held_out = {(u, i) for u, order in enumerate(orders) for i in order[: rng.integers(0, 3)]}
    held_out |= {(0, orders[0][0])}
    seen, held_out = make_interactions(seen), make_interactions(held_out)
    k = 3
    plan = make_plan(seen, n_users, n_items, *blocks)
    expected = oracles.rank((user @ item.T).astype(np.float64), seen)
    scores, got = map(np.asarray, top_k(jnp.asarray(user), jnp.asarray(item), plan, k))
    unseen = n_items - np.bincount(seen.users, minlength=n_users)
    for u in range(n_users):
        np.testing.assert_array_equal(got[u, : unseen[u]], expected[u, : min(k, unseen[u])])
        wanted_scores = (user @ item.T)[u, expected[u, : min(k, unseen[u])]]
        np.testing.assert_array_equal(scores[u, : unseen[u]], wanted_scores)
        assert np.all(scores[u, unseen[u] :] == -np.inf)
    relevant = make_csr(held_out, n_users)
    # A second split, to see that they are kept apart.
    everyone = make_csr(make_interactions([(0, orders[0][1])]), n_users)
    metrics, other = mean_metrics(
        jnp.asarray(user), jnp.asarray(item), plan, [relevant, everyone], (1, 3)
    )
    assert float(other["recall@3"]) == (orders[0][1] in expected[0, :3])
    wanted = oracles.ranking_metrics(expected, held_out, (1, 3))
    assert metrics.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5, atol=1e-7, err_msg=name)


@settings(max_examples=8, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from([(1, 4), (7, 5), (8, 12), (5, 19)]),
    st.sampled_from([(1, 1), (3, 4), (9, 5), (2, 20)]),
    st.sampled_from([1, 2, 5]),
)
def test_counting_equals_brute_force_with_ties_in_any_blocks(seed, sizes, blocks, count):
    """Unseen items, the excluded one aside, that score at least a threshold; small integers."""
    n_users, n_items = sizes
    rng = np.random.default_rng(seed)
    user = rng.integers(-2, 3, (n_users, 3)).astype(np.float32)
    item = rng.integers(-2, 3, (n_items, 3)).astype(np.float32)
    seen = rng.random((n_users, n_items)) < 0.3
    seen[0, 0] = True  # there must be some
    excluded = rng.integers(0, n_items, count).astype(np.int32)
    thresholds = rng.integers(-6, 7, (n_users, count)).astype(np.float32)
    plan = make_plan(
        make_interactions({(int(u), int(i)) for u, i in np.argwhere(seen)}),
        n_users,
        n_items,
        *blocks,
    )
    arrays = map(jnp.asarray, (thresholds, excluded))
    found = np.asarray(count_at_least(jnp.asarray(user), jnp.asarray(item), plan, *arrays))
    scores = user @ item.T
    for u in range(n_users):
        for t in range(count):
            others = ~seen[u] & (np.arange(n_items) != excluded[t])
            assert found[u, t] == np.sum(scores[u, others] >= thresholds[u, t])


def test_blocks_do_not_change_float_results(dataset):
    key = jax.random.key(0)
    user = jax.random.normal(key, (dataset.n_users, 8))
    item = jax.random.normal(key, (dataset.n_items, 8))
    whole = make_plan(dataset.train, dataset.n_users, dataset.n_items)
    cut = make_plan(dataset.train, dataset.n_users, dataset.n_items, 7, 13)
    (scores, ids), (cut_scores, cut_ids) = (top_k(user, item, p, 20) for p in (whole, cut))
    np.testing.assert_array_equal(ids, cut_ids)
    np.testing.assert_allclose(scores, cut_scores, rtol=1e-5, atol=1e-6)


def test_block_sizes_bound_the_memory(dataset):
    """No intermediate of the compiled ranking is larger than a block of scores."""
    plan = make_plan(dataset.train, dataset.n_users, dataset.n_items, 4, 10)
    user, item = jnp.ones((dataset.n_users, 2)), jnp.ones((dataset.n_items, 2))
    relevant = make_csr(dataset.test, dataset.n_users)
    for function in (
        lambda u, i, p: top_k(u, i, p, 3),
        lambda u, i, p: mean_metrics(u, i, p, [relevant], (3,)),
    ):
        jaxpr = jax.make_jaxpr(function)(user, item, plan)
        sizes = [v.aval.size for e in all_equations(jaxpr.jaxpr) for v in e.outvars]
        assert max(sizes) < dataset.n_users * dataset.n_items / 4


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite_embeddings_score_nan_not_perfect(dataset, bad):
    plan = make_plan(dataset.train, dataset.n_users, dataset.n_items)
    user = jnp.ones((dataset.n_users, 2)).at[3, 0].set(bad)
    relevant = make_csr(dataset.test, dataset.n_users)
    (metrics,) = mean_metrics(user, jnp.ones((dataset.n_items, 2)), plan, [relevant], (5,))
    assert all(np.isnan(value) for value in metrics.values())
