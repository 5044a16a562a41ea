"""How far no edit can promote an item that adds up its neighbours' rows as a direction.

Under the policy own_row rivals and users stand still, and (`models.NormedLists`)

    y_ut = <u, base_t> + <u, v> / ||v||,    v = sum_j H_tj table_j.

Whatever the content, <u, v> / ||v|| <= ||u||. Within a budget let N be no less than <u, v>, G no
less than ||v||, and F no more than <n, v> <= ||v||, n the clean v's direction: where F > 0,
<u, v> / ||v|| is no more than N / F if N > 0, and N / G if not. They add up bounds of each list
(`cosine_bounds`), an edit turning a row of raw features by arcsin(eps) at most, and one of z by
arcsin(||W|| eps ||x|| / ||z||).
"""

from typing import NamedTuple

import jax
import numpy as np

from uatmc_jax.attacks.cosine_bounds import (
    BLOCK,
    RAW_ANGLE,
    UNIT,
    Group,
    above,
    group_of,
    parts_of,
    reach_of,
)
from uatmc_jax.attacks.victim import Victim
from uatmc_jax.errors import InputError
from uatmc_jax.models import ListParts
from uatmc_jax.models.neighbours import Directions, directions

_Z_ANGLE = 2e-3  # by how much arccos of a cosine in float32 may be off near 0


class NormedListings(NamedTuple):
    """Of a victim, on the host in float64.

    Attributes:
      parts: as the model gives them.
      raw: by modality, the items' directions, and
      z: those of their projected features.
      lengths: by modality, the 2-norm of what raw features are multiplied by.
    """

    parts: ListParts
    raw: tuple[Directions, ...]
    z: tuple[Directions, ...]
    lengths: tuple[np.floating, ...]


def normed_listings(victim: Victim) -> NormedListings:
    """What bounds rest on, once for many targets.

    Raises:
      InputError: a model that declares no such lists.
    """
    lists = victim.model.normed_lists
    if lists is None:
        raise InputError(
            f"model {victim.model.name} declares no lists that it adds up as a direction "
            "(normed_lists), so this certificate says nothing of it."
        )
    parts = jax.tree.map(lambda x: np.asarray(x, np.float64), parts_of(victim, lists))
    return NormedListings(
        parts=parts,
        raw=tuple(map(directions, victim.dataset.features)),
        z=tuple(directions(np.asarray(x)) for x in victim.z),
        lengths=lists.lengths(victim.projectors),
    )


def normed_bounds(victim: Victim, of: NormedListings, item: int, eps: float | None) -> np.ndarray:
    """(n,) what no edit within the budget can bring a user's score above, rounding included.

    Args:
      victim: the clean model.
      of: its lists.
      item: the edited one.
      eps: as of `list_certificates.certify_lists`.
    """
    user, (base, table) = np.asarray(victim.user, np.float64), of.parts[:2]
    length = np.linalg.norm(user, axis=1)
    unit = (user.shape[1] + 8 * of.parts.raw[0].ids.shape[1] + 32) * UNIT
    rounding = 2 * unit * (np.abs(user) @ np.abs(base[item]) + length)
    largest = length.copy()
    groups = [] if eps is None or eps >= 1 else _groups(victim, of, item, eps)
    if groups and all(group.low > 0 for group in groups):
        clean = np.asarray(victim.item[item], np.float64) - base[item]
        clean /= max(np.linalg.norm(clean), 1e-12)
        against = -clean[None]
        floor = -sum(above(g, table, against, against @ table[item])[0] for g in groups)
        terms = sum(_terms(group, table) for group in groups)
        if floor > 2 * unit * terms:
            blocks = [user[n : n + BLOCK] for n in range(0, len(user), BLOCK)]
            pull = np.concatenate(
                [sum(above(g, table, b, b @ table[item]) for g in groups) for b in blocks]
            )
            within = np.where(pull > 0, pull / floor, pull / terms)
            largest = np.minimum(length, within + 4 * unit * length * terms / floor)
    return user @ base[item] + largest + rounding


def _groups(victim: Victim, of: NormedListings, item: int, eps: float) -> list[Group]:
    """All lists of the item within the budget."""
    parts, raw_share = of.parts, victim.model.normed_lists.raw_share
    shares, found, learned = tuple(map(float, parts.shares)), [], []
    for m, s in enumerate(parts.raw):
        k, row = s.ids.shape[1], victim.dataset.features[m][item]
        reach = reach_of(of.raw[m], item, k, float(np.arcsin(eps)), RAW_ANGLE)
        found.append(group_of(raw_share * shares[m], (1.0,), (reach,), s.sums, k))
        moved = of.lengths[m] * eps * np.linalg.norm(row.astype(float))
        share = moved / np.linalg.norm(np.asarray(victim.z[m][item], np.float64))
        phi = float(np.arcsin(share)) if share < 1 else np.pi
        learned.append(reach_of(of.z[m], item, k, phi, _Z_ANGLE))
    sums = parts.learned[0].sums
    return [*found, group_of(1 - raw_share, shares, tuple(learned), sums, k)]


def _terms(group: Group, table: np.ndarray) -> float:
    """What the lengths of all that the group adds up amount to at most."""
    longest = np.linalg.norm(table, axis=1).max()
    each = sum(
        share * (group.k - 1) / np.sqrt(group.low * group.sums[one.ids].min())
        for share, one in zip(group.shares, group.lists, strict=True)
    )
    return group.weight * longest * (1 / group.low + each)
