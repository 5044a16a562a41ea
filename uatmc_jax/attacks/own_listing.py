"""Copying another listing where content is read by lists and otherwise too, under own_row.

Models such as LATTICE, MGCN and DRAGON read raw features through lists, whose changes no gradient
sees, and projected ones beside. Under the policy own_row an edit moves the item's own embedding
alone, which the model gives (`Model.own_row`): so the item is moved towards other listings as far
as the budget lets it (`relisting.towards`), its lists are made anew, exactly, and what the model
then says of it is measured. Donors are those whose own embeddings the most users would see.

A lower bound of what is possible: not all donors are tried, and nothing between them.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.attacks.listings import others_bar, unmoved
from uatmc_jax.attacks.relisting import Relisted, towards
from uatmc_jax.attacks.victim import Victim, check_items, check_lists, recommendable
from uatmc_jax.errors import InputError
from uatmc_jax.models import Modal, Model, Served
from uatmc_jax.models.neighbours import Directions, Neighbours, cosines, directions, nearest
from uatmc_jax.models.protocol import PyTree
from uatmc_jax.numerics import EXACT


class OwnListings(NamedTuple):
    """Of a victim, once for many targets.

    Attributes:
      of: by modality, the items' directions.
      lengths: by modality, of the lists.
    """

    of: tuple[Directions, ...]
    lengths: tuple[int, ...]


def own_listings(victim: Victim) -> OwnListings:
    """What the search compares with.

    Raises:
      InputError: a model that makes no lists of raw features, or has no own row.
    """
    lists = _lists(victim.graph.relations)
    if victim.model.own_row is None or len(lists) != len(victim.modalities):
        raise InputError(
            f"model {victim.model.name} does not say what an item's own row is (own_row), or makes "
            "no list a modality of raw features (relate), so no listing can be copied into it."
        )
    of = tuple(map(directions, victim.dataset.features))
    return OwnListings(of, tuple(s.ids.shape[1] for s in lists))


def _is_list(x: PyTree) -> bool:
    return isinstance(x, Neighbours)


def _lists(relations: PyTree) -> list[Neighbours]:
    """A model's lists of raw features, one a modality, in whatever record it keeps them."""
    return [x for x in jax.tree.leaves(relations, is_leaf=_is_list) if _is_list(x)]


def relist_own_row(
    victim: Victim,
    items: np.ndarray,
    *,
    eps: float | None = None,
    k: int = 50,
    tried: int = 16,
    of: OwnListings | None = None,
) -> Relisted:
    """Promotes each target alone by copying other listings, first of all modalities, then of each.

    Args:
      victim: the clean model, of one with `own_row` and lists of raw features.
      items: (T,) targets.
      eps: radius in raw features, l2, a share of the row's 2-norm; None for any content.
      k: the K.
      tried: donors in each round.
      of: `own_listings(victim)`, if known already.

    Raises:
      InputError: a model without, an item that is none, a negative eps, or a K beyond the lists
        that the victim keeps.
    """
    if eps is not None and not eps >= 0:
        raise InputError(f"eps = {eps}: wanted a number >= 0, or None for any content.")
    items = check_items(victim, items)
    check_lists(victim, (k,))
    of = own_listings(victim) if of is None else of
    found = [_one(victim, of, int(item), (eps, k, tried)) for item in items]
    before, after, donors, features = zip(*found, strict=True)
    return Relisted(
        policy="own_row",
        blind=None,
        items=items,
        hr_before=np.array(before),
        hr_after=np.array(after),
        donors=np.array(donors),
        features=tuple(np.stack(x) for x in zip(*features, strict=True)),
        moved=np.zeros(len(items), int),
    )


def _one(victim: Victim, of: OwnListings, item: int, how: tuple) -> tuple:
    """`hr_before`, `hr_after`, `donors` and `features` of one target."""
    eps, k, tried = how
    features = victim.dataset.features
    user, bars = np.asarray(victim.user), others_bar(victim, item, unmoved(victim, item), k)
    bars = np.where(np.asarray(recommendable(victim, jnp.int32(item))), bars, np.inf)

    def rates(rows: np.ndarray) -> np.ndarray:
        return (user @ rows.T > bars[:, None]).mean(axis=0)

    def edit(donors: tuple[int, ...]) -> tuple[np.ndarray, ...]:
        return tuple(towards(x[item], x[s], eps) for x, s in zip(features, donors, strict=True))

    own = np.asarray(victim.item)
    order = np.lexsort((-(own @ user.mean(axis=0)), -rates(own)))
    order = order[order != item][:tried]
    before = float(rates(own[[item]])[0])
    best, donors = before, (item,) * len(features)

    def improved(tries: list[tuple[int, ...]], best: float, donors: tuple[int, ...]):
        found = rates(own_rows(victim, of, item, [edit(one) for one in tries]))
        n = int(np.argmax(found))
        return (float(found[n]), tries[n]) if found[n] > best else (best, donors)

    best, donors = improved([(int(s),) * len(features) for s in order], best, donors)
    for m in range(len(features)):  # one anew, the others' as they are
        tries = [(*donors[:m], int(s), *donors[m + 1 :]) for s in order]
        best, donors = improved(tries, best, donors)
    return before, best, donors, edit(donors)


def own_rows(
    victim: Victim, of: OwnListings, item: int, edits: list[tuple[np.ndarray, ...]]
) -> np.ndarray:
    """(B, D) the item's embedding under own_row, once for each of B edits.

    Args:
      victim: the clean model.
      of: its lists.
      item: the edited one.
      edits: B times its raw features, modal (dim_m,).
    """
    ids, values = [], []
    for m, by_edit in enumerate(zip(*edits, strict=True)):
        units = np.stack(by_edit).astype(np.float64)
        units /= np.linalg.norm(units, axis=1, keepdims=True)
        near = nearest(cosines(of.of[m], units), np.full(len(edits), item), of.lengths[m])
        ids.append(jnp.asarray(near.ids))
        values.append(jnp.asarray(near.cosines, jnp.float32))
    rows = tuple(jnp.asarray(np.stack(x)) for x in zip(*edits, strict=True))
    clean = Served(victim.z, victim.graph)
    lists = tuple(zip(ids, values, strict=True))
    parts = victim.encoder, victim.projectors
    return np.asarray(_own_rows(victim.model, parts, clean, jnp.int32(item), rows, lists))


@functools.partial(jax.jit, static_argnames="model")
def _own_rows(
    model: Model,
    parts: tuple[PyTree, PyTree],
    clean: Served,
    item: jax.Array,
    rows: Modal,
    lists: tuple[tuple[jax.Array, jax.Array], ...],
) -> jax.Array:
    encoder, projectors = parts

    def one(z: Modal, lists: tuple[tuple[jax.Array, jax.Array], ...]) -> jax.Array:
        new = iter(lists)
        relations = jax.tree.map(
            lambda x: x.with_row(item, *next(new)) if _is_list(x) else x,
            clean.graph.relations,
            is_leaf=_is_list,
        )
        content = tuple(x.at[item].set(row) for x, row in zip(clean.z, z, strict=True))
        edited = Served(content, clean.graph.replace(relations=relations))
        return model.own_row(encoder, clean, edited, item)

    with jax.default_matmul_precision(EXACT):
        return jax.vmap(one)(model.project(projectors, rows), lists)
