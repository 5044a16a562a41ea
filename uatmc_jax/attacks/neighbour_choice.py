"""Searching for an edit that lists wanted neighbours, beside copying another listing.

Copying (`relisting`) tries the directions of other items alone. Between these lie lists that no
copy has. Two searches look for them, each from what was found before, both on a relaxation
(`soft_lists`): *soft*, projected ascent on the mean over users of elu(y_ut - bar_u) with lists
that are soft, ever less so; *greedy*, one wanted neighbour after the other, those first that
would make the most users see the item, each set asked for by a hinge on similarities.

What either finds counts only as the exact lists of the found features give it: neither is ever
below copying, and all are lower bounds (`attacks.certify_lists` is the upper one).
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from uatmc_jax.attacks.list_bounds import candidates
from uatmc_jax.attacks.listings import (
    Listings,
    distances,
    hits,
    listings,
    others_bar,
    own_list,
    relisted,
    unmoved,
)
from uatmc_jax.attacks.relisting import INSIDE, relist
from uatmc_jax.attacks.soft_lists import Effort, ListAim, soft_lists, wanted_lists
from uatmc_jax.attacks.victim import Victim, recommendable
from uatmc_jax.models import Modal


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


def choose_neighbours(
    victim: Victim,
    items: np.ndarray,
    *,
    eps: float | None = None,
    policy: str = "own_row",
    k: int = 50,
    of: Listings | None = None,
    effort: Effort | None = None,
) -> Chosen:
    """Promotes each target alone by copying, then by a soft and a greedy choice of neighbours.

    Args:
      victim: the clean model, of one with item lists, that some edit moves under the policy.
      items: (T,) targets.
      eps: radius in raw features, l2, a share of the row's 2-norm; None for any content.
      policy: "own_row" or "full".
      k: the K.
      of: `listings(victim)`, if known already.
      effort: by default `Effort()`.

    Raises:
      InputError: as `relist`.
    """
    copied = relist(victim, items, eps=eps, policy=policy, k=k, of=of)
    effort = effort or Effort()
    if copied.blind:
        still = np.full(len(copied.items), "none")
        rates = copied.hr_before, copied.hr_after, copied.hr_after
        return Chosen(copied.items, *rates, still, copied.features, copied.moved)
    of = listings(victim) if of is None else of
    units = tuple(jnp.asarray(s.of.units, jnp.float32) for s in of.standings)
    found = []
    for n, item in enumerate(map(int, copied.items)):
        start = _Best(
            float(copied.hr_after[n]),
            "none" if copied.hr_after[n] == copied.hr_before[n] else "copy",
            tuple(x[n] for x in copied.features),
            int(copied.moved[n]),
        )
        search = _Search(victim, of, item, policy, k, effort, _aim(victim, of, units, item, eps, k))
        found.append(_improved(search, start))
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


class _Best(NamedTuple):
    """The best edit so far, by its exact lists."""

    rate: float
    by: str
    rows: tuple[np.ndarray, ...]
    moved: int


class _Search(NamedTuple):
    """One target's search, on the host."""

    victim: Victim
    of: Listings
    item: int
    policy: str
    k: int
    effort: Effort
    aim: ListAim


def _aim(
    victim: Victim, of: Listings, units: Modal, item: int, eps: float | None, k: int
) -> ListAim:
    clean = tuple(x[item] for x in victim.dataset.features)
    lengths = (float(np.linalg.norm(x.astype(float))) for x in clean)
    radius = tuple(np.inf if eps is None else eps * INSIDE * x for x in lengths)
    bars = others_bar(victim, item, unmoved(victim, item), k)
    # Who never sees the item counts as far from it, the same at every edit.
    bars = np.where(np.asarray(recommendable(victim, jnp.int32(item))), bars, np.inf)
    return ListAim(
        item=jnp.int32(item),
        units=units,
        base=jnp.asarray(of.base[item]),
        table=jnp.asarray(of.table),
        user=victim.user,
        bars=jnp.asarray(bars),
        clean=tuple(map(jnp.asarray, clean)),
        radius=tuple(jnp.float32(x) for x in radius),
        shares=jnp.asarray([s.share for s in of.standings], jnp.float32),
        k=of.k,
    )


def _improved(search: _Search, best: _Best) -> _Best:
    clean = tuple(map(np.asarray, search.aim.clean))
    for rows in (clean, best.rows):
        best = _measured(search, soft_lists(search.aim, rows, search.effort), "soft", best)
    for m in range(len(clean)):
        best = _greedy(search, m, best)
    return _measured(search, soft_lists(search.aim, best.rows, search.effort), "soft", best)


def _measured(search: _Search, rows: Modal, by: str, best: _Best) -> _Best:
    """The better of the two by the exact lists under the policy."""
    edit = tuple(np.array(x, np.float32) for x in rows)
    if not all(np.isfinite(x).all() and np.any(x) for x in edit):
        return best
    result = relisted(search.of, np.asarray(search.victim.item), search.item, edit, search.policy)
    rate = float(hits(search.victim, search.item, result, search.k).mean())
    return _Best(rate, by, edit, len(result.moved)) if rate > best.rate else best


def _greedy(search: _Search, m: int, best: _Best) -> _Best:
    """Wanted neighbours of one modality, the others' features as they are."""
    of, item, effort = search.of, search.item, search.effort
    standing, clean = of.standings[m], search.victim.dataset.features[m][item]
    within = search.aim.radius[m] / np.linalg.norm(clean)
    eps = float(within) if np.isfinite(within) else None
    among = candidates(distances(standing, clean), item, of.k, eps)
    wanted: list[int] = []
    for _ in range(min(effort.rounds, of.k - 1)):
        listed = own_list(standing, item, distances(standing, best.rows[m]), of.k)[1:]
        others = np.setdiff1d(among, wanted)
        order = others[_promising(search, m, best.rows, listed, wanted, others)]
        tries = []
        for j in order[: effort.tried]:
            rows = wanted_lists(search.aim, best.rows, jnp.array([*wanted, j]), m, effort)
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
    search: _Search,
    m: int,
    rows: tuple[np.ndarray, ...],
    listed: np.ndarray,
    wanted: list[int],
    others: np.ndarray,
) -> np.ndarray:
    """Places in `others`, those first that would make the most users see the item.

    Each in place of the mean of what is listed now and not wanted.
    """
    of, victim, item = search.of, search.victim, search.item
    now = relisted(of, np.asarray(victim.item), item, rows, "own_row").own
    free = np.setdiff1d(listed, wanted)
    free = listed if not len(free) else free
    step = of.standings[m].share / of.k * (of.table[others] - of.table[free].mean(axis=0))
    scores = np.asarray(victim.user) @ (now + step).T.astype(np.float32)
    gap = scores - np.asarray(search.aim.bars)[:, None]
    return np.lexsort((-np.mean(_elu(gap), axis=0), -(gap > 0).sum(axis=0)))


def _elu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))
