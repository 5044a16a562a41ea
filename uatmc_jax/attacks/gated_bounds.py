"""How far no edit can promote an item whose listed rows are gated and weighed by modality.

Under the policy own_row, of a model with `models.GatedLists`,

    y_ut = <u, base_t> + (<u (.) rho, h_t^1> + <u (.) (1 - rho), h_t^2>) / 3

is affine in a, so that it is largest at a = 0 or 1: rho = p^1 or 1 - p^2, which no content moves.
There each <w, h_t^m> is bounded as a sum over a list (`cosine_bounds`), the item's own part with
its gates between

    logistic(clean logit -/+ r ||row of what raw features are multiplied by||),

r = eps ||x_t||. Any content: gates in [0, 1], all items, and cosines in [0, 1], which is so where
no feature is below 0; otherwise nothing bounds the sum of the cosines, and there is none.
"""

from typing import NamedTuple

import jax
import numpy as np

from uatmc_jax.attacks.cosine_bounds import (
    BLOCK,
    RAW_ANGLE,
    UNIT,
    Group,
    Reach,
    above,
    group_of,
    parts_of,
    reach_of,
)
from uatmc_jax.attacks.victim import Victim
from uatmc_jax.errors import InputError
from uatmc_jax.models import GatedParts
from uatmc_jax.models.neighbours import Directions, directions


class GatedListings(NamedTuple):
    """Of a victim, on the host in float64.

    Attributes:
      parts: as the model gives them.
      raw: by modality, the items' directions.
      lengths: by modality, (d,), as `GatedLists` gives them.
    """

    parts: GatedParts
    raw: tuple[Directions, ...]
    lengths: tuple[np.ndarray, ...]


def gated_listings(victim: Victim) -> GatedListings:
    """What bounds rest on, once for many targets.

    Raises:
      InputError: a model that declares no such lists.
    """
    lists = victim.model.gated_lists
    if lists is None:
        raise InputError(
            f"model {victim.model.name} declares no lists of gated rows (gated_lists), so this "
            "certificate says nothing of it."
        )
    parts = parts_of(victim, lists)
    return GatedListings(
        parts=jax.tree.map(lambda x: np.asarray(x, np.float64), parts),
        raw=tuple(map(directions, victim.dataset.features)),
        lengths=lists.lengths(victim.encoder, victim.projectors),
    )


def gated_bounds(
    victim: Victim, of: GatedListings, item: int, eps: float | None, nonnegative: bool = False
) -> np.ndarray:
    """(n,) what no edit within the budget can bring a user's score above, rounding included.

    Args:
      victim: the clean model.
      of: its lists.
      item: the edited one.
      eps, nonnegative: as of `list_certificates.certify_lists`; inf where nothing is bounded.
    """
    parts, user = of.parts, np.asarray(victim.user, np.float64)
    groups = [_group(victim, of, item, m, eps, nonnegative) for m in (0, 1)]
    if any(group is None or group.low <= 0 for group in groups):
        return np.full(len(user), np.inf)
    first, second = (p[item] for p in parts.preferences)
    gated = tuple(parts.table * _logistic(x) for x in parts.logits)
    own = tuple(_own(of, victim, item, m, eps) for m in (0, 1))
    blocks = []
    for start in range(0, len(user), BLOCK):
        some = user[start : start + BLOCK]
        ends = []
        for rho in (first, 1 - second):
            both = some * rho, some * (1 - rho)
            ends.append(sum(_above(*x) for x in zip(groups, gated, both, own, strict=True)))
        blocks.append(some @ parts.base[item] + np.maximum(ends[0], ends[1]) / 3)
    unit = (user.shape[1] + 4 * groups[0].k + 32) * UNIT
    terms = sum(
        _terms(group, np.abs(g).max(axis=0)) for group, g in zip(groups, gated, strict=True)
    )
    return np.concatenate(blocks) + 4 * unit * (np.abs(user) @ (np.abs(parts.base[item]) + terms))


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -500, 500)))


def _group(
    victim: Victim, of: GatedListings, item: int, m: int, eps: float | None, nonnegative: bool
) -> Group | None:
    """One modality's list within the budget; None where nothing bounds its sum."""
    s = of.parts.raw[m]
    k = s.ids.shape[1]
    if eps is not None and eps < 1:
        reach = reach_of(of.raw[m], item, k, float(np.arcsin(eps)), RAW_ANGLE)
        if nonnegative:
            reach = reach._replace(low=np.maximum(reach.low, 0.0))
        return group_of(1.0, (1.0,), (reach,), s.sums, k)
    if not nonnegative:
        return None
    others = np.delete(np.arange(len(victim.item)), item)
    reach = Reach(others, np.zeros(len(others)), np.ones(len(others)))
    return group_of(1.0, (1.0,), (reach,), s.sums, k)


def _own(
    of: GatedListings, victim: Victim, item: int, m: int, eps: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """(d,) the item's own gated row at its least and its largest gates."""
    row = np.asarray(of.parts.table[item])
    if eps is None:
        return np.zeros_like(row), row
    clean, x = np.asarray(of.parts.logits[m][item]), victim.dataset.features[m][item].astype(float)
    far = eps * np.linalg.norm(x) * of.lengths[m] + 1e-5 * (1 + np.abs(clean))
    return row * _logistic(clean - far), row * _logistic(clean + far)


def _above(
    group: Group, gated: np.ndarray, w: np.ndarray, own: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    low, high = own
    return above(group, gated, w, np.maximum(w * low, w * high).sum(axis=1))


def _terms(group: Group, largest: np.ndarray) -> np.ndarray:
    """(d,) what the absolute values of all that the group adds up amount to at most."""
    smallest = min(one for reach in group.lists for one in group.sums[reach.ids])
    return largest * (2 / group.low + (group.k - 1) / np.sqrt(group.low * smallest))
