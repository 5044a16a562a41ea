"""Copying another listing where content is read by lists and otherwise too.

Models such as LATTICE, MGCN and DRAGON read raw features through lists, whose changes no gradient
sees, and projected ones beside. Under the policy own_row an edit moves the item's own embedding
alone, which the model gives (`Model.own_row`): so the item is moved towards other listings as far
as the budget lets it (`relisting.towards`), its lists are made anew, exactly, and what the model
then says of it is measured. Donors are those whose own embeddings the most users would see. Under
full they are ranked so, and the best measured with everything rebuilt (`edited_lists.rebuilt`).

A lower bound of what is possible: not all donors are tried, and nothing between them.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.attacks.edited_lists import OwnListings, ahead, is_list, own_listings, rebuilt
from uatmc_jax.attacks.listings import others_bar, unmoved
from uatmc_jax.attacks.relisting import Relisted, towards
from uatmc_jax.attacks.victim import Victim, check_items, check_lists, recommendable
from uatmc_jax.errors import InputError
from uatmc_jax.models import Embeddings, Modal, Model, Served, blind
from uatmc_jax.models.neighbours import cosines, nearest
from uatmc_jax.models.protocol import PyTree
from uatmc_jax.numerics import EXACT

TRIED = 16  # donors in each round


def relist_rows(
    victim: Victim,
    items: np.ndarray,
    *,
    eps: float | None = None,
    policy: str = "own_row",
    k: int = 50,
    verified: int = 3,
    of: OwnListings | None = None,
) -> Relisted:
    """Promotes each target alone by copying other listings, first of all modalities, then of each.

    Args:
      victim: the clean model, of one with `own_row` and lists of raw features.
      items: (T,) targets.
      eps: radius in raw features, l2, a share of the row's 2-norm; None for any content.
      policy: of `POLICIES`.
      k: the K.
      verified: under full, how many of the best are measured after each ranking.
      of: `own_listings(victim)`, if known already.

    Raises:
      InputError: no such policy, a model without, an item that is none, a negative eps, or a K
        beyond the lists that the victim keeps.
    """
    if eps is not None and not eps >= 0:
        raise InputError(f"eps = {eps}: wanted a number >= 0, or None for any content.")
    items = check_items(victim, items)
    check_lists(victim, (k,))
    why = blind(victim.model, policy)
    of = own_listings(victim) if of is None and not why else of
    how = _How(eps, policy, k, verified if policy == "full" else 0)
    found = [_one(victim, None if why else of, int(item), how) for item in items]
    before, after, donors, features, moved = zip(*found, strict=True)
    return Relisted(
        policy=policy,
        blind=why,
        items=items,
        hr_before=np.array(before),
        hr_after=np.array(after),
        donors=np.array(donors),
        features=tuple(np.stack(x) for x in zip(*features, strict=True)),
        moved=np.array(moved),
    )


class _How(NamedTuple):
    """`verified` is 0 where own rows are all that moves."""

    eps: float | None
    policy: str
    k: int
    verified: int


class _Found(NamedTuple):
    """The best edit of one target so far."""

    rate: float
    donors: tuple[int, ...]
    moved: int


def _one(victim: Victim, of: OwnListings | None, item: int, how: _How) -> tuple:
    """`hr_before`, `hr_after`, `donors`, `features` and `moved` of one target."""
    features, user = victim.dataset.features, np.asarray(victim.user)
    bars = others_bar(victim, item, unmoved(victim, item), how.k)
    bars = np.where(np.asarray(recommendable(victim, jnp.int32(item))), bars, np.inf)

    def rates(rows: np.ndarray) -> np.ndarray:
        return (user @ rows.T > bars[:, None]).mean(axis=0)

    def edit(donors: tuple[int, ...]) -> tuple[np.ndarray, ...]:
        both = zip(features, donors, strict=True)
        return tuple(towards(x[item], x[s], how.eps) for x, s in both)

    own = np.asarray(victim.item)
    before = float(rates(own[[item]])[0])
    best = _Found(before, (item,) * len(features), 0)
    if of is None:
        return before, before, best.donors, edit(best.donors), 0
    order = np.lexsort((-(own @ user.mean(axis=0)), -rates(own)))
    order = order[order != item][:TRIED]

    def improved(tries: list[tuple[int, ...]], best: _Found) -> _Found:
        rows = own_rows(victim, of, item, [edit(one) for one in tries])
        found = rates(rows)
        if not how.verified:
            n = int(np.argmax(found))
            return _Found(float(found[n]), tries[n], 0) if found[n] > best.rate else best
        for n in np.lexsort((-(rows @ user.mean(axis=0)), -found))[: how.verified]:
            result = rebuilt(victim, of, item, edit(tries[n]))
            rate = float((ahead(victim, item, result) < how.k).mean())
            if rate > best.rate:
                best = _Found(rate, tries[n], moved_items(victim, item, result))
        return best

    best = improved([(int(s),) * len(features) for s in order], best)
    for m in range(len(features)):  # one anew, the others' as they are
        kept = best.donors
        best = improved([(*kept[:m], int(s), *kept[m + 1 :]) for s in order], best)
    return before, best.rate, best.donors, edit(best.donors), best.moved


def moved_items(victim: Victim, item: int, edited: Embeddings) -> int:
    """How many other items' embeddings are not what they were, but for rounding."""
    clean = np.asarray(victim.item)
    far = np.abs(np.asarray(edited.item) - clean).max(axis=1) > 1e-5 * np.abs(clean).max()
    far[item] = False
    return int(far.sum())


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
            lambda x: x.with_row(item, *next(new)) if is_list(x) else x,
            clean.graph.relations,
            is_leaf=is_list,
        )
        content = tuple(x.at[item].set(row) for x, row in zip(clean.z, z, strict=True))
        edited = Served(content, clean.graph.replace(relations=relations))
        return model.own_row(encoder, clean, edited, item)

    with jax.default_matmul_precision(EXACT):
        return jax.vmap(one)(model.project(projectors, rows), lists)
