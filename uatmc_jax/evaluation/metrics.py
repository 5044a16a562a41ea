"""Recommendation metrics of a full ranking (Section 6), of a model and of plain popularity."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.data import CSR, Dataset, DeviceData, contains, degrees
from uatmc_jax.evaluation.ranking import RankingPlan, item_blocks, rank_block, starts
from uatmc_jax.models import Modal, Model, Params, project_all
from uatmc_jax.numerics import take


def user_metrics(
    ranked: jax.Array, users: jax.Array, relevant: CSR, ks: Sequence[int]
) -> dict[str, jax.Array]:
    """Metrics of each user; 0 for one without a relevant item.

    With rel_j whether the j-th ranked item is relevant and n_u the number of
    relevant items, for each K:
    recall = sum_j rel_j / n_u; precision = sum_j rel_j / K;
    ndcg = sum_j rel_j / log2(j + 1) over its value for min(n_u, K) hits first;
    map = sum_j rel_j precision@j / min(n_u, K).

    Args:
      ranked: (n, at least max(ks)) item ids, best first.
      users: (n,) whose they are.
      relevant: held-out items by user.
      ks: the K.

    Returns:
      {"recall@10": (n,), ...}.
    """
    depth = ranked.shape[1]
    hits = contains(relevant, users[:, None], ranked).astype(jnp.float32)
    n_relevant = take(degrees(relevant), users)
    ranks = jnp.arange(1, depth + 1, dtype=jnp.float32)
    discounts = 1.0 / jnp.log2(ranks + 1.0)
    ideal = jnp.cumsum(discounts)
    gains = jnp.cumsum(hits * discounts, axis=1)
    found = jnp.cumsum(hits, axis=1)
    precisions = jnp.cumsum(hits * found / ranks, axis=1)
    results: dict[str, jax.Array] = {}
    for k in ks:
        reachable = jnp.clip(n_relevant, 1, k)
        results |= {
            f"recall@{k}": found[:, k - 1] / jnp.maximum(n_relevant, 1),
            f"ndcg@{k}": gains[:, k - 1] / ideal[reachable - 1],
            f"precision@{k}": found[:, k - 1] / k,
            f"map@{k}": precisions[:, k - 1] / reachable,
        }
    return results


def mean_metrics(
    user: jax.Array,
    item: jax.Array,
    plan: RankingPlan,
    held_out: Sequence[CSR],
    ks: Sequence[int],
) -> list[dict[str, jax.Array]]:
    """Ranks once and scores against each held-out split.

    Args:
      user: (|U|, D) embeddings.
      item: (|I|, D) embeddings.
      plan: from `make_plan`.
      held_out: relevant items by user, one CSR a split.
      ks: the K, each at most |I|.

    Returns:
      For each split {"recall@10": scalar, ...}, means of `user_metrics` over
      the users with a relevant item; NaN throughout if an embedding is not finite.
    """
    sums = metric_sums(user, item, plan, held_out, ks)
    return means_of(sums, held_out, jnp.isfinite(user).all() & jnp.isfinite(item).all())


def means_of(
    sums: Sequence[dict[str, jax.Array]], held_out: Sequence[CSR], finite: jax.Array
) -> list[dict[str, jax.Array]]:
    """Means over the users with a relevant item; NaN unless `finite`.

    Args:
      sums: of `metric_sums`, added up over their blocks in order.
      held_out: relevant items by user, one CSR a split.
      finite: () whether the embeddings are.
    """
    return [
        {
            name: jnp.where(finite, jnp.sum(values) / jnp.sum(degrees(relevant) > 0), jnp.nan)
            for name, values in split.items()
        }
        for split, relevant in zip(sums, held_out, strict=True)
    ]


def metric_sums(
    user: jax.Array,
    item: jax.Array,
    plan: RankingPlan,
    held_out: Sequence[CSR],
    ks: Sequence[int],
    first: jax.Array | int = 0,
) -> list[dict[str, jax.Array]]:
    """Sums of `user_metrics` over each block of the plan's users.

    Args:
      user: (n, D) embeddings of the plan's users, a run of all.
      item, plan, held_out, ks: as of `mean_metrics`.
      first: number of the first of them among all users.

    Returns:
      For each split {"recall@10": (n_blocks,), ...}.
    """
    blocks = item_blocks(item, plan)

    def block_sums(first_user: jax.Array) -> list[dict[str, jax.Array]]:
        places = first_user + jnp.arange(plan.block_users)
        real = places < plan.n_users
        _, ranked = rank_block(user, blocks, plan, max(ks), first_user)
        users = jnp.minimum(places, plan.n_users - 1) + first
        found = []
        for relevant in held_out:
            n_users = relevant.indptr.shape[0] - 1
            counted = real & (users < n_users)
            users = jnp.minimum(users, n_users - 1)
            values = user_metrics(ranked, users, relevant, ks)
            found.append({k: jnp.sum(jnp.where(counted, v, 0.0)) for k, v in values.items()})
        return found

    return jax.lax.map(block_sums, starts(plan))


# (parameters, z or None to project the features, held-out splits) -> metrics of each split
Measure = Callable[[Params, Modal | None, Sequence[CSR]], list[dict[str, jax.Array]]]


def make_measure(
    model: Model,
    data: DeviceData,
    plan: RankingPlan,
    ks: Sequence[int],
    users: jax.Array | None = None,
) -> Measure:
    """The metrics of a set of parameters, compiled once for a model and its K.

    Args:
      model: the recommender.
      data: on the device.
      plan: what to mask, and block sizes.
      ks: the K.
      users: (n,) int32, those whom the plan and the held-out splits are of; by default all.
    """

    def measure(params: Params, z: Modal | None, held_out: Sequence[CSR]) -> list:
        return _measure(model, tuple(ks), params, z, tuple(held_out), (data, plan, users))

    return measure


@functools.partial(jax.jit, static_argnames=("model", "ks"))
def _measure(
    model: Model,
    ks: tuple[int, ...],
    params: Params,
    z: Modal | None,
    held_out: tuple[CSR, ...],
    within: tuple[DeviceData, RankingPlan, jax.Array | None],
):
    data, plan, users = within
    if z is None:
        z = project_all(model, params, data.features)
    user, item = model.encode(params.encoder, z, data.graph)
    return mean_metrics(user if users is None else take(user, users), item, plan, held_out, ks)


def popularity_metrics(
    dataset: Dataset,
    plan: RankingPlan,
    split: str,
    ks: Sequence[int],
    users: np.ndarray | None = None,
) -> dict[str, float]:
    """The same metrics for recommending everyone the most trained-on items.

    Args:
      dataset: the data.
      plan: what to mask.
      split: "valid" or "test".
      ks: the K.
      users: (n,) those whom the plan is of; by default all.
    """
    counts = jnp.asarray(dataset.item_train_counts, jnp.float32)[:, None]
    relevant = dataset.held_out(split, users)
    (metrics,) = mean_metrics(jnp.ones((plan.n_users, 1)), counts, plan, (relevant,), ks)
    return {name: float(value) for name, value in metrics.items()}
