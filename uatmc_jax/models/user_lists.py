"""A user-user graph of shared purchases: each user's co-buyers with the most items in common.

w_uv is the softmax of the counts over u's list. Ties: the larger count, then the lower number.
The published code pads lists that are shorter than k, anew each epoch, by appending one after
another a member drawn uniformly from the list as padded so far (a Polya urn), each appended
one counting again in the softmax.
"""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.data.graph import make_adjacency
from uatmc_jax.data.interactions import Interactions
from uatmc_jax.numerics import take


@flax.struct.dataclass
class UserLists:
    """A directed, weighted user-user graph with at most k edges out of every user.

    Attributes:
      ids: (|U|, k) int32, by falling count.
      counts: (|U|, k) int32 items in common; 0 where the list is shorter.
      values: (|U|, k) float32 weights; rows sum to 1, or to 0 for users without co-buyers.
    """

    ids: jax.Array
    counts: jax.Array
    values: jax.Array

    def __call__(self, table: jax.Array) -> jax.Array:
        """Omega r: (|U|, f) to (|U|, f), one place of the lists at a time."""

        def add(total: jax.Array, place: tuple[jax.Array, jax.Array]):
            ids, values = place
            return total + values[:, None] * take(table, ids), None

        return jax.lax.scan(add, jnp.zeros_like(table), (self.ids.T, self.values.T))[0]


def user_lists(train: Interactions, n_users: int, n_items: int, k: int) -> UserLists:
    """The lists of all users, on the host; those shorter than k are not padded.

    Args:
      train: the training interactions.
      n_users: |U|.
      n_items: |I|.
      k: length of a list.
    """
    near = make_adjacency(train, n_users, n_items)
    spans = np.split(near.neighbours, near.indptr[1:-1])  # of users their items, and then back
    ids, counts = np.zeros((2, n_users, k), np.int32)
    for user in range(n_users):
        if not len(spans[user]):
            continue
        shared = np.bincount(np.concatenate([spans[i] for i in spans[user]]), minlength=n_users)
        shared[user] = 0
        found = np.flatnonzero(shared)
        # Ascending ids in a stable sort: of equal counts the lower id comes first.
        best = found[np.argsort(-shared[found], kind="stable")[:k]]
        ids[user, : len(best)], counts[user, : len(best)] = best, shared[best]
    return UserLists(jnp.asarray(ids), jnp.asarray(counts), _softmax(jnp.asarray(counts)))


def _softmax(counts: jax.Array) -> jax.Array:
    """(|U|, k) of the counts above 0."""
    powers = jnp.exp((counts - counts.max(axis=1, keepdims=True)).astype(jnp.float32))
    powers = jnp.where(counts > 0, powers, 0.0)
    return powers / jnp.maximum(powers.sum(axis=1, keepdims=True), 1.0)


def padded(key: jax.Array, lists: UserLists) -> UserLists:
    """The lists filled up to k by draws from themselves.

    Args:
      key: of the draws.
      lists: not padded.
    """
    n_users, k = lists.ids.shape
    uniform = jax.random.uniform(key, (k, n_users))
    users = jnp.arange(n_users)

    def fill(place: jax.Array, both: tuple[jax.Array, jax.Array]):
        drawn = jnp.minimum((uniform[place] * place).astype(jnp.int32), place - 1)
        empty = both[1][:, place] == 0
        return tuple(
            x.at[:, place].set(jnp.where(empty, x[users, drawn], x[:, place])) for x in both
        )

    ids, counts = jax.lax.fori_loop(1, k, fill, (lists.ids, lists.counts))
    return UserLists(ids, counts, _softmax(counts))
