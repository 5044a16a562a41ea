"""Ranking by owning user: each device ranks its own users, and no score leaves it.

Users are ranked in the `row_multiple` blocks of `OwnedPairs`, and a metric's sums over these are
added up in their order, so that the bits do not depend on how many devices share them.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from uatmc_jax.data import CSR, Dataset, DeviceData
from uatmc_jax.evaluation.metrics import Measure, means_of, metric_sums
from uatmc_jax.evaluation.ranking import RankingPlan, top_k
from uatmc_jax.models import Modal, Model, Params, project_all
from uatmc_jax.numerics import take
from uatmc_jax.placement.mesh import AXIS, Layout, Placement, cut, on_every_device
from uatmc_jax.placement.pairs import OwnedPairs, where_owned

_OWNED, _WHOLE = PartitionSpec(AXIS), PartitionSpec()


class Blocks(NamedTuple):
    """Users and items scored at a time, as `EvalSettings` has them."""

    users: int = 2048
    items: int = 8192


class Drawn(NamedTuple):
    """Users to be measured in place of all: (n,) int32 ids, and their training pairs."""

    users: jax.Array
    seen: OwnedPairs


_BLOCKS = Blocks()


def spread_top_k(
    placement: Placement,
    user: jax.Array,
    item: jax.Array,
    seen: OwnedPairs,
    k: int,
    blocks: Blocks = _BLOCKS,
) -> tuple[jax.Array, jax.Array]:
    """`evaluation.ranking.top_k` inside a compiled function, by owning user.

    Args:
      placement: the devices.
      user: (|U|, D) embeddings, by rows.
      item: (|I|, D) embeddings.
      seen: pairs never to recommend.
      k: at most |I|.
      blocks: users and items scored at a time.

    Returns:
      Scores and ids, (|U|, k) each, as there; by rows.
    """

    def ranked(user: jax.Array, item: jax.Array, plan: RankingPlan, first: jax.Array) -> Any:
        del first
        return top_k(user, item, plan, k)

    found = _by_block(placement, (user, item), seen, blocks, ranked)
    return jax.tree.map(lambda x: x.reshape(-1, k)[: user.shape[0]], found)


def spread_metrics(
    placement: Placement,
    embeddings: tuple[jax.Array, jax.Array],
    seen: OwnedPairs,
    held_out: Sequence[CSR],
    ks: Sequence[int],
    blocks: Blocks = _BLOCKS,
) -> list[dict[str, jax.Array]]:
    """`evaluation.metrics.mean_metrics` inside a compiled function, by owning user.

    Args:
      placement: the devices.
      embeddings: (|U|, D) of users, by rows, and (|I|, D) of items.
      seen: pairs never to recommend.
      held_out: relevant items by user, one CSR a split.
      ks: the K.
      blocks: users and items scored at a time.
    """

    def sums(
        user: jax.Array, item: jax.Array, plan: RankingPlan, first: jax.Array, held_out: tuple
    ) -> Any:
        return jax.tree.map(jnp.sum, metric_sums(user, item, plan, held_out, ks, first))

    user, item = embeddings
    found = _by_block(placement, embeddings, seen, blocks, sums, tuple(held_out))
    # Whole on every device before they are added up, in the same order everywhere.
    found = on_every_device(placement, found)
    return means_of(found, held_out, jnp.isfinite(user).all() & jnp.isfinite(item).all())


def _by_block(
    placement: Placement,
    embeddings: tuple[jax.Array, jax.Array],
    seen: OwnedPairs,
    blocks: Blocks,
    function: Callable[..., Any],
    *whole: Any,
) -> Any:
    """A function of each block of users, where the block lies.

    Args:
      function: (the block's users (R, D), items, the block's plan, its first user, what is
        whole) -> arrays.
      *whole: arrays that every block reads.

    Returns:
      Its results, (S, ...), by block.
    """
    user, item = embeddings
    n_blocks, rows = placement.multiple, seen.indptr.shape[1] - 1
    user = jnp.pad(user, ((0, n_blocks * rows - user.shape[0]), (0, 0)))
    spec = where_owned(seen, _OWNED, _WHOLE)

    @functools.partial(
        jax.shard_map,
        mesh=placement.mesh,
        in_specs=(_OWNED, _WHOLE, spec, _WHOLE),
        out_specs=_OWNED,
        check_vma=False,
    )
    def local(user: jax.Array, item: jax.Array, seen: OwnedPairs, whole: tuple) -> Any:
        first = jax.lax.axis_index(AXIS) * user.shape[0]

        def one(inputs: tuple) -> Any:
            n, user, users, items, indptr = inputs
            plan = RankingPlan(
                indptr=indptr,
                seen_users=users,
                seen_items=items,
                n_users=rows,
                n_items=item.shape[0],
                block_users=min(blocks.users, rows),
                block_items=min(blocks.items, item.shape[0]),
                block_seen=seen.slack,
            )
            return function(user, item, plan, (first + n) * rows, *whole)

        here = jnp.arange(user.shape[0])
        return jax.lax.map(one, (here, user, seen.users, seen.items, seen.indptr))

    return local(user.reshape(n_blocks, rows, -1), item, seen, whole)


def make_spread_measure(
    model: Model,
    layout: Layout,
    data: DeviceData,
    ks: Sequence[int],
    blocks: Blocks = _BLOCKS,
    drawn: Drawn | None = None,
) -> Measure:
    """`evaluation.metrics.make_measure` of filled-up parameters on several devices.

    Args:
      model: the recommender.
      layout: where its parameters lie.
      data: of `spread_data`, whose pairs are never recommended.
      ks: the K.
      blocks: users and items scored at a time.
      drawn: the users that the held-out splits are of; by default all.
    """
    measured = compiled_measure(model, layout, ks, blocks)

    def measure(params: Params, z: Modal | None, held_out: Sequence[CSR]) -> list:
        return measured(params, z, tuple(held_out), data, drawn)

    return measure


def compiled_measure(
    model: Model, layout: Layout, ks: Sequence[int], blocks: Blocks = _BLOCKS
) -> Callable[..., list[dict[str, jax.Array]]]:
    """What `make_spread_measure` calls.

    Args:
      model, layout, ks, blocks: as there.

    Returns:
      (params, z or None, held-out splits, data, drawn users or None) -> metrics.
    """

    @jax.jit
    def measured(
        params: Params,
        z: Modal | None,
        held_out: tuple[CSR, ...],
        data: DeviceData,
        drawn: Drawn | None = None,
    ) -> list[dict[str, jax.Array]]:
        params = cut(layout.placement, layout.rows, params)
        z = project_all(model, params, data.features) if z is None else z
        (user, item), seen = model.encode(params.encoder, z, data.graph), data.pairs
        if drawn is not None:
            user, seen = take(user, drawn.users), drawn.seen
        return spread_metrics(layout.placement, (user, item), seen, held_out, ks, blocks)

    return measured


def spread_popularity(
    placement: Placement,
    dataset: Dataset,
    seen: OwnedPairs,
    split: str,
    ks: Sequence[int],
    blocks: Blocks = _BLOCKS,
    users: np.ndarray | None = None,
) -> dict[str, float]:
    """`evaluation.metrics.popularity_metrics` on several devices.

    Args:
      placement: the devices.
      dataset: the data.
      seen: training pairs of those who are measured.
      split: "valid" or "test".
      ks: the K.
      blocks: users and items scored at a time.
      users: (n,) those who are; by default all.
    """

    @jax.jit
    def measured(counts: jax.Array, seen: OwnedPairs, held_out: CSR) -> list:
        embeddings = jnp.ones((held_out.indptr.size - 1, 1)), counts
        return spread_metrics(placement, embeddings, seen, (held_out,), ks, blocks)

    counts = jnp.asarray(dataset.item_train_counts, jnp.float32)[:, None]
    (found,) = measured(counts, seen, dataset.held_out(split, users))
    return {name: float(value) for name, value in found.items()}
