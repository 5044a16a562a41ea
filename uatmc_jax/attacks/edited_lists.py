"""A model's lists of raw features once one item is edited, and what everything rebuilt is then.

For models that read content by lists and otherwise too (LATTICE, MGCN, DRAGON). An edit of item t
makes t's own list anew, and changes another's only where t enters it, leaves it or changes its
place: the k nearest others of every item, of which one waits, decide that, so that no other two
items are compared again. Tested equal to comparing all with all (`policies.served`).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.attacks.listings import TIE, compared
from uatmc_jax.attacks.victim import Victim, recommendable
from uatmc_jax.errors import InputError
from uatmc_jax.evaluation.ranking import count_at_least
from uatmc_jax.models import Embeddings, Graph, Modal, Model
from uatmc_jax.models.neighbours import (
    Directions,
    Nearest,
    Neighbours,
    cosine_valued,
    cosines,
    nearest,
    unweighted,
)
from uatmc_jax.models.protocol import PyTree
from uatmc_jax.numerics import EXACT


class OwnListings(NamedTuple):
    """Of a victim, once for many targets.

    Attributes:
      of: by modality, the items' directions.
      near: by modality, each item's list and one more, that waits outside.
      lengths: by modality, of the lists.
    """

    of: tuple[Directions, ...]
    near: tuple[Nearest, ...]
    lengths: tuple[int, ...]


def own_listings(victim: Victim) -> OwnListings:
    """What the search compares with.

    Raises:
      InputError: a model that makes no lists of raw features, or has no own row, or lists that
        no edit can change.
    """
    lists, n_items = lists_of(victim.graph.relations), len(victim.item)
    if victim.model.own_row is None or len(lists) != len(victim.modalities):
        raise InputError(
            f"model {victim.model.name} does not say what an item's own row is (own_row), or makes "
            "no list a modality of raw features (relate), so no listing can be copied into it."
        )
    lengths = tuple(s.ids.shape[1] for s in lists)
    if not 2 <= min(lengths) <= max(lengths) < n_items:
        raise InputError(
            f"lists of {lengths} of {n_items} items: wanted at least 2, and fewer than the items, "
            "so that an edit can change them (config.model.n_neighbours)."
        )
    found = [compared(victim.dataset, k)[m] for m, k in enumerate(lengths)]
    return OwnListings(tuple(of for of, _ in found), tuple(near for _, near in found), lengths)


def is_list(x: PyTree) -> bool:
    """Whether it is a graph of an item's neighbours."""
    return isinstance(x, Neighbours)


def lists_of(relations: PyTree) -> list[Neighbours]:
    """A model's lists of raw features, one a modality, in whatever record it keeps them."""
    return [x for x in jax.tree.leaves(relations, is_leaf=is_list) if is_list(x)]


def rebuilt(victim: Victim, of: OwnListings, item: int, rows: tuple[np.ndarray, ...]) -> Embeddings:
    """Everything once an item has new raw features, as under the policy full.

    Args:
      victim: the clean model.
      of: its lists.
      item: the edited one.
      rows: modal, (dim_m,), its raw features.

    Returns:
      Of the victim's users, (n, D), and of all items, (|I|, D).
    """
    parts = zip(of.of, of.near, rows, strict=True)
    new = iter([edited_nearest(one, near, item, row) for one, near, row in parts])
    relations = jax.tree.map(
        lambda x: _weighed(x, next(new)) if is_list(x) else x,
        victim.graph.relations,
        is_leaf=is_list,
    )
    graph = victim.graph.replace(relations=relations)
    fixed = victim.encoder, victim.projectors, victim.users, victim.z
    return _rebuilt(victim.model, fixed, graph, jnp.int32(item), tuple(map(jnp.asarray, rows)))


def edited_nearest(of: Directions, near: Nearest, item: int, row: np.ndarray) -> Nearest:
    """All items' lists once one has other features.

    Args:
      of: the items' directions.
      near: their lists and one more, (|I|, k + 1) each, itself first.
      item: the edited one.
      row: (dim,) its features.

    Returns:
      (|I|, k) each.
    """
    unit = row.astype(np.float64) / np.linalg.norm(row.astype(np.float64))
    found, k = cosines(of, unit[None])[0], near.ids.shape[1] - 1
    others, theirs = near.ids[:, 1:], near.cosines[:, 1:].copy()
    theirs[others == item] = -np.inf
    tied = np.abs(theirs - found[:, None]) <= TIE
    same = np.where(tied, theirs, -np.inf).max(axis=1)
    now = np.where(tied.any(axis=1), same, found)
    ids = np.concatenate([others, np.full((len(others), 1), item, others.dtype)], axis=1)
    both = np.concatenate([theirs, np.minimum(now, 1.0)[:, None]], axis=1)
    order = np.lexsort((ids, -both), axis=1)[:, : k - 1]
    lists = np.concatenate([near.ids[:, :1], np.take_along_axis(ids, order, axis=1)], axis=1)
    values = np.concatenate([near.cosines[:, :1], np.take_along_axis(both, order, axis=1)], axis=1)
    own = nearest(found[None], np.array([item]), k)
    lists[item], values[item] = own.ids[0], own.cosines[0]
    return Nearest(lists, values)


def _weighed(stored: Neighbours, lists: Nearest) -> Neighbours:
    """As the model weighs its lists."""
    return unweighted(lists) if stored.sums is None else cosine_valued(lists)


@functools.partial(jax.jit, static_argnames="model")
def _rebuilt(
    model: Model,
    fixed: tuple[PyTree, PyTree, jax.Array, Modal],
    graph: Graph,
    item: jax.Array,
    rows: Modal,
) -> Embeddings:
    encoder, projectors, users, clean = fixed
    with jax.default_matmul_precision(EXACT):
        own = model.project(projectors, tuple(x[None] for x in rows))
        z = tuple(x.at[item].set(row[0]) for x, row in zip(clean, own, strict=True))
        user, items = model.encode(encoder, z, graph)
    return Embeddings(user[users], items)


def ahead(victim: Victim, item: int, edited: Embeddings) -> np.ndarray:
    """(n,) how many others each user has before an item; |I| where it is never recommended.

    Args:
      victim: the clean model.
      item: the edited one.
      edited: embeddings of its users, and of all items.
    """
    return np.asarray(_ahead(victim, edited, jnp.int32(item)))


@jax.jit
def _ahead(victim: Victim, edited: Embeddings, item: jax.Array) -> jax.Array:
    user, table = edited
    with jax.default_matmul_precision(EXACT):
        scores = (user @ table[item])[:, None]
        counts = count_at_least(user, table, victim.plan, scores, item[None])[:, 0]
    return jnp.where(recommendable(victim, item), counts, len(table))
