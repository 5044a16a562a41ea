"""Training pairs by owning user: each device has those of its users, and looks up its own.

Users are cut into `row_multiple` blocks of as many, as the tables of users are; a block's pairs
are one row of a matrix, so that a place is a block and a place in it, both below 2^31 however
many pairs there are. A number of a pair is two limbs of 31 bits.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from uatmc_jax.data import Interactions
from uatmc_jax.data.csr import nth_absent_at
from uatmc_jax.data.interactions import counts
from uatmc_jax.errors import InputError
from uatmc_jax.models import Batch
from uatmc_jax.placement.mesh import AXIS, Placement, padded, place

LIMB = 31  # bits
_OWNED, _WHOLE = PartitionSpec(AXIS), PartitionSpec()


@flax.struct.dataclass
class OwnedPairs:
    """Pairs in S blocks of R users.

    Attributes:
      users: (S, L) int32 each pair's user, counted from its block's first; R for filling.
      items: (S, L) int32, ascending for each user; |I| for filling.
      indptr: (S, R + 1) int32 where each user's pairs begin in the block's row.
      limbs: (2, S + 1) int32, high and low limb of the number of each block's first pair.
      n_pairs: how many there are (static).
      n_items: |I| (static).
      search_steps: halvings that find a place in the longest run of a user (static).
      slack: least filling of a row (static).
    """

    users: jax.Array
    items: jax.Array
    indptr: jax.Array
    limbs: jax.Array
    n_pairs: int = flax.struct.field(pytree_node=False)
    n_items: int = flax.struct.field(pytree_node=False)
    search_steps: int = flax.struct.field(pytree_node=False)
    slack: int = flax.struct.field(pytree_node=False)


def where_owned(pairs: OwnedPairs, owned: Any, whole: Any) -> Any:
    """The tree of the pairs, with `owned` for what lies by block and `whole` for the rest."""
    return dataclasses.replace(pairs, users=owned, items=owned, indptr=owned, limbs=whole)


def split_number(n: np.ndarray) -> np.ndarray:
    """(2, ...) int32 limbs of int64 numbers below 2^62."""
    n = np.asarray(n, np.int64)
    return np.stack([n >> LIMB, n & (2**LIMB - 1)]).astype(np.int32)


def own_pairs(
    placement: Placement, pairs: Interactions, n_users: int, n_items: int, block_users: int = 2048
) -> OwnedPairs:
    """The pairs on the devices that own their users.

    Args:
      placement: the devices.
      pairs: sorted by (user, item); of memory-mapped ones a block is read at a time.
      n_users: |U|.
      n_items: |I|.
      block_users: users whose pairs are sliced out at a time by a ranking.

    Raises:
      InputError: 2^31 pairs or more in one block.
    """
    n_blocks = placement.multiple
    rows = padded(placement, n_users) // n_blocks
    # In the users' own type, else all of them would be copied.
    firsts = np.minimum(np.arange(n_blocks + 1, dtype=np.int64) * rows, 2**31 - 1)
    edges = np.searchsorted(pairs.users, firsts.astype(np.int32))
    degrees = counts(pairs.users, n_blocks * rows)
    starts = np.arange(0, rows, min(block_users, rows))
    at_a_time = np.add.reduceat(degrees.reshape(n_blocks, rows), starts, axis=1)
    slack, most = int(at_a_time.max(initial=0)), int(np.diff(edges).max())
    if most + slack >= 2**31:
        raise InputError(
            f"{most} training pairs belong to one of config.mesh.row_multiple = {n_blocks} parts "
            "of the users; wanted fewer than 2^31. Raise it."
        )

    def made(shape: tuple[int, ...], row: Callable[[int], np.ndarray]) -> jax.Array:
        def block(index: Any) -> np.ndarray:
            return np.stack([row(n) for n in range(*index[0].indices(n_blocks))])

        sharding = NamedSharding(placement.mesh, _OWNED)
        return jax.make_array_from_callback(shape, sharding, block)

    def filled(column: np.ndarray, less: int, filling: int) -> Callable[[int], np.ndarray]:
        def row(n: int) -> np.ndarray:
            some = np.asarray(column[edges[n] : edges[n + 1]], np.int32) - np.int32(less * n)
            return np.pad(some, (0, most + slack - len(some)), constant_values=filling)

        return row

    def begins(n: int) -> np.ndarray:
        here = degrees[n * rows : (n + 1) * rows]
        return np.concatenate([[0], np.cumsum(here)]).astype(np.int32)

    whole = NamedSharding(placement.mesh, _WHOLE)
    return OwnedPairs(
        users=made((n_blocks, most + slack), filled(pairs.users, rows, rows)),
        items=made((n_blocks, most + slack), filled(pairs.items, 0, n_items)),
        indptr=made((n_blocks, rows + 1), begins),
        limbs=place(split_number(edges), whole),
        n_pairs=len(pairs),
        n_items=n_items,
        search_steps=int(degrees.max(initial=0)).bit_length(),
        slack=slack,
    )


def draw_batch(
    placement: Placement,
    key: jax.Array,
    pairs: OwnedPairs,
    places: tuple[jax.Array, jax.Array],
    weights: jax.Array,
) -> Batch:
    """Triples of the training pairs at `places`, with fresh negatives: those of `make_batch`.

    Each device looks up what it owns, and two sums over the devices put it together: 8 B and
    4 B bytes for B triples.

    Args:
      placement: the devices.
      key: of the negatives.
      pairs: the training pairs.
      places: (B,) int32 each, the limbs of the pairs' numbers.
      weights: (B,) 1, or 0 for padding.
    """
    spec = where_owned(pairs, _OWNED, _WHOLE)

    @functools.partial(
        jax.shard_map,
        mesh=placement.mesh,
        in_specs=(spec, _WHOLE, _WHOLE),
        out_specs=_WHOLE,
        check_vma=False,
    )
    def drawn(own: OwnedPairs, places: tuple, key: jax.Array) -> tuple:
        n_here, rows = own.indptr.shape[0], own.indptr.shape[1] - 1
        first = jax.lax.axis_index(AXIS) * n_here

        def here(block: jax.Array) -> tuple[jax.Array, jax.Array]:
            at = block - first
            return (at >= 0) & (at < n_here), jnp.clip(at, 0, n_here - 1)

        block, place = _find(own.limbs, places)
        mine, at = here(block)
        here_users = jnp.where(mine, block * rows + own.users[at, place], 0)
        here_items = jnp.where(mine, own.items[at, place], 0)
        users, positives = jax.lax.psum((here_users, here_items), AXIS)
        block, row = users // rows, users % rows
        mine, at = here(block)
        bounds = own.indptr[at, row], own.indptr[at, row + 1]
        # Everyone draws for everyone: of numbers that others own, any bound will do.
        unseen = jnp.where(mine, pairs.n_items - (bounds[1] - bounds[0]), 1)
        rank = jax.random.randint(key, users.shape, 0, unseen, jnp.int32)
        found = nth_absent_at(lambda n: own.items[at, n], bounds, rank, own.search_steps)
        return users, positives, jax.lax.psum(jnp.where(mine, found, 0), AXIS)

    users, positives, negatives = drawn(pairs, places, key)
    return Batch(users, positives, negatives, weights)


def _find(limbs: jax.Array, places: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """The block of each pair's number, and its place in the block's row."""
    high, low = (x[:, None] for x in places)
    reached = (high > limbs[0]) | ((high == limbs[0]) & (low >= limbs[1]))
    block = jnp.sum(reached, axis=1, dtype=jnp.int32) - 1
    block = jnp.clip(block, 0, limbs.shape[1] - 2)
    # Below 2^31 as a difference, whatever is borrowed on the way.
    high, low = ((x - of[block]).astype(jnp.uint32) for x, of in zip(places, limbs, strict=True))
    return block, ((high << LIMB) + low).astype(jnp.int32)
