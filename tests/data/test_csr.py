import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import make_interactions
from uatmc_jax.data import contains, degrees, make_csr, nth_absent

N_USERS, N_ITEMS = 6, 9
pair_sets = st.sets(
    st.tuples(st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 1)), min_size=1, max_size=45
)


@settings(max_examples=10, deadline=None)
@given(pair_sets)
def test_membership_and_complement_equal_sets(pairs):
    csr = make_csr(make_interactions(pairs), N_USERS)
    users, items = np.divmod(np.arange(N_USERS * N_ITEMS), N_ITEMS)
    got = contains(csr, jnp.asarray(users), jnp.asarray(items))
    assert got.tolist() == [(u, i) in pairs for u, i in zip(users, items, strict=True)]
    absent = [(u, i) for u, i in zip(users, items, strict=True) if (u, i) not in pairs]
    owners = np.array([u for u, _ in absent], np.int32)
    ranks = np.array([sum(owners[:n] == u) for n, u in enumerate(owners)], np.int32)
    found = nth_absent(csr, jnp.asarray(owners), jnp.asarray(ranks))
    assert found.tolist() == [i for _, i in absent]
    assert degrees(csr).tolist() == [sum(u == user for u, _ in pairs) for user in range(N_USERS)]


def test_ids_whose_product_exceeds_int32():
    """user * |I| + item would need 62 bits here; no such key is formed."""
    n_users, last_item = 3_000_000, 2_000_000_000
    pairs = make_interactions([(0, 7), (n_users - 1, 5), (n_users - 1, last_item)])
    csr = make_csr(pairs, n_users)
    users = jnp.array([0, n_users - 1, n_users - 1, 1], jnp.int32)
    items = jnp.array([5, 5, last_item, 5], jnp.int32)
    assert contains(csr, users, items).tolist() == [False, True, True, False]
    ranks = jnp.array([last_item - 2, last_item - 1], jnp.int32)
    found = nth_absent(csr, jnp.full(2, n_users - 1, jnp.int32), ranks)
    assert found.tolist() == [last_item - 1, last_item + 1]


def test_under_jit_and_empty_rows():
    csr = make_csr(make_interactions([(1, 0)]), 3)
    empty = jax.jit(nth_absent)(csr, jnp.array([0, 2]), jnp.array([0, 4]))
    assert empty.tolist() == [0, 4]
    assert not contains(csr, jnp.array([0, 2]), jnp.array([0, 0])).any()
