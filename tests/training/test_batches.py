import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import make_interactions
from uatmc_jax.data import make_csr
from uatmc_jax.training.batches import (
    draw_items,
    keyed_numbers,
    make_batch,
    sample_negatives,
    shuffled_batches,
)

N_USERS, N_ITEMS = 5, 7


@settings(max_examples=12, deadline=None)
@given(
    st.sets(
        st.tuples(st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 2)),
        min_size=1,
        max_size=30,
    ),
    st.integers(0, 2**31 - 1),
)
def test_never_a_training_positive(pairs, seed):
    """Item 6 is nobody's, so that every user has a negative; some have no other."""
    users = jnp.arange(200) % N_USERS
    csr = make_csr(make_interactions(pairs), N_USERS)
    drawn = sample_negatives(jax.random.key(seed), csr, users, N_ITEMS)
    assert not {(int(u), int(i)) for u, i in zip(users, drawn, strict=True)} & pairs
    assert ((drawn >= 0) & (drawn < N_ITEMS)).all()


def test_negatives_are_uniform_over_the_unseen():
    csr = make_csr(make_interactions([(0, 1), (0, 3), (0, 4), (1, 0)]), 2)
    drawn = sample_negatives(jax.random.key(0), csr, jnp.zeros(40_000, int), N_ITEMS)
    counts = np.bincount(drawn, minlength=N_ITEMS)
    assert counts[[1, 3, 4]].sum() == 0
    expected = 10_000
    chi_square = ((counts[[0, 2, 5, 6]] - expected) ** 2 / expected).sum()
    assert chi_square < 16.3  # 99.9 % point of 3 degrees of freedom


@pytest.mark.parametrize(("n", "batch_size"), [(10, 4), (12, 4), (3, 8), (1, 1)])
def test_an_epoch_has_every_pair_once(n, batch_size):
    rows, weights = shuffled_batches(jax.random.key(1), n, batch_size)
    assert rows.shape == weights.shape == (-(-n // batch_size), batch_size)
    assert sorted(rows[weights > 0].tolist()) == list(range(n))
    assert weights.sum() == n


def test_epochs_are_shuffled_differently():
    orders = [shuffled_batches(jax.random.key(s), 100, 10)[0].reshape(-1) for s in (1, 2)]
    assert orders[0].tolist() != orders[1].tolist() and orders[0].tolist() != list(range(100))


def test_batches_hold_training_pairs(dataset):
    csr = make_csr(dataset.train, dataset.n_users)
    pairs = jnp.asarray(dataset.train.users), jnp.asarray(dataset.train.items)
    rows = jnp.array([0, 5, 9])
    batch = make_batch(jax.random.key(0), pairs, csr, rows, jnp.ones(3), dataset.n_items)
    assert batch.users.tolist() == dataset.train.users[[0, 5, 9]].tolist()
    assert batch.positives.tolist() == dataset.train.items[[0, 5, 9]].tolist()


@pytest.mark.parametrize("n", (1, 2, 3, 64, 1000, 2**13 + 1))
def test_a_keyed_order_has_every_pair_once(n):
    size = 64
    batches = jax.jit(
        lambda key: jax.lax.map(lambda b: keyed_numbers(key, n, b, size), jnp.arange(-(-n // size)))
    )
    orders = []
    for seed in (0, 1):
        (high, rows), weights = jax.tree.map(np.ravel, batches(jax.random.key(seed)))
        assert not high.any()
        assert weights.sum() == n and (weights[:n] == 1).all()
        np.testing.assert_array_equal(np.sort(rows[:n]), np.arange(n))
        assert (rows[n:] == 0).all()
        orders.append(rows[:n])
    assert n < 64 or np.mean(orders[0] == orders[1]) < 0.1


@pytest.mark.parametrize("keyed", [False, True])
def test_drawn_items_are_distinct_and_uniform(keyed):
    n, count, draws = 37, 5, 4000
    drawn = jax.jit(jax.vmap(lambda key: draw_items(key, n, count, keyed)))
    found = np.asarray(drawn(jax.random.split(jax.random.key(0), draws)))
    assert found.shape == (draws, count) and found.min() == 0 and found.max() == n - 1
    assert all(len(set(row)) == count for row in found.tolist())
    expected = draws * count / n
    chi2 = ((np.bincount(found.ravel(), minlength=n) - expected) ** 2 / expected).sum()
    assert chi2 < 80  # 36 degrees of freedom: one in 30,000 by chance
    for all_of_them in (0, n, n + 1):
        assert draw_items(jax.random.key(0), n, all_of_them, keyed) is None


def test_keyed_orders_are_uniform():
    """Where the first of 40 pairs comes, over 8,000 keys; and which pair comes after it."""
    n, keys = 40, jax.random.split(jax.random.key(0), 8000)
    drawn = jax.jit(jax.vmap(lambda k: keyed_numbers(k, n, jnp.int32(0), n)[0][1]))
    orders = np.asarray(drawn(keys))
    first = np.argmax(orders == 0, axis=1)
    after = np.take_along_axis(orders, (first[:, None] + 1) % n, axis=1)[:, 0]
    for found, cells in ((first, np.arange(n)), (after, np.arange(1, n))):
        counts = np.bincount(found, minlength=n)[cells]
        expected = len(keys) / len(cells)
        assert ((counts - expected) ** 2 / expected).sum() < 73.4  # 99.9 % point of 39
