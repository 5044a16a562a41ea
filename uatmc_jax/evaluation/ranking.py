"""Full ranking of all items for all users in bounded memory (Section 6).

Beside the embeddings, memory is block_users x block_items scores, whatever the
catalogue. Equal scores rank by item id, the smaller first.
"""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.data import Interactions, make_csr
from uatmc_jax.numerics import take

_COUNTED = 8  # columns compared with all thresholds at a time


@flax.struct.dataclass
class RankingPlan:
    """Which items to leave out, cut into blocks of users.

    Attributes:
      indptr: (|U| + 1,) where each user's entries start in the next two.
      seen_users: (n + slack,) the user of each entry.
      seen_items: (n + slack,) the item never recommended to that user.
      n_users: |U| (static).
      n_items: |I| (static).
      block_users: users at a time (static).
      block_items: items at a time (static).
      block_seen: most seen entries of a block of users (static).
    """

    indptr: jax.Array
    seen_users: jax.Array
    seen_items: jax.Array
    n_users: int = flax.struct.field(pytree_node=False)
    n_items: int = flax.struct.field(pytree_node=False)
    block_users: int = flax.struct.field(pytree_node=False)
    block_items: int = flax.struct.field(pytree_node=False)
    block_seen: int = flax.struct.field(pytree_node=False)


def make_plan(
    seen: Interactions, n_users: int, n_items: int, block_users: int = 2048, block_items: int = 8192
) -> RankingPlan:
    """Prepares ranking with `seen` masked out.

    Args:
      seen: pairs never to recommend, sorted by user (the training split).
      n_users: |U|.
      n_items: |I|.
      block_users: users scored at a time.
      block_items: items scored at a time.
    """
    block_users, block_items = min(block_users, n_users), min(block_items, n_items)
    edges = np.append(np.arange(0, n_users, block_users), n_users)
    block_seen = int(np.diff(np.searchsorted(seen.users, edges)).max())
    # The slack lets a block's slice start anywhere without being moved back.
    users = np.pad(seen.users, (0, block_seen), constant_values=n_users)
    items = np.pad(seen.items, (0, block_seen), constant_values=n_items)
    return RankingPlan(
        indptr=make_csr(seen, n_users).indptr,
        seen_users=jnp.asarray(users),
        seen_items=jnp.asarray(items),
        n_users=n_users,
        n_items=n_items,
        block_users=block_users,
        block_items=block_items,
        block_seen=block_seen,
    )


def top_k(
    user: jax.Array, item: jax.Array, plan: RankingPlan, k: int
) -> tuple[jax.Array, jax.Array]:
    """Each user's k best unseen items.

    Args:
      user: (|U|, D) embeddings.
      item: (|I|, D) embeddings.
      plan: what to mask, and the block sizes.
      k: at most |I|.

    Returns:
      scores: (|U|, k), best first.
      ids: (|U|, k) int32 item ids. A user with fewer than k unseen items gets
        seen ones, or |I|, at the end, with score -inf.
    """
    blocks = item_blocks(item, plan)
    ranked = jax.lax.map(lambda first: rank_block(user, blocks, plan, k, first), starts(plan))
    return jax.tree.map(lambda x: x.reshape(-1, k)[: plan.n_users], ranked)


def count_at_least(
    user: jax.Array,
    item: jax.Array,
    plan: RankingPlan,
    thresholds: jax.Array,
    excluded: jax.Array,
) -> jax.Array:
    """How many unseen items score at least as much as given thresholds.

    Args:
      user: (|U|, D) embeddings.
      item: (|I|, D) embeddings.
      plan: what to mask, and the block sizes.
      thresholds: (|U|, T).
      excluded: (T,) an item that is not counted under that threshold.

    Returns:
      (|U|, T) int32.
    """
    blocks = item_blocks(item, plan)

    def block_counts(first_user: jax.Array) -> jax.Array:
        own = take(thresholds, first_user + jnp.arange(plan.block_users))

        def add(counts, inputs):
            first_item, block = inputs
            _, scores = _block_scores(user, block, plan, first_user, first_item)
            column = excluded - first_item
            inside = (column >= 0) & (column < plan.block_items)
            left_out = inside & (own <= take(scores.T, jnp.maximum(column, 0)).T)
            return counts + _count_rows(scores, own) - left_out, None

        start = jnp.zeros(own.shape, jnp.int32)
        return jax.lax.scan(add, start, (_first_items(plan), blocks))[0]

    counts = jax.lax.map(block_counts, starts(plan))
    return counts.reshape(-1, thresholds.shape[1])[: plan.n_users]


def _count_rows(scores: jax.Array, thresholds: jax.Array) -> jax.Array:
    """(n, T) how many of a row's scores reach each of the row's thresholds.

    A few columns at a time against all thresholds: on a CPU five times faster
    than one threshold at a time against all columns. One threshold needs no
    columns put apart.
    """
    if thresholds.shape[1] == 1:
        return jnp.sum(scores >= thresholds, axis=1, dtype=jnp.int32)[:, None]
    width = -scores.shape[1] % _COUNTED
    padded = jnp.pad(scores, ((0, 0), (0, width)), constant_values=-jnp.inf)
    columns = jnp.moveaxis(padded.reshape(len(scores), -1, _COUNTED), 1, 0)

    def add(counts, some):
        reached = some[:, None, :] >= thresholds[:, :, None]
        return counts + jnp.sum(reached, axis=2, dtype=jnp.int32), None

    return jax.lax.scan(add, jnp.zeros(thresholds.shape, jnp.int32), columns)[0]


def starts(plan: RankingPlan) -> jax.Array:
    """(n_blocks,) int32: the first user of each block."""
    return jnp.arange(0, plan.n_users, plan.block_users, dtype=jnp.int32)


def item_blocks(item: jax.Array, plan: RankingPlan) -> jax.Array:
    """(n_blocks, block_items, D), the catalogue filled up with zeros."""
    n_blocks = -(-plan.n_items // plan.block_items)
    item = jnp.pad(item, ((0, n_blocks * plan.block_items - plan.n_items), (0, 0)))
    return item.reshape(n_blocks, plan.block_items, -1)


def rank_block(
    user: jax.Array, item_blocks: jax.Array, plan: RankingPlan, k: int, first_user: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(block_users, k) best unseen items of the users from `first_user` on: scores and ids."""

    def merge(best, inputs):
        first_item, block = inputs
        ids, scores = _block_scores(user, block, plan, first_user, first_item)
        values, places = jax.lax.top_k(scores, min(k, plan.block_items))
        # Earlier blocks come first, so that ties keep the smaller id.
        values = jnp.concatenate([best[0], values], axis=1)
        found = jnp.concatenate([best[1], ids[places]], axis=1)
        values, places = jax.lax.top_k(values, k)
        return (values, jnp.take_along_axis(found, places, axis=1)), None

    start = (
        jnp.full((plan.block_users, k), -jnp.inf, user.dtype),
        jnp.full((plan.block_users, k), plan.n_items, jnp.int32),
    )
    best, _ = jax.lax.scan(merge, start, (_first_items(plan), item_blocks))
    return best


def _first_items(plan: RankingPlan) -> jax.Array:
    return jnp.arange(0, plan.n_items, plan.block_items, dtype=jnp.int32)


def _block_scores(
    user: jax.Array, block: jax.Array, plan: RankingPlan, first_user: jax.Array, first_item
) -> tuple[jax.Array, jax.Array]:
    """Ids (block_items,) and scores (block_users, block_items), -inf where masked or filled up."""
    rows = first_user + jnp.arange(plan.block_users)
    ids = first_item + jnp.arange(plan.block_items)
    scores = jnp.where(ids < plan.n_items, take(user, rows) @ block.T, -jnp.inf)
    slots = (plan.indptr[first_user],), (plan.block_seen,)
    masked_rows = jax.lax.dynamic_slice(plan.seen_users, *slots) - first_user
    columns = jax.lax.dynamic_slice(plan.seen_items, *slots) - first_item
    # A negative index would wrap around; one past the end is dropped.
    columns = jnp.where(columns < 0, plan.block_items, columns)
    return ids, scores.at[masked_rows, columns].set(-jnp.inf, mode="drop")
