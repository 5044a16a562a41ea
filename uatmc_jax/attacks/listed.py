"""Outcomes that the host computes: of listings copied, and of edits that change nothing.

What is climbed is HR@K itself, at the attack's K: it stands where other attacks have Phi.
"""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.attacks.batching import Options
from uatmc_jax.attacks.edited_lists import OwnListings, ahead, own_listings, rebuilt
from uatmc_jax.attacks.listings import Listings, Relisting, hits, listings, relisted, unmoved
from uatmc_jax.attacks.neighbour_choice import choose_neighbours
from uatmc_jax.attacks.own_listing import own_rows, relist_rows
from uatmc_jax.attacks.record import Attack, Outcome
from uatmc_jax.attacks.relisting import relist
from uatmc_jax.attacks.soft_lists import Effort
from uatmc_jax.attacks.victim import Victim, check_items, chosen_modalities, recommendable
from uatmc_jax.evaluation.ranking import count_at_least
from uatmc_jax.models import Embeddings, Modal, Model, blind
from uatmc_jax.models.protocol import PyTree
from uatmc_jax.numerics import EXACT

LISTS, NOTHING = "lists", "none"  # in the place of a scorer's name
_TOGETHER = 8  # targets between two writes of a caller's journal


class _Measured(NamedTuple):
    """Of one target: (1 + Ks,) hit rates, first at the attack's own K, and its mean rank."""

    rates: np.ndarray
    rank: float | None


def relist_batches(
    attack: Attack, victim: Victim, items: np.ndarray, options: Options
) -> Iterator[tuple[np.ndarray, Outcome]]:
    """Copies other listings for each target alone, as `attack_batches` yields it.

    Args:
      attack: of a search of `LISTED`, one budget or several.
      victim: the clean model, of one with lists of raw features.
      items: (T,) targets.
      options: what is measured, and the policy.

    Yields:
      (places in `items`, their `Outcome`); `values` are HR@k before and after.

    Raises:
      InputError: an item that is none, or lists that no edit can change.
    """
    items, alone = check_items(victim, items), victim.model.lists is not None
    of = listings(victim) if alone else own_listings(victim)
    for places in _blocks(len(items)):
        yield places, _join([_copied(attack, victim, of, i, options) for i in items[places]])


def nothing_batches(
    attack: Attack, victim: Victim, items: np.ndarray, options: Options
) -> Iterator[tuple[np.ndarray, Outcome]]:
    """The same of a model that no edit moves: nothing is searched for.

    Args:
      attack: its K, level, modalities and number of budgets matter.
      victim, items, options: as of `relist_batches`.
    """
    items = check_items(victim, items)
    chosen = chosen_modalities(victim, attack.modalities)
    tables = victim.z if attack.level == "projected" else victim.features
    for places in _blocks(len(items)):
        found = []
        for item in items[places]:
            still, z = unmoved(victim, item), tuple(np.asarray(x[item]) for x in victim.z)
            rows = tuple(np.zeros(tables[m].shape[1], np.float32) for m in chosen)
            before = _measured(attack, victim, int(item), still, options)
            budgets = [(before, rows, z)] * np.size(attack.eps)
            found.append(_outcome(attack, int(item), before, budgets, NOTHING))
        yield places, _join(found)


def listed_hits(
    victim: Victim, items: np.ndarray, delta: tuple[np.ndarray, ...], k: int, policy: str
) -> np.ndarray:
    """Which users have each target in their top K, clean and with given raw features.

    Args:
      victim: the clean model, of one with lists of raw features, or blind under the policy.
      items: (T,) targets.
      delta: modal, (T, dim_m), what is added to their raw features.
      k: the K.
      policy: "own_row" or "full".

    Returns:
      (T, 2, n) bool: before, after.
    """
    items, found, of = check_items(victim, items), [], None
    if not blind(victim.model, policy):
        of = own_listings(victim) if victim.model.lists is None else listings(victim)
    for n, item in enumerate(items.tolist()):
        before = after = unmoved(victim, item)
        if of is not None:
            both = zip(victim.dataset.features, delta, strict=True)
            after = _edited(
                victim, of, item, tuple(x[item] + moved[n] for x, moved in both), policy
            )
        found.append([_seen(victim, item, x, k) for x in (before, after)])
    return np.array(found)


def relisted_embeddings(victim: Victim, item: int, rows: tuple[np.ndarray, ...]) -> Embeddings:
    """Embeddings once an item has new raw features, under full.

    Args:
      victim: the clean model, of one with lists of raw features.
      item: the edited one.
      rows: modal, (dim_m,), its raw features.
    """
    if victim.model.lists is None:
        return rebuilt(victim, own_listings(victim), item, rows)
    table = np.array(victim.item)
    found = relisted(listings(victim), table, item, rows, "full")
    table[item], table[found.moved] = found.own, found.rows
    return Embeddings(victim.user, table)


def _edited(
    victim: Victim, of: Listings | OwnListings, item: int, rows: tuple, policy: str
) -> Relisting | Embeddings:
    """What moves, or everything where users may."""
    if isinstance(of, Listings):
        return relisted(of, np.asarray(victim.item), item, rows, policy)
    if all(
        np.array_equal(x[item], row) for x, row in zip(victim.dataset.features, rows, strict=True)
    ):
        return unmoved(victim, item)
    if policy == "own_row":
        return unmoved(victim, item)._replace(own=own_rows(victim, of, item, [rows])[0])
    return rebuilt(victim, of, item, rows)


def _seen(victim: Victim, item: int, found: Relisting | Embeddings, k: int) -> np.ndarray:
    """(n,) bool: who has the item in her top K."""
    if isinstance(found, Relisting):
        return hits(victim, item, found, k)
    return ahead(victim, item, found) < k


def _blocks(count: int) -> list[np.ndarray]:
    return [np.arange(start, min(start + _TOGETHER, count)) for start in range(0, count, _TOGETHER)]


def _copied(
    attack: Attack, victim: Victim, of: Listings | OwnListings, item: int, options: Options
) -> Outcome:
    """One target within each of the budgets."""
    item, features = int(item), victim.dataset.features
    within = {"policy": options.serving, "k": attack.k, "of": of}
    search: Callable = relist if isinstance(of, Listings) else relist_rows
    if attack.search == "neighbours":
        search, within["effort"] = choose_neighbours, Effort(steps=attack.steps)
    else:
        within["verified"] = attack.steps
    budgets = []
    for eps in np.atleast_1d(np.asarray(attack.eps, float)).tolist():
        edit = tuple(x[0] for x in search(victim, np.array([item]), eps=eps, **within).features)
        result = _edited(victim, of, item, edit, options.serving)
        z = _projected(victim.model, victim.projectors, tuple(x[None] for x in edit))
        moved = tuple(new - x[item] for new, x in zip(edit, features, strict=True))
        measured = _measured(attack, victim, item, result, options)
        budgets.append((measured, moved, tuple(np.asarray(x[0]) for x in z)))
    before = _measured(attack, victim, item, unmoved(victim, item), options)
    return _outcome(attack, item, before, budgets, LISTS)


def _measured(
    attack: Attack, victim: Victim, item: int, found: Relisting | Embeddings, options: Options
) -> _Measured:
    ks, rank = (attack.k, *(options.ks or (attack.k,))), None
    if isinstance(found, Relisting):
        rates = [hits(victim, item, found, k).mean() for k in ks]
        rank = _rank(victim, item, found) if options.ranks else None
    else:
        before_it = ahead(victim, item, found)
        there = before_it < len(victim.item)
        rates = [(before_it < k).mean() for k in ks]
        rank = float((before_it[there] + 1).mean()) if there.any() else 0.0
    return _Measured(np.array(rates, "f4"), rank if options.ranks else None)


def _outcome(
    attack: Attack,
    item: int,
    before: _Measured,
    budgets: list[tuple[_Measured, Modal, Modal]],
    name: str,
) -> Outcome:
    """Of one target: what was measured, its perturbation and its content, by budget."""
    after = np.stack([found.rates for found, *_ in budgets])
    rank_before = rank_after = None
    if before.rank is not None:
        rank_before = np.array([before.rank])
        rank_after = _by_budget(attack, [found.rank for found, *_ in budgets])
    return Outcome(
        items=np.array([item], np.int32),
        utility_before=before.rates[:1],
        utility_after=_by_budget(attack, after[:, 0]),
        values=_by_budget(attack, [(before.rates[0], one) for one in after[:, 0]]),
        hr_before=before.rates[None, 1:],
        hr_after=_by_budget(attack, after[:, 1:]),
        rank_before=rank_before,
        rank_after=rank_after,
        z=tuple(_by_budget(attack, x) for x in zip(*(z for *_, z in budgets), strict=True)),
        delta=tuple(_by_budget(attack, x) for x in zip(*(d for _, d, _ in budgets), strict=True)),
        scorers=np.array([name]),
    )


def _by_budget(attack: Attack, values) -> np.ndarray:
    """(1, E, ...) of E budgets' values, or (1, ...) of a single one."""
    rows = np.array(values)
    return rows[None] if np.ndim(attack.eps) else rows


def _join(found: list[Outcome]) -> Outcome:
    return jax.tree.map(lambda *rows: np.concatenate(rows), *found)


@functools.partial(jax.jit, static_argnames="model")
def _projected(model: Model, projectors: PyTree, rows: Modal) -> Modal:
    with jax.default_matmul_precision(EXACT):
        return model.project(projectors, rows)


def _rank(victim: Victim, item: int, found: Relisting) -> float:
    """As `outcome.mean_ranks`."""
    table = np.array(victim.item)
    table[item], table[found.moved] = found.own, found.rows
    return float(_mean_rank(victim, jnp.asarray(table), jnp.int32(item)))


@jax.jit
def _mean_rank(victim: Victim, table: jax.Array, item: jax.Array) -> jax.Array:
    with jax.default_matmul_precision(EXACT):
        scores = (victim.user @ table[item])[:, None]
        counts = count_at_least(victim.user, table, victim.plan, scores, item[None])[:, 0]
    seen_by = recommendable(victim, item)
    return jnp.sum(jnp.where(seen_by, counts + 1, 0)) / jnp.maximum(jnp.sum(seen_by), 1)
