"""The model under attack as the attacker finds it: everything that does not change with the target.

The users are those the attack is crafted on and measured on, in the order
given; "position" is a place in that order.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.data import (
    CSR,
    Adjacency,
    Dataset,
    Graph,
    Interactions,
    contains,
    make_csr,
    of_users,
)
from uatmc_jax.errors import InputError
from uatmc_jax.evaluation.ranking import RankingPlan, make_plan, top_k
from uatmc_jax.models import Modal, Model, Params, device_data, project_catalogue
from uatmc_jax.models.protocol import PyTree
from uatmc_jax.numerics import EXACT

# Best items to keep beyond the largest K, for users in a receptive field.
SPARE_ITEMS = 77
_HOST = ("dataset", "adjacency")
_STATIC = ("model", "modalities")


@dataclasses.dataclass(frozen=True, eq=False)
class Victim:
    """A trained model, clean, with n users to attack.

    A pytree of its arrays. What only the host reads is not part of it: inside
    compiled functions `dataset` and `adjacency` are None.

    Attributes:
      model: the recommender (static).
      modalities: the data's, in order (static).
      encoder: its parameters.
      projectors: those of its projectors.
      features: modal, raw, (|I|, dim_m).
      z: modal, (|I|, d), clean.
      graph: the training graph.
      users: (n,) int32 ids.
      user: (n, D) their clean embeddings.
      item: (|I|, D) clean embeddings.
      plan: ranks these users, with the masked items left out.
      masked: items never recommended, by position; None if there are none.
      best_scores: (n, L) each user's best clean scores, descending; -inf past the last.
      best_items: (n, L) int32 the items they belong to.
      trace: what the model's `field` keeps of the clean pass; None if it has none.
      dataset: the data, on the host.
      adjacency: of the training graph, on the host.
    """

    model: Model
    modalities: tuple[str, ...]
    encoder: PyTree
    projectors: PyTree
    features: Modal
    z: Modal
    graph: Graph
    users: jax.Array
    user: jax.Array
    item: jax.Array
    plan: RankingPlan
    masked: CSR | None
    best_scores: jax.Array
    best_items: jax.Array
    trace: PyTree
    dataset: Dataset | None = None
    adjacency: Adjacency | None = None


jax.tree_util.register_dataclass(
    Victim,
    data_fields=[f.name for f in dataclasses.fields(Victim) if f.name not in _STATIC + _HOST],
    meta_fields=_STATIC,
    drop_fields=_HOST,
)


@functools.partial(jax.jit, static_argnames=("model", "depth"))
def encoded(
    model: Model,
    encoder: PyTree,
    z: Modal,
    graph: Graph,
    users: jax.Array,
    plan: RankingPlan,
    depth: int,
) -> tuple[jax.Array, jax.Array, tuple[jax.Array, jax.Array], PyTree]:
    """The users' and all items' embeddings, each user's best items, and the model's trace.

    Args:
      model: the recommender.
      encoder: its parameters.
      z: modal, (|I|, d).
      graph: the training graph.
      users: (n,) int32.
      plan: ranks these users.
      depth: how many items.
    """
    with jax.default_matmul_precision(EXACT):
        user, item = model.encode(encoder, z, graph)
        trace = None if model.field is None else model.field.trace(encoder, z, graph)
        best = top_k(user[users], item, plan, depth)
    return user[users], item, best, trace


class Lists(NamedTuple):
    """How much of the clean ranking a victim keeps, and how it is computed.

    Attributes:
      k: the largest K that will be asked for.
      spare: best items to keep beyond, for models that propagate or list neighbours.
      block_users: users ranked at a time.
      block_items: items ranked at a time.
      encoded: what computes it, as `encoded` here.
    """

    k: int = 50
    spare: int = SPARE_ITEMS
    block_users: int = 2048
    block_items: int = 8192
    encoded: Callable[..., tuple] = encoded


def make_victim(
    model: Model,
    params: Params,
    dataset: Dataset,
    users: Sequence[int] | np.ndarray | None = None,
    *,
    masked: bool = False,
    z: Modal | None = None,
    lists: Lists | None = None,
) -> Victim:
    """Encodes the clean model and ranks each user's best items once.

    Args:
      model: the recommender.
      params: its parameters.
      dataset: the data it was trained on.
      users: (n,) distinct user ids, in any order; by default all who have a training interaction.
      masked: never recommend a user's training items; False ranks all items, as the
        published evaluation does.
      z: modal, (|I|, d), the clean projected features, if they are known already.
      lists: how long the kept lists are; by default `Lists()`.

    Raises:
      InputError: users that are none of the data's or named twice, or an embedding that is
        not finite.
    """
    lists, data = lists or Lists(), device_data(model, dataset)
    users = np.unique(dataset.train.users) if users is None else np.asarray(users)
    known = len(users) and users.min() >= 0 and users.max() < dataset.n_users
    if not known or len(np.unique(users)) < len(users):
        raise InputError(
            f"users: wanted at least one of the data's, 0 to {dataset.n_users - 1}, each once."
        )
    seen = of_users(dataset.train, users) if masked else None
    nothing = Interactions(np.zeros(0, np.int32), np.zeros(0, np.int32))
    blocks = lists.block_users, lists.block_items
    plan = make_plan(nothing if seen is None else seen, len(users), dataset.n_items, *blocks)
    users = jnp.asarray(users, jnp.int32)
    spare = 0 if model.field is None and model.lists is None else lists.spare
    depth = lists.k + 1 + spare
    z = project_catalogue(model, params, data.features) if z is None else z
    kept = min(depth, dataset.n_items)
    given = model, params.encoder, z, data.graph, users
    user, item, best, trace = lists.encoded(*given, plan=plan, depth=kept)
    if not (jnp.isfinite(user).all() and jnp.isfinite(item).all()):
        raise InputError(
            f"the checkpoint's {model.name} gives embeddings that are not finite, so nothing can "
            "be ranked. Attack an earlier epoch, or train anew with a lower learning rate."
        )
    return Victim(
        model=model,
        modalities=dataset.modalities,
        encoder=params.encoder,
        projectors=params.projectors,
        features=data.features,
        z=z,
        graph=data.graph,
        users=users,
        user=user,
        item=item,
        plan=plan,
        masked=None if seen is None else make_csr(seen, len(users)),
        best_scores=_fill(best[0], depth, -jnp.inf),
        best_items=_fill(best[1], depth, dataset.n_items),
        trace=trace,
        dataset=dataset,
        adjacency=dataset.adjacency,
    )


def _fill(rows: jax.Array, width: int, value: float) -> jax.Array:
    return jnp.pad(rows, ((0, 0), (0, width - rows.shape[1])), constant_values=value)


def recommendable(victim: Victim, target: jax.Array) -> jax.Array:
    """(n,) bool: to whom the target can be recommended at all.

    Args:
      victim: the model under attack.
      target: () int32 item.
    """
    n = victim.users.shape[0]
    if victim.masked is None:
        return jnp.ones(n, bool)
    return ~contains(victim.masked, jnp.arange(n), jnp.broadcast_to(target, n))


def rows_of(tables: Modal, target: jax.Array) -> Modal:
    """The target's rows of modal tables, (1, dim_m) each."""
    rows = (jax.lax.dynamic_slice_in_dim(x, target, 1) for x in tables)
    return tuple(x.astype(jnp.float32) for x in rows)  # as whatever they are kept


def chosen_modalities(victim: Victim, names: Sequence[str]) -> tuple[int, ...]:
    """Places of the named modalities in the data's order; of all where none is named.

    Raises:
      InputError: a name that is none of the data's.
    """
    for name in names:
        if name not in victim.modalities:
            raise InputError(
                f"modality '{name}' is not one of the data's: {', '.join(victim.modalities)}."
            )
    return tuple(n for n, name in enumerate(victim.modalities) if not names or name in names)


def check_items(victim: Victim, items: Sequence[int] | np.ndarray) -> np.ndarray:
    """The targets as (T,) int32.

    Raises:
      InputError: none at all, or one that is no item's number.
    """
    found, n_items = np.asarray(items), victim.item.shape[0]
    if found.ndim != 1 or not len(found) or found.dtype.kind not in "iu":
        raise InputError(f"items = {items!r}: wanted at least one item's number, in a list.")
    wrong = found[(found < 0) | (found >= n_items)]
    if len(wrong):
        raise InputError(f"item {wrong[0]}: no such number; the items are 0 to {n_items - 1}.")
    return found.astype(np.int32)


def check_lists(victim: Victim, ks: Sequence[int]) -> None:
    """Raises InputError for a K that the victim's lists of best items do not reach."""
    most, kept = max(ks), victim.best_items.shape[1] - 1
    if most > kept:
        raise InputError(
            f"K = {most}, but the victim keeps each user's best {kept} items. Make it with "
            f"lists = Lists(k={most}), or use a smaller K."
        )
    if most > victim.item.shape[0]:
        raise InputError(
            f"K = {most}, but there are {victim.item.shape[0]} items. Use a smaller K."
        )
