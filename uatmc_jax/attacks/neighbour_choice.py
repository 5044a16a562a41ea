"""Searching for an edit that lists wanted neighbours, beside copying another listing.

Copying (`relisting`) tries the directions of other items alone. Between these lie lists that no
copy has. Two searches look for them, each from what was found before, both on a relaxation
(`soft_lists`): *soft*, projected ascent on the mean over users of elu(y_ut - bar_u) with lists
that are soft, ever less so; *greedy*, one wanted neighbour after the other, those first that
would make the most users see the item, each set asked for by a hinge on similarities.

What either finds counts only as the exact lists of the found features give it: neither is ever
below copying, and all are lower bounds (`attacks.certify_lists` is the upper one).
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from uatmc_jax.attacks.cosine_bounds import parts_of
from uatmc_jax.attacks.edited_lists import OwnListings, own_listings
from uatmc_jax.attacks.list_bounds import candidates
from uatmc_jax.attacks.listings import Listings, hits, listings, others_bar, relisted, unmoved
from uatmc_jax.attacks.own_listing import own_rows, relist_rows
from uatmc_jax.attacks.policies import blind
from uatmc_jax.attacks.relisting import INSIDE, relist
from uatmc_jax.attacks.soft_lists import Effort, ListAim, NormedAim, soft_lists, wanted_lists
from uatmc_jax.attacks.victim import Victim, recommendable
from uatmc_jax.errors import InputError
from uatmc_jax.models import ListParts, Modal
from uatmc_jax.models.neighbours import Directions, cosines, nearest
from uatmc_jax.numerics import normalize_rows


class Chosen(NamedTuple):
    """What became of T targets.

    Attributes:
      items: (T,) int32.
      hr_before: (T,) share of the users with the item in their top K.
      hr_copied: (T,) by copying alone.
      hr_after: (T,)
      found_by: (T,) "none", "copy", "soft" or "greedy".
      features: modal, (T, dim_m), the found raw features.
      moved: (T,) how many other items' embeddings moved.
    """

    items: np.ndarray
    hr_before: np.ndarray
    hr_copied: np.ndarray
    hr_after: np.ndarray
    found_by: np.ndarray
    features: tuple[np.ndarray, ...]
    moved: np.ndarray


class _Best(NamedTuple):
    """The best edit so far, by its exact lists."""

    rate: float
    by: str
    rows: tuple[np.ndarray, ...]
    moved: int


class _Search(NamedTuple):
    """One target's search.

    Attributes:
      aim: it, on the device, and
      normed: what more there is of lists that are added up as a direction, or None.
      effort: how long it is.
      of: by modality, the items' directions.
      among: by modality, ids of whom an edit can list.
      weights: by modality, about how much of a neighbour's row the item has.
      own: raw features -> (D,) its embedding, by its exact lists.
      measured: raw features -> its hit rate under the policy, and how many others moved.
    """

    aim: ListAim
    normed: NormedAim | None
    effort: Effort
    of: tuple[Directions, ...]
    among: tuple[np.ndarray, ...]
    weights: tuple[float, ...]
    own: Callable[[tuple[np.ndarray, ...]], np.ndarray]
    measured: Callable[[tuple[np.ndarray, ...]], tuple[float, int]]


def choose_neighbours(
    victim: Victim,
    items: np.ndarray,
    *,
    eps: float | None = None,
    policy: str = "own_row",
    k: int = 50,
    of: Listings | OwnListings | None = None,
    effort: Effort | None = None,
) -> Chosen:
    """Promotes each target alone by copying, then by a soft and a greedy choice of neighbours.

    Args:
      victim: the clean model, of one with item lists, or with lists that it adds up as a
        direction, for which only own_row is searched.
      items: (T,) targets.
      eps: radius in raw features, l2, a share of the row's 2-norm; None for any content.
      policy: of `POLICIES`.
      k: the K.
      of: `listings(victim)`, or `own_listings(victim)` of the latter, if known already.
      effort: by default `Effort()`.

    Raises:
      InputError: as `relist`, or as `relist_rows`.
    """
    still, normed = blind(victim.model, policy), victim.model.normed_lists is not None
    if normed and not still:
        if policy != "own_row":
            raise InputError(
                f"policy = {policy!r}: neighbours of model {victim.model.name} are chosen under "
                "'own_row' alone. Use it; attacks.served measures an edit under 'full'."
            )
        of = own_listings(victim) if of is None else of
        copied = relist_rows(victim, items, eps=eps, k=k, of=of)
        known, parts = of.of, parts_of(victim, victim.model.normed_lists)
    else:
        of = listings(victim) if of is None and not still else of
        copied = relist(victim, items, eps=eps, policy=policy, k=k, of=of)
        if still:
            rates = copied.hr_before, copied.hr_after, copied.hr_after
            nothing = np.full(len(copied.items), "none")
            return Chosen(copied.items, *rates, nothing, copied.features, copied.moved)
        known, parts = tuple(s.of for s in of.standings), None
    units = tuple(jnp.asarray(x.units, jnp.float32) for x in known)
    of_all = _Shared(victim, of, known, units, parts, (eps, policy, k), effort or Effort())
    search = functools.partial(_by_directions if normed else _by_lists, of_all)
    found = []
    for n, item in enumerate(map(int, copied.items)):
        rate, before = float(copied.hr_after[n]), copied.hr_before[n]
        rows, by = tuple(x[n] for x in copied.features), "none" if rate == before else "copy"
        found.append(_improved(search(item), _Best(rate, by, rows, int(copied.moved[n]))))
    rates, by, features, moved = zip(*found, strict=True)
    return Chosen(
        items=copied.items,
        hr_before=copied.hr_before,
        hr_copied=copied.hr_after,
        hr_after=np.array(rates),
        found_by=np.array(by),
        features=tuple(np.stack(x) for x in zip(*features, strict=True)),
        moved=np.array(moved),
    )


class _Shared(NamedTuple):
    """What all targets' searches have.

    Attributes:
      victim: the clean model.
      of: its lists.
      known: by modality, the items' directions, and
      units: those on the device.
      parts: of lists that are added up as a direction; None of others.
      how: eps, policy and k.
      effort: how long each is.
    """

    victim: Victim
    of: Listings | OwnListings
    known: tuple[Directions, ...]
    units: Modal
    parts: ListParts | None
    how: tuple[float | None, str, int]
    effort: Effort


def _by_lists(shared: _Shared, item: int) -> _Search:
    """Of a model whose content acts through item lists alone."""
    victim, of, (_, policy, k) = shared.victim, shared.of, shared.how
    shares, clean = tuple(s.share for s in of.standings), np.asarray(victim.item)

    def own(rows: tuple[np.ndarray, ...]) -> np.ndarray:
        return relisted(of, clean, item, rows, "own_row").own

    def measured(rows: tuple[np.ndarray, ...]) -> tuple[float, int]:
        found = relisted(of, clean, item, rows, policy)
        return float(hits(victim, item, found, k).mean()), len(found.moved)

    how = shared.how[0], k
    aim = list_aim(victim, shared.units, item, (of.base[item], of.table, shares, of.k), how)
    weights = tuple(share / of.k for share in shares)
    return _search(shared, aim, None, weights, own, measured)


def _by_directions(shared: _Shared, item: int) -> _Search:
    """Of a model that adds up raw and learned lists as a direction, under own_row."""
    victim, of, parts = shared.victim, shared.of, shared.parts
    lists, shares, table = victim.model.normed_lists, np.asarray(parts.shares), parts.table

    def own(rows: tuple[np.ndarray, ...]) -> np.ndarray:
        return own_rows(victim, of, item, [rows])[0]

    def measured(rows: tuple[np.ndarray, ...]) -> tuple[float, int]:
        found = unmoved(victim, item)._replace(own=own(rows))
        return float(hits(victim, item, found, shared.how[2]).mean()), 0

    normed = NormedAim(
        raw_share=jnp.float32(lists.raw_share),
        raw_sums=tuple(s.sums for s in parts.raw),
        z_units=tuple(map(normalize_rows, victim.z)),
        z_sums=parts.learned[0].sums,
        projectors=victim.projectors,
        model=victim.model,
    )
    raw = sum(
        w * s.values[item] @ table[s.ids[item]] for w, s in zip(shares, parts.raw, strict=True)
    )
    learned = sum(s.values[item] @ table[s.ids[item]] for s in parts.learned)
    added = np.linalg.norm(lists.raw_share * raw + (1 - lists.raw_share) * learned)
    how = shared.how[0], shared.how[2]
    given = parts.base[item], table, shares, of.lengths[0]
    aim = list_aim(victim, shared.units, item, given, how)
    weights = tuple(float(lists.raw_share * w / aim.k / max(added, 1e-12)) for w in shares)
    return _search(shared, aim, normed, weights, own, measured)


def _search(
    shared: _Shared,
    aim: ListAim,
    normed: NormedAim | None,
    weights: tuple[float, ...],
    own: Callable,
    measured: Callable,
) -> _Search:
    item, eps = int(aim.item), shared.how[0]
    near = (cosines(x, x.units[[item]])[0] for x in shared.known)
    among = tuple(candidates(found, item, aim.k, eps) for found in near)
    return _Search(aim, normed, shared.effort, shared.known, among, weights, own, measured)


def list_aim(
    victim: Victim, units: Modal, item: int, parts: tuple, how: tuple[float | None, int]
) -> ListAim:
    """One target on the device.

    Args:
      victim: the clean model.
      units: modal, (|I|, dim_m), the items' directions.
      item: the target.
      parts: its base (D,), the table (|I|, D), the modalities' shares, the lists' length.
      how: eps, or None for any content, and K.
    """
    (eps, k), (base, table, shares, length) = how, parts
    clean = tuple(x[item] for x in victim.dataset.features)
    lengths = (float(np.linalg.norm(x.astype(float))) for x in clean)
    radius = tuple(np.inf if eps is None else eps * INSIDE * x for x in lengths)
    bars = others_bar(victim, item, unmoved(victim, item), k)
    # Who never sees the item counts as far from it, the same at every edit.
    bars = np.where(np.asarray(recommendable(victim, jnp.int32(item))), bars, np.inf)
    return ListAim(
        item=jnp.int32(item),
        units=units,
        base=jnp.asarray(base),
        table=jnp.asarray(table),
        user=victim.user,
        bars=jnp.asarray(bars),
        clean=tuple(map(jnp.asarray, clean)),
        radius=tuple(jnp.float32(x) for x in radius),
        shares=jnp.asarray(shares, jnp.float32),
        k=length,
    )


def _improved(search: _Search, best: _Best) -> _Best:
    clean = tuple(map(np.asarray, search.aim.clean))

    def soft(rows: tuple[np.ndarray, ...], best: _Best) -> _Best:
        found = soft_lists(search.aim, search.normed, rows, search.effort)
        return _measured(search, found, "soft", best)

    for rows in (clean, best.rows):
        best = soft(rows, best)
    for m in range(len(clean)):
        best = _greedy(search, m, best)
    return soft(best.rows, best)


def _measured(search: _Search, rows: Modal, by: str, best: _Best) -> _Best:
    """The better of the two by the exact lists under the policy."""
    edit = tuple(np.array(x, np.float32) for x in rows)
    if not all(np.isfinite(x).all() and np.any(x) for x in edit):
        return best
    rate, moved = search.measured(edit)
    return _Best(rate, by, edit, moved) if rate > best.rate else best


def _greedy(search: _Search, m: int, best: _Best) -> _Best:
    """Wanted neighbours of one modality, the others' features as they are."""
    effort, wanted = search.effort, []
    for _ in range(min(effort.rounds, search.aim.k - 1)):
        others = np.setdiff1d(search.among[m], wanted)
        order = others[_promising(search, m, best.rows, wanted, others)]
        tries = []
        for j in order[: effort.tried]:
            asked = np.isin(np.arange(len(search.aim.table)), [*wanted, j])
            rows = wanted_lists(search.aim, best.rows, jnp.asarray(asked), m, effort)
            tries.append((_measured(search, rows, "greedy", best._replace(rate=-1.0)), int(j)))
        if not tries:
            return best
        found, j = max(tries, key=lambda one: one[0].rate)
        if found.rate < best.rate:
            return best
        wanted.append(j)
        best = found if found.rate > best.rate else best
    return best


def _promising(
    search: _Search, m: int, rows: tuple[np.ndarray, ...], wanted: list[int], others: np.ndarray
) -> np.ndarray:
    """Places in `others`, those first that would make the most users see the item.

    Each in place of the mean of what is listed now and not wanted.
    """
    aim, table = search.aim, np.asarray(search.aim.table)
    unit = rows[m].astype(np.float64) / np.linalg.norm(rows[m].astype(np.float64))
    near = nearest(cosines(search.of[m], unit[None]), np.array([int(aim.item)]), aim.k)
    listed = near.ids[0, 1:]
    free = np.setdiff1d(listed, wanted)
    free = listed if not len(free) else free
    step = search.weights[m] * (table[others] - table[free].mean(axis=0))
    scores = np.asarray(aim.user) @ (search.own(rows) + step).T.astype(np.float32)
    gap = scores - np.asarray(aim.bars)[:, None]
    return np.lexsort((-np.mean(_elu(gap), axis=0), -(gap > 0).sum(axis=0)))


def _elu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))
