"""Use of content: what a model's lists gain from images and texts, and what wrong ones would cost.

Two numbers, which need not go together:

    contribution = recall as it is - recall with the catalogue's mean content in every item's place
    sensitivity  = recall as it is - recall with the items' contents exchanged

The first is what content gives. The second is what the wrong content takes: a
model that reads content to no profit has much of it and no contribution, a deaf
one has none of either. Both are of contents that change after training, so they depend on what is
computed anew then (`models.POLICIES`): under full all of it, under own_row each item's own row as
if its content alone had changed, under frozen nothing. A model can be hard to attack because it
has become deaf, and on some items only, so both are measured on all held-out interactions, on
those with items of the popularity that is attacked, and on those with cold items.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.bootstrap import interval, resample, resample_table
from uatmc_jax.data import CSR, Dataset, DeviceData, contains, make_csr, of_users, warm
from uatmc_jax.errors import InputError
from uatmc_jax.evaluation.ranking import RankingPlan, item_blocks, make_plan, rank_block, starts
from uatmc_jax.models import Modal, Model, Params, Served, blind, device_data, undefined
from uatmc_jax.models.protocol import PyTree
from uatmc_jax.numerics import take

SPLITS = ("valid", "test")
PARTS = ("all", "attacked", "cold")
# Contents that a model is ranked with: its own, the catalogue's mean, exchanged ones.
OWN, MEAN, EXCHANGED = "own", "mean", "exchanged"
# With fewer interactions a recall says nothing.
LEAST_INTERACTIONS = 50
_ROWS = 64  # items whose own rows are computed together


class ContentPlan(NamedTuple):
    """What use of content is measured on.

    Attributes:
      k: the K of the recall.
      attacked: (least, most) interactions, all splits counted, of the items called attacked.
      cold_count: items with at most this many training interactions are cold.
      permutations: exchanges of the items' contents, all modalities together.
      most_users: with more users who have a held-out interaction, as many are drawn.
      bootstrap: resamples behind each interval.
      serving: of `POLICIES`.
    """

    k: int
    attacked: tuple[int, int]
    cold_count: int
    permutations: int = 20
    most_users: int = 20_000
    bootstrap: int = 1000
    serving: str = "full"


class Hits(NamedTuple):
    """What every content finds of each user's held-out items.

    Attributes:
      users: (n,) ids.
      relevant: {split: (P, n)} her held-out items of each of `PARTS`.
      found: {split: (2 + permutations, P, n)} those in her top K, under her items' own
        content, under the mean content, and under each exchange.
    """

    users: np.ndarray
    relevant: dict[str, np.ndarray]
    found: dict[str, np.ndarray]


def measure_hits(
    model: Model,
    params: Params,
    dataset: Dataset,
    z: Modal,
    plan: ContentPlan,
    rng: np.random.Generator,
) -> Hits:
    """Ranks the catalogue under each content.

    Args:
      model: the recommender.
      params: its parameters.
      dataset: the data; training items are masked.
      z: modal, (|I|, d), clean.
      plan: what is measured.
      rng: of the users drawn, if they are, and of the exchanges.

    Raises:
      ValueError: K beyond the catalogue.
      InputError: own_row of a model that does not say what it is.
    """
    require_rows(model, plan.serving)
    if plan.k > dataset.n_items:
        raise ValueError(f"k = {plan.k}, but there are {dataset.n_items} items")
    held_out = {split: warm(dataset.split(split), dataset) for split in SPLITS}
    users = np.unique(np.concatenate([pairs.users for pairs in held_out.values()]))
    if len(users) > plan.most_users:
        users = np.sort(rng.choice(users, plan.most_users, replace=False))
    parts = _parts(dataset, plan)
    theirs = {split: of_users(pairs, users) for split, pairs in held_out.items()}
    relevant = tuple(make_csr(pairs, len(users)) for pairs in theirs.values())
    ranking = make_plan(of_users(dataset.train, users), len(users), dataset.n_items)
    within = (ranking, jnp.asarray(users), relevant, jnp.asarray(parts))
    data, everywhere = device_data(model, dataset), np.zeros(dataset.n_items, int)
    mean = tuple(jnp.broadcast_to(x.mean(axis=0), x.shape) for x in z)
    means = tuple(x.mean(axis=0, keepdims=True) for x in dataset.features)
    orders = (rng.permutation(dataset.n_items) for _ in range(plan.permutations))
    # z, and the table and rows of raw features that these contents are.
    contents = [(mean, means, everywhere)] + [
        (tuple(x[order] for x in z), dataset.features, order) for order in orders
    ]

    def hits(z_now: Modal, raw: tuple[np.ndarray, ...], order: np.ndarray) -> list[np.ndarray]:
        anew, graph = plan.serving == "full" or model.encode_rows is not None, data.graph
        if model.relate is not None:
            rows = tuple(x[order] for x in raw)
            graph = dataclasses.replace(graph, relations=_related(model, dataset, rows, anew))
        if anew:
            now = dataclasses.replace(data, graph=graph)
            return _found(model, plan.k, params, z_now, (now, *within))
        both = Served(z, data.graph), Served(z_now, graph)
        return _found_own(model, plan.k, params, both, within)

    own = _found(model, plan.k, params, z, (data, *within))
    changes = blind(model, plan.serving) is None
    found = [[np.asarray(x) for x in own]]
    for content in contents:
        found.append([np.asarray(x) for x in hits(*content)] if changes else found[0])
    counts = {
        split: np.stack(
            [np.bincount(pairs.users[part[pairs.items]], minlength=len(users)) for part in parts]
        )
        for split, pairs in theirs.items()
    }
    by_split = [np.stack([one[s] for one in found]) for s in range(len(SPLITS))]
    return Hits(users, counts, dict(zip(SPLITS, by_split, strict=True)))


def require_rows(model: Model, serving: str) -> None:
    """Raises InputError for a policy that does not say what each item's own row is by itself."""
    lacking = undefined(model, serving)
    if lacking:
        raise InputError(lacking)
    beside = model.relate is None or model.relate_rows is not None
    if serving == "own_row" and not beside:
        raise InputError(
            f"policy 'own_row': model {model.name} does not say how one item's lists are made anew "
            "beside the others' (relate_rows), so its use of content cannot be measured. Use "
            "'full'."
        )


def _related(model: Model, dataset: Dataset, rows: tuple[np.ndarray, ...], anew: bool) -> PyTree:
    """The relations of other raw features: all made anew, or each item's beside the stored ones."""
    if anew:
        return model.relate(rows)  # type: ignore[misc]
    return model.relate_rows(dataset.features, rows)  # type: ignore[misc]


def _parts(dataset: Dataset, plan: ContentPlan) -> np.ndarray:
    """(P, |I|) bool: which items belong to each of `PARTS`."""
    least, most = plan.attacked
    attacked = (dataset.item_counts >= least) & (dataset.item_counts <= most)
    cold = dataset.item_train_counts <= plan.cold_count
    return np.stack([np.ones(dataset.n_items, bool), attacked, cold])


@functools.partial(jax.jit, static_argnames=("model", "k"))
def _found(
    model: Model,
    k: int,
    params: Params,
    z: Modal,
    within: tuple[DeviceData, RankingPlan, jax.Array, tuple[CSR, ...], jax.Array],
) -> list[jax.Array]:
    """For each split (P, n) int32: a user's held-out items in her top K, by part."""
    data, plan, users, held_out, parts = within
    user, item = model.encode(params.encoder, z, data.graph)
    return _hits(user, item, k, (plan, users, held_out, parts))


@functools.partial(jax.jit, static_argnames=("model", "k"))
def _found_own(
    model: Model,
    k: int,
    params: Params,
    both: tuple[Served, Served],
    within: tuple[RankingPlan, jax.Array, tuple[CSR, ...], jax.Array],
) -> list[jax.Array]:
    """The same where each item's own row alone is computed anew; both are clean and changed."""
    clean, changed = both
    user, item = model.encode(params.encoder, clean.z, clean.graph)

    def own(some: jax.Array) -> jax.Array:
        return jax.vmap(lambda i: model.own_row(params.encoder, clean, changed, i))(some)  # type: ignore[misc]

    blocks = jnp.arange(-(-len(item) // _ROWS) * _ROWS).reshape(-1, _ROWS)
    rows = jax.lax.map(own, jnp.minimum(blocks, len(item) - 1))
    return _hits(user, rows.reshape(-1, rows.shape[-1])[: len(item)], k, within)


def _hits(
    user: jax.Array,
    item: jax.Array,
    k: int,
    within: tuple[RankingPlan, jax.Array, tuple[CSR, ...], jax.Array],
) -> list[jax.Array]:
    """`_found` of all users' and items' embeddings."""
    plan, users, held_out, parts = within
    user, blocks = user[users], item_blocks(item, plan)

    def block_hits(first_user: jax.Array) -> list[jax.Array]:
        _, ranked = rank_block(user, blocks, plan, k, first_user)
        places = jnp.minimum(first_user + jnp.arange(plan.block_users), plan.n_users - 1)
        member = take(parts.T, ranked)  # (block, k, P)
        return [
            jnp.sum(member & contains(relevant, places[:, None], ranked)[..., None], axis=1)
            for relevant in held_out
        ]

    hits = jax.lax.map(block_hits, starts(plan))
    return [x.reshape(-1, len(parts))[: plan.n_users].T.astype(jnp.int32) for x in hits]


def use_of_content(hits: Hits, dataset: Dataset, plan: ContentPlan) -> dict[str, Any]:
    """Recall, contribution and sensitivity with intervals, by split and part.

    Args:
      hits: of `measure_hits`.
      dataset: the data.
      plan: that it was measured with.

    Returns:
      {"metric", "serving", "permutations", "users", "attacked_interactions", "cold_at_most",
      "valid": {"all": entry, "attacked": entry, "cold": entry}, "test": the same}, an entry being
      {"items", "interactions", "users", "hits": {"own", "mean", "exchanged"}, "recall": {"own":
      {"value", "over_users"}, "mean", "exchanged"}, "contribution": {"value", "over_users"},
      "sensitivity": {"value", "over_users_and_permutations"}}. Recall is averaged over users with
      such an interaction; hits are counted, and averaged over exchanges. Recall and the two
      numbers are None with fewer than `LEAST_INTERACTIONS` interactions.
    """
    items = _parts(dataset, plan).sum(axis=1)
    entries = {
        split: {
            name: {"items": int(items[p])}
            | _entry(hits.relevant[split][p], hits.found[split][:, p], plan.bootstrap)
            for p, name in enumerate(PARTS)
        }
        for split in SPLITS
    }
    return {
        "metric": f"recall@{plan.k}",
        "serving": plan.serving,
        "permutations": plan.permutations,
        "users": len(hits.users),
        "attacked_interactions": [int(end) for end in plan.attacked],
        "cold_at_most": plan.cold_count,
        **entries,
    }


def _entry(relevant: np.ndarray, found: np.ndarray, bootstrap: int) -> dict[str, Any]:
    """One part of one split: (n,) held-out items of each user, (2 + permutations, n) found."""
    having = relevant > 0
    found, n = found[:, having], relevant[having]
    totals = found.sum(axis=1)
    entry: dict[str, Any] = {
        "interactions": int(n.sum()),
        "users": len(n),
        "hits": {
            OWN: int(totals[0]),
            MEAN: int(totals[1]),
            EXCHANGED: float(totals[2:].mean()),
        },
    }
    if n.sum() < LEAST_INTERACTIONS:
        return entry | dict.fromkeys(("recall", "contribution", "sensitivity"))
    recall = found / n
    gained, lost = recall[0] - recall[1], recall[0] - recall[2:]
    drawn = resample(np.stack([recall[0], gained], axis=1), np.arange(len(n)), bootstrap)
    return entry | {
        "recall": {
            OWN: {"value": float(recall[0].mean()), "over_users": interval(drawn[:, 0])},
            MEAN: float(recall[1].mean()),
            EXCHANGED: float(recall[2:].mean()),
        },
        "contribution": {"value": float(gained.mean()), "over_users": interval(drawn[:, 1])},
        "sensitivity": {
            "value": float(lost.mean()),
            "over_users_and_permutations": interval(resample_table(lost, bootstrap)),
        },
    }


def compare_hits(ours: Hits, theirs: Hits, split: str, part: str, bootstrap: int) -> dict[str, Any]:
    """What another model gains or loses on the same users' interactions.

    Args:
      ours: of one model.
      theirs: of the other, on the same data under the same plan and draws.
      split: of `SPLITS`.
      part: of `PARTS`.
      bootstrap: resamples behind each interval.

    Returns:
      {"hit_rate", "contribution"}: the other's minus ours, {"value", "over_users"} each. A hit
      rate is hits over interactions, and contribution here is in it too, so that every
      interaction counts the same; None where there is no such interaction.

    Raises:
      ValueError: the users differ.
    """
    p = PARTS.index(part)
    relevant = ours.relevant[split][p]
    same = np.array_equal(ours.users, theirs.users)
    if not same or not np.array_equal(relevant, theirs.relevant[split][p]):
        raise ValueError("the hits are not of the same users")
    having = relevant > 0
    if not having.any():
        return {"hit_rate": None, "contribution": None}
    (own, mean), (other, other_mean) = (h.found[split][:2, p][:, having] for h in (ours, theirs))
    columns = np.stack([other - own, (other - other_mean) - (own - mean), relevant[having]], axis=1)
    drawn = resample(columns.astype(float), np.arange(len(columns)), bootstrap)
    value = columns.mean(axis=0)
    return {
        name: {
            "value": float(value[n] / value[2]),
            "over_users": interval(drawn[:, n] / drawn[:, 2]),
        }
        for n, name in enumerate(("hit_rate", "contribution"))
    }
