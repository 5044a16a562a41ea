"""Shuffling, batching and negative sampling, all on the device with static shapes."""

import jax
import jax.numpy as jnp

from uatmc_jax.data import CSR, nth_absent
from uatmc_jax.errors import InputError
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


def keyed_numbers(
    key: jax.Array, n: int, batch: jax.Array, batch_size: int
) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    """One batch of an epoch's order, without the others, of up to 2^62 pairs.

    The order is a permutation of 0..n-1 that is computed place by place, where
    `shuffled_batches` sorts all n: a Feistel network (Luby and Rackoff, SIAM J. Comput. 1988)
    on the numbers of as many bits, whose results of n and more are sent through it again
    until they are below (cycle walking; Black and Rogaway, CT-RSA 2002).

    Args:
      key: of the epoch's order.
      n: number of training pairs.
      batch: () int32, which of the ceil(n / B).
      batch_size: B.

    Returns:
      numbers: (B,) int32 each, high and low limb of 31 bits of the pairs' numbers; those of
        all batches are each of 0..n-1 once; filled up with 0.
      weights: (B,) float32: 1, and 0 for the filling.

    Raises:
      InputError: more than 2^16 triples a batch of 2^31 pairs or more.
    """
    bits = max((n - 1).bit_length(), 2)
    low = bits // 2
    if n >= 2**31 and batch_size > 2**16:
        raise InputError(
            f"batch_size = {batch_size}: wanted 65536 at most, with {n} training pairs, which are "
            "2^31 or more."
        )
    if n < 2**31:
        numbers = (batch * batch_size + jnp.arange(batch_size)).astype(jnp.uint32)
        places = numbers >> low, numbers & ((1 << low) - 1)
    else:
        places = _halves_of_places(batch, batch_size, low)
    keys = jax.random.bits(key, (_ROUNDS,))
    inside = _below(places, n, low)

    def walk(x: tuple) -> tuple:
        done = _below(x, n, low)
        again = _feistel(keys, x, bits)
        return tuple(jnp.where(done, old, new) for old, new in zip(x, again, strict=True))

    started = jnp.where(inside, places[0], 0), jnp.where(inside, places[1], 0)
    first = _feistel(keys, started, bits)
    found = jax.lax.while_loop(lambda x: jnp.any(~_below(x, n, low)), walk, first)
    left, right = (jnp.where(inside, x, 0) for x in found)
    limbs = left >> (31 - low), ((left << low) | right) & jnp.uint32(2**31 - 1)
    high, rest = (x.astype(jnp.int32) for x in limbs)
    return (high, rest), inside.astype(jnp.float32)


def _halves_of_places(batch: jax.Array, size: int, low: int) -> tuple[jax.Array, jax.Array]:
    """The left half and the right, of `low` bits, of batch * size + 0, 1, ..., below 2^62."""
    # In parts of 16 bits, whose products with up to 2^16 32 bits hold.
    batch = jnp.asarray(batch).astype(jnp.uint32)
    rest = (batch & 0xFFFF) * size + jnp.arange(size, dtype=jnp.uint32)
    upper = (batch >> 16) * size + (rest >> 16)
    rest &= 0xFFFF
    if low >= 16:
        return upper >> (low - 16), ((upper << 16) | rest) & ((1 << low) - 1)
    return (upper << (16 - low)) | (rest >> low), rest & ((1 << low) - 1)


def _below(x: tuple[jax.Array, jax.Array], n: int, low: int) -> jax.Array:
    """Which of the numbers, in halves, are below n."""
    left, right = (jnp.uint32(part) for part in (n >> low, n & ((1 << low) - 1)))
    return (x[0] < left) | ((x[0] == left) & (x[1] < right))


def _feistel(
    keys: jax.Array, x: tuple[jax.Array, jax.Array], bits: int
) -> tuple[jax.Array, jax.Array]:
    """A permutation of the numbers of so many bits, in halves, for each keys.

    The number's halves, of unlike width if the bits are odd, change places in every round.
    """
    low = bits // 2
    (left, right), widths = x, (bits - low, low)
    for key in keys:
        left, right = right, left ^ (_mixed(right ^ key) & ((1 << widths[0]) - 1))
        widths = widths[::-1]
    return left, right


def _mixed(x: jax.Array) -> jax.Array:
    """MurmurHash3's finaliser (Appleby): every bit of the result depends on all of x."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def draw_items(key: jax.Array, n_items: int, count: int, keyed: bool) -> jax.Array | None:
    """Distinct items, drawn uniformly: the leading part of a random order of all.

    Args:
      key: of the draw.
      n_items: |I|.
      count: how many; 0, or |I| and more, for all.
      keyed: of an order that is computed place by place (`keyed_numbers`); else of one that
        sorts all |I|.

    Returns:
      (count,) int32; None for all.
    """
    if not 0 < count < n_items:
        return None
    if not keyed:
        return jax.random.permutation(key, n_items)[:count]
    (_, numbers), _ = keyed_numbers(key, n_items, jnp.int32(0), count)
    return numbers


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
