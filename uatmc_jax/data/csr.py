"""Rows of sorted item ids as a pytree: membership and complement on the device."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.data.interactions import Interactions


@flax.struct.dataclass
class CSR:
    """For each user a sorted run of distinct item ids.

    Attributes:
      indptr: (n_users + 1,) int32; user u's items are indices[indptr[u]:indptr[u+1]].
      indices: (n,) int32 item ids, ascending within a row.
      search_steps: halvings that find a place in the longest row (static).
    """

    indptr: jax.Array
    indices: jax.Array
    search_steps: int = flax.struct.field(pytree_node=False)


def make_csr(pairs: Interactions, n_users: int) -> CSR:
    """Builds the rows of `pairs`, which are sorted by (user, item)."""
    degrees = np.bincount(pairs.users, minlength=n_users)
    indptr = np.zeros(n_users + 1, np.int32)
    np.cumsum(degrees, out=indptr[1:])
    return CSR(jnp.asarray(indptr), jnp.asarray(pairs.items), int(degrees.max()).bit_length())


def degrees(csr: CSR) -> jax.Array:
    """(n_users,) int32, the length of each row."""
    return jnp.diff(csr.indptr)


def contains(csr: CSR, users: jax.Array, items: jax.Array) -> jax.Array:
    """Whether `items` are in their users' rows.

    A binary search inside the row: no key user * |I| + item is formed, so
    |U| * |I| may exceed 2^31.

    Args:
      csr: the rows.
      users: int32 ids, any shape.
      items: int32 ids, broadcast against `users`.

    Returns:
      bool of the broadcast shape.
    """
    users, items = jnp.broadcast_arrays(users, items)
    place = _search(csr, users, lambda value, _: value < items)
    found = csr.indices[jnp.minimum(place, csr.indices.shape[0] - 1)] == items
    return (place < csr.indptr[users + 1]) & found


def nth_absent(csr: CSR, users: jax.Array, n: jax.Array) -> jax.Array:
    """The n-th item id (from 0) that is not in the user's row.

    The k-th entry of a row has indices[k] - k absent ids before it, a count
    that never falls along the row, so the number of entries to step over is a
    binary search too.

    Args:
      csr: the rows.
      users: int32 ids, any shape.
      n: int32 of the same shape, below |I| - degree(user).

    Returns:
      int32 item ids of the same shape.
    """
    place = _search(csr, users, lambda value, k: value - k <= n)
    return n + place - csr.indptr[users]


def _search(csr: CSR, users, goes_right) -> jax.Array:
    """First position of each row where goes_right(indices[position], rank in row) fails."""
    start = csr.indptr[users]
    last = max(csr.indices.shape[0] - 1, 0)

    def halve(_, bounds):
        low, high = bounds
        middle = low + (high - low) // 2
        right = goes_right(csr.indices[jnp.minimum(middle, last)], middle - start)
        right &= low < high
        return jnp.where(right, middle + 1, low), jnp.where(right, high, middle)

    bounds = (start, csr.indptr[users + 1])
    return jax.lax.fori_loop(0, csr.search_steps, halve, bounds)[0]
