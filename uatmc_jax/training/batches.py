"""Shuffling, batching and negative sampling, all on the device with static shapes."""

import jax
import jax.numpy as jnp

from uatmc_jax.data import CSR, nth_absent
from uatmc_jax.models import Batch


def shuffled_batches(key: jax.Array, n: int, batch_size: int) -> tuple[jax.Array, jax.Array]:
    """One epoch's order.

    Args:
      key: of the shuffle.
      n: number of training pairs.
      batch_size: B.

    Returns:
      rows: (ceil(n / B), B) int32, each of 0..n-1 once; the last batch is
        filled up with 0.
      weights: the same shape, float32: 1, and 0 for the filling.
    """
    n_batches = -(-n // batch_size)
    padding = n_batches * batch_size - n
    # jax.random.permutation sorts twice to keep equal random keys fair. One sort halves the
    # cost, and leaves in place just the pairs that drew the same 32 bits, about n^2 / 2^33.
    order = jnp.argsort(jax.random.bits(key, (n,)))
    rows = jnp.pad(order, (0, padding)).astype(jnp.int32)
    weights = (jnp.arange(n_batches * batch_size) < n).astype(jnp.float32)
    return rows.reshape(n_batches, batch_size), weights.reshape(n_batches, batch_size)


def sample_negatives(key: jax.Array, seen: CSR, users: jax.Array, n_items: int) -> jax.Array:
    """Uniform draws from the items each user has no training interaction with.

    Draws the rank among the |I| - degree(u) unseen items and looks that item
    up, so a training positive cannot come out and nothing is drawn twice.

    Args:
      key: of the draws.
      seen: training items of each user.
      users: (B,) int32, none of whom has seen all items.
      n_items: |I|.

    Returns:
      (B,) int32 item ids.
    """
    unseen = n_items - (seen.indptr[users + 1] - seen.indptr[users])
    rank = jax.random.randint(key, users.shape, 0, unseen, jnp.int32)
    return nth_absent(seen, users, rank)


def make_batch(
    key: jax.Array,
    pairs: tuple[jax.Array, jax.Array],
    seen: CSR,
    rows: jax.Array,
    weights: jax.Array,
    n_items: int,
) -> Batch:
    """Triples of the training pairs at `rows`, with fresh negatives.

    Args:
      key: of the negatives.
      pairs: (users, items), each (n,) int32.
      seen: training items of each user.
      rows: (B,) int32 into `pairs`.
      weights: (B,) 1, or 0 for padding.
      n_items: |I|.
    """
    users, positives = (column[rows] for column in pairs)
    return Batch(users, positives, sample_negatives(key, seen, users, n_items), weights)
