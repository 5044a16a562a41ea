"""Searching for an edit that changes whose neighbour an item is: copying another listing.

Scores of models with item lists are piecewise constant in raw features, so a gradient finds
nothing there. Instead the item is moved towards every other one, as far as the budget lets it,
and the lists that result are ranked: for each donor s the point of the ball

    ||x' - x_t||_2 <= eps ||x_t||_2

that is nearest in angle to x_s. First the same donor for all modalities, then greedily one
modality after another. What is reported is what the exact lists of the found features give:
a lower bound of what is possible. `attacks.certify_lists` is the upper one.
"""

from typing import NamedTuple

import numpy as np

from uatmc_jax.attacks.list_bounds import candidates, turn
from uatmc_jax.attacks.listings import (
    Listings,
    Standing,
    distances,
    hits,
    listings,
    others_bar,
    own_list,
    relisted,
    seen_by,
    unmoved,
)
from uatmc_jax.attacks.victim import Victim, check_items, check_lists
from uatmc_jax.errors import InputError
from uatmc_jax.models import blind

INSIDE = 1 - 1e-5  # of the way: rounding the features to float32 must not leave the ball
_BLOCK = 512  # donors scored at a time


class Relisted(NamedTuple):
    """What copying made of T targets.

    Attributes:
      policy: what was computed anew.
      blind: why no edit changes anything; None if one may.
      items: (T,) int32.
      hr_before: (T,) share of the users with the item in their top K.
      hr_after: (T,)
      donors: (T, M) whose features each modality went towards; the item itself if none.
      features: modal, (T, dim_m), the found raw features.
      moved: (T,) how many other items' embeddings moved.
    """

    policy: str
    blind: str | None
    items: np.ndarray
    hr_before: np.ndarray
    hr_after: np.ndarray
    donors: np.ndarray
    features: tuple[np.ndarray, ...]
    moved: np.ndarray


def relist(
    victim: Victim,
    items: np.ndarray,
    *,
    eps: float | None = None,
    policy: str = "own_row",
    k: int = 50,
    verified: int = 3,
    of: Listings | None = None,
) -> Relisted:
    """Promotes each target alone by copying other listings, all donors ranked.

    Donors are ranked by the target's own new row, which is the same under own_row and full;
    the best are measured under the policy, exactly.

    Args:
      victim: the clean model, of one with item lists, or of one that no edit moves.
      items: (T,) targets.
      eps: radius in raw features, a share of the row's 2-norm; None for any content whatever.
      policy: of `POLICIES`.
      k: the K.
      verified: how many of the best donors are measured after each ranking.
      of: `listings(victim)`, if known already.

    Raises:
      InputError: no such policy, a model that reads content otherwise than by lists, an item
        that is none, a negative eps, or a K beyond the lists that the victim keeps.
    """
    if eps is not None and not eps >= 0:
        raise InputError(f"eps = {eps}: wanted a number >= 0, or None for any content.")
    items = check_items(victim, items)
    check_lists(victim, (k,))
    why = blind(victim.model, policy)
    if why:
        of = None  # nothing is run
    elif of is None:
        of = listings(victim)
    found = [_one(victim, of, int(item), (eps, policy, k, verified)) for item in items]
    return Relisted(policy, why, items, *(_stack(x) for x in zip(*found, strict=True)))


def _stack(values: tuple):
    """Of each target's values; features modality by modality."""
    if isinstance(values[0], tuple):
        return tuple(np.stack(x) for x in zip(*values, strict=True))
    return np.array(values)


class _Found(NamedTuple):
    """The best edit of one target so far."""

    rate: float
    donors: tuple[int, ...]
    rows: tuple[np.ndarray, ...]
    moved: int


def _one(victim: Victim, of: Listings | None, item: int, how: tuple) -> tuple:
    """`hr_before`, `hr_after`, `donors`, `features` and `moved` of one target."""
    eps, policy, k, verified = how
    features = victim.dataset.features
    before = float(hits(victim, item, unmoved(victim, item), k).mean())
    clean = tuple(x[item] for x in features)
    best = _Found(before, (item,) * len(clean), clean, 0)

    def measured(donors: tuple[int, ...], best: _Found) -> _Found:
        edit = tuple(towards(x[item], x[s], eps) for x, s in zip(features, donors, strict=True))
        result = relisted(of, np.asarray(victim.item), item, edit, policy)
        rate = float(hits(victim, item, result, k).mean())
        return _Found(rate, donors, edit, len(result.moved)) if rate > best.rate else best

    if of is not None:
        parts = [
            _parts(of, standing, item, _donor_lists(standing, item, x, of.k, eps))
            for standing, x in zip(of.standings, clean, strict=True)
        ]
        for donor in _ranked(victim, item, of.base[item] + sum(parts), k)[:verified]:
            best = measured((int(donor),) * len(parts), best)
        for m, part in enumerate(parts):  # one anew, the others' as they are
            kept = best.donors
            fixed = sum(parts[n][s] for n, s in enumerate(kept) if n != m)
            for donor in _ranked(victim, item, of.base[item] + fixed + part, k)[:verified]:
                best = measured((*kept[:m], int(donor), *kept[m + 1 :]), best)
    return before, best.rate, np.array(best.donors), best.rows, best.moved


def towards(row: np.ndarray, donor: np.ndarray, eps: float | None) -> np.ndarray:
    """The features within the budget that are nearest in angle to a donor's.

    Args:
      row: (dim,) float32 features.
      donor: (dim,) another item's.
      eps: radius as a share of the row's length; None for none, which copies the donor.

    Returns:
      (dim,) float32; the row itself for the row itself.
    """
    if eps is None or np.array_equal(row, donor):
        return donor.copy()
    x, target = row.astype(np.float64), donor.astype(np.float64)
    length, radius = np.linalg.norm(x), eps * INSIDE * np.linalg.norm(x)
    target /= np.linalg.norm(target)
    near = target * (x @ target)  # the foot of the perpendicular on the donor's ray
    if x @ target > 0 and np.linalg.norm(near - x) <= radius:
        return near.astype(np.float32)
    if eps > 1:  # 0 is inside the ball, so every direction is
        return (target * (radius - length) / 2).astype(np.float32)
    side = target - x * (x @ target) / length**2
    size = np.linalg.norm(side)
    if not size:  # straight behind, whichever way
        return row.copy()
    angle = np.arcsin(min(eps * INSIDE, 1.0))
    tangent = np.cos(angle) * x / length + np.sin(angle) * side / size
    return (length * np.cos(angle) * tangent).astype(np.float32)


def _donor_lists(
    standing: Standing, item: int, row: np.ndarray, k: int, eps: float | None
) -> np.ndarray:
    """(|I|, k-1) whom the item lists besides itself, moved towards each donor.

    To rank with: of float32, ties as they fall.
    """
    clean = distances(standing, row)
    if eps is None:  # the donor itself, and the nearest of its others
        n = np.arange(len(standing.ids))
        others = np.stack([x[x != item][: k - 2] for x in standing.ids])
        found = np.concatenate([n[:, None], others], axis=1)
        found[item] = own_list(standing, item, clean, k)[1:]
        return found
    among = candidates(clean, item, k, eps)
    if len(among) == k - 1:
        return np.broadcast_to(among, (len(standing.ids), k - 1))
    units = standing.of.units.astype(np.float32)
    theirs = units @ units[among].T
    angle = np.arccos(np.clip(clean, -1, 1))
    sine = np.maximum(np.sin(angle), 1e-9)
    turned = np.minimum(angle, turn(eps) if eps < 1 else np.pi)
    donor, own = np.sin(turned) / sine, np.cos(turned) - np.sin(turned) * clean / sine
    mixed = own[:, None] * clean[among] + donor[:, None] * theirs
    return among[np.argpartition(-mixed, k - 2, axis=1)[:, : k - 1]]


def _parts(of: Listings, standing: Standing, item: int, lists: np.ndarray) -> np.ndarray:
    """(|I|, D) what one modality adds to the item's embedding, by donor."""
    total = of.table[item] + sum(of.table[lists[:, j]] for j in range(lists.shape[1]))
    return (standing.share / of.k) * total


def _ranked(victim: Victim, item: int, rows: np.ndarray, k: int) -> np.ndarray:
    """Donors by hits, then by mean score, best first; rivals as they are.

    Args:
      victim: the clean model.
      item: the edited one.
      rows: (|I|, D) its embedding, by donor.
      k: the K.
    """
    user, rows = np.asarray(victim.user), rows.astype(np.float32)
    bars = np.where(
        seen_by(victim, item), others_bar(victim, item, unmoved(victim, item), k), np.inf
    )
    counts = [
        (user @ rows[n : n + _BLOCK].T > bars[:, None]).sum(axis=0)
        for n in range(0, len(rows), _BLOCK)
    ]
    return np.lexsort((-(rows @ user.mean(axis=0)), -np.concatenate(counts)))
