"""Shuffling, batching and negative sampling, all on the device with static shapes."""

import jax
import jax.numpy as jnp

from uatmc_jax.data import CSR, nth_absent
from uatmc_jax.models import Batch

_ROUNDS = 8  # even, so that the halves are where they were


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


def keyed_batch(
    key: jax.Array, n: int, batch: jax.Array, batch_size: int
) -> tuple[jax.Array, jax.Array]:
    """One batch of an epoch's order, without the others.

    The order is a permutation of 0..n-1 that is computed place by place, where
    `shuffled_batches` sorts all n: a Feistel network (Luby and Rackoff, SIAM J. Comput. 1988)
    on the numbers of as many bits, whose results of n and more are sent through it again
    until they are below (cycle walking; Black and Rogaway, CT-RSA 2002).

    Args:
      key: of the epoch's order.
      n: number of training pairs, below 2^31.
      batch: () int32, which of the ceil(n / B).
      batch_size: B.

    Returns:
      rows: (B,) int32, those of all batches each of 0..n-1 once; filled up with 0.
      weights: (B,) float32: 1, and 0 for the filling.
    """
    places = batch * batch_size + jnp.arange(batch_size)
    keys = jax.random.bits(key, (_ROUNDS,))
    inside = places < n

    bits = max((n - 1).bit_length(), 2)

    def walk(x: jax.Array) -> jax.Array:
        return jnp.where(x < n, x, _feistel(keys, x, bits))

    first = _feistel(keys, jnp.where(inside, places, 0).astype(jnp.uint32), bits)
    rows = jax.lax.while_loop(lambda x: jnp.any(x >= n), walk, first)
    return jnp.where(inside, rows, 0).astype(jnp.int32), inside.astype(jnp.float32)


def _feistel(keys: jax.Array, x: jax.Array, bits: int) -> jax.Array:
    """A permutation of the uint32 numbers of so many bits, for each keys.

    The number's halves, of unlike width if the bits are odd, change places in every round.
    """
    low = bits // 2
    left, right, widths = x >> low, x & ((1 << low) - 1), (bits - low, low)
    for key in keys:
        left, right = right, left ^ (_mixed(right ^ key) & ((1 << widths[0]) - 1))
        widths = widths[::-1]
    return (left << low) | right


def _mixed(x: jax.Array) -> jax.Array:
    """MurmurHash3's finaliser (Appleby): every bit of the result depends on all of x."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


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
