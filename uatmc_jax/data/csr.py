"""Rows of sorted item ids as a pytree: membership and complement on the device."""

from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.data.interactions import Interactions
from uatmc_jax.errors import InputError


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
    """Builds the rows of `pairs`, which are sorted by (user, item).

    Raises:
      InputError: 2^31 pairs or more, whose places int32 does not hold.
    """
    if len(pairs) >= 2**31:
        raise InputError(
            f"{len(pairs)} pairs on one device; its numbers hold fewer than 2^31. Spread them over "
            "several (config.mesh.devices)."
        )
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
    place = _search(*_runs(csr, users), lambda value, _: value < items, csr.search_steps)
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
    return nth_absent_at(*_runs(csr, users), n, csr.search_steps)


def nth_absent_at(
    item_at: Callable[[jax.Array], jax.Array],
    bounds: tuple[jax.Array, jax.Array],
    n: jax.Array,
    search_steps: int,
) -> jax.Array:
    """`nth_absent` of runs of ascending ids, wherever they are kept.

    Args:
      item_at: places, of the shape of `n`, -> the ids there; a place may be its run's end.
      bounds: first place of each run, and its end.
      n: int32, below the number of absent ids.
      search_steps: halvings that find a place in the longest run.
    """
    place = _search(item_at, bounds, lambda value, k: value - k <= n, search_steps)
    return n + place - bounds[0]


def _runs(csr: CSR, users: jax.Array) -> tuple[Callable, tuple[jax.Array, jax.Array]]:
    """What reads the ids, and where the users' runs begin and end."""
    last = max(csr.indices.shape[0] - 1, 0)
    bounds = csr.indptr[users], csr.indptr[users + 1]
    return lambda place: csr.indices[jnp.minimum(place, last)], bounds


def _search(item_at: Callable, bounds: tuple, goes_right: Callable, steps: int) -> jax.Array:
    """First place of each run where goes_right(the id there, its rank in the run) fails."""
    start = bounds[0]

    def halve(_, bounds):
        low, high = bounds
        middle = low + (high - low) // 2
        right = goes_right(item_at(middle), middle - start)
        right &= low < high
        return jnp.where(right, middle + 1, low), jnp.where(right, high, middle)

    return jax.lax.fori_loop(0, steps, halve, bounds)[0]
