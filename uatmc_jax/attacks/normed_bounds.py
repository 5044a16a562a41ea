"""How far no edit can promote an item that adds up its neighbours' rows as a direction.

Under the policy own_row rivals and users stand still, and (`models.NormedLists`)

    y_ut = <u, base_t> + <u, v> / ||v||,    v = sum_j H_tj table_j.

Whatever the content, <u, v> / ||v|| <= ||u||. Within a budget let N be no less than <u, v>, G no
less than ||v||, and F no more than <n, v> <= ||v||, n the clean v's direction: where F > 0,
<u, v> / ||v|| is no more than N / F if N > 0, and N / G if not. They add up bounds of each list.
Of a list with values s_j / sqrt(c_t c_j), c_t the sum of the cosines s listed, the others' c_j
being stored,

    <w, sum_j ..> <= max(a / c_lo, a / c_hi) + max(b / sqrt(c_lo), b / sqrt(c_hi))

with a = <w, table_t>, b the k - 1 largest over C of the larger of s_lo and s_hi times
<w, table_j> / sqrt(c_j). An edit turns the row by phi at most, arcsin(eps) of raw features,
arcsin(||W|| eps ||x|| / ||z||) of z; so C are those whose angle theta_j is no more than the
last listed one's and 2 phi, and s lies between cos(theta_j + phi) and cos(theta_j - phi).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.attacks.listings import others_bar, unmoved
from uatmc_jax.attacks.victim import Victim, check_items, check_lists, recommendable
from uatmc_jax.errors import InputError
from uatmc_jax.models import Graph, ListParts, Modal, Model
from uatmc_jax.models.neighbours import Directions, cosines, directions
from uatmc_jax.models.protocol import PyTree
from uatmc_jax.numerics import EXACT

_UNIT = 2.0**-24  # of float32, half the distance from 1 to the next number
_BLOCK = 2048  # users at a time
# By how much angles may be off: arccos of a cosine to 12 digits, and of one in float32, near 0.
_RAW_ANGLE, _Z_ANGLE = 1e-5, 2e-3


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


class _Reach(NamedTuple):
    """Whom one list may have besides the item: ids, and the least and largest of their cosines."""

    ids: np.ndarray
    low: np.ndarray
    high: np.ndarray


class _Group(NamedTuple):
    """Lists whose values are divided by the same sums.

    Attributes:
      weight: of the group.
      shares: of its lists.
      lists: what each may have.
      sums: (|I|,) c as stored.
      k: length of each.
      low, high: between which the item's own c is.
    """

    weight: float
    shares: tuple[float, ...]
    lists: tuple[_Reach, ...]
    sums: np.ndarray
    k: int
    low: float
    high: float


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
    parts = jax.tree.map(lambda x: np.asarray(x, np.float64), list_parts(victim))
    return NormedListings(
        parts=parts,
        raw=tuple(map(directions, victim.dataset.features)),
        z=tuple(directions(np.asarray(x)) for x in victim.z),
        lengths=lists.lengths(victim.projectors),
    )


def list_parts(victim: Victim) -> ListParts:
    """What the clean model's items are added up of."""
    return _parts(victim.model, victim.encoder, victim.z, victim.graph)


@functools.partial(jax.jit, static_argnames="model")
def _parts(model: Model, encoder: PyTree, z: Modal, graph: Graph) -> ListParts:
    with jax.default_matmul_precision(EXACT):
        return model.normed_lists.parts(encoder, z, graph)


def certify_normed_lists(
    victim: Victim,
    items: np.ndarray,
    *,
    eps: float | None = None,
    k: int = 50,
    of: NormedListings | None = None,
) -> np.ndarray:
    """An upper bound of HR@K under own_row, whatever raw features each target is given.

    Args:
      victim: the clean model, of one with `normed_lists`.
      items: (T,) targets.
      eps: radius in raw features, l2, a share of the row's 2-norm; None for any content.
      k: the K.
      of: `normed_listings(victim)`, if known already.

    Returns:
      (T,) shares of the users.

    Raises:
      InputError: a model without such lists, an item that is none, a negative eps, or a K
        beyond the lists that the victim keeps.
    """
    if eps is not None and not eps >= 0:
        raise InputError(f"eps = {eps}: wanted a number >= 0, or None for any content.")
    items = check_items(victim, items)
    check_lists(victim, (k,))
    of = normed_listings(victim) if of is None else of
    found = []
    for item in map(int, items):
        bars = others_bar(victim, item, unmoved(victim, item), k)
        seen_by = np.asarray(recommendable(victim, jnp.int32(item)))
        found.append(np.mean((normed_bounds(victim, of, item, eps) >= bars) & seen_by))
    return np.array(found)


def normed_bounds(victim: Victim, of: NormedListings, item: int, eps: float | None) -> np.ndarray:
    """(n,) what no edit within the budget can bring a user's score above, rounding included.

    Args:
      victim: the clean model.
      of: its lists.
      item: the edited one.
      eps: as of `certify_normed_lists`.
    """
    user, (base, table) = np.asarray(victim.user, np.float64), of.parts[:2]
    length = np.linalg.norm(user, axis=1)
    unit = (user.shape[1] + 8 * of.parts.raw[0].ids.shape[1] + 32) * _UNIT
    rounding = 2 * unit * (np.abs(user) @ np.abs(base[item]) + length)
    largest = length.copy()
    groups = [] if eps is None or eps >= 1 else _groups(victim, of, item, eps)
    if groups and all(group.low > 0 for group in groups):
        clean = np.asarray(victim.item[item], np.float64) - base[item]
        clean /= max(np.linalg.norm(clean), 1e-12)
        floor = -float(sum(_above(group, table, item, -clean[None])[0] for group in groups))
        terms = sum(_terms(group, table) for group in groups)
        if floor > 2 * unit * terms:
            blocks = [user[n : n + _BLOCK] for n in range(0, len(user), _BLOCK)]
            above = np.concatenate([sum(_above(g, table, item, b) for g in groups) for b in blocks])
            largest = np.minimum(length, np.where(above > 0, above / floor, above / terms))
            rounding += 4 * unit * length * terms / floor
    return user @ base[item] + largest + rounding


def _groups(victim: Victim, of: NormedListings, item: int, eps: float) -> list[_Group]:
    """All lists of the item within the budget."""
    parts, raw_share = of.parts, victim.model.normed_lists.raw_share
    shares, found, learned = tuple(map(float, parts.shares)), [], []
    for m, s in enumerate(parts.raw):
        k, row = s.ids.shape[1], victim.dataset.features[m][item]
        reach = _reach(of.raw[m], item, k, float(np.arcsin(eps)), _RAW_ANGLE)
        found.append(_group(raw_share * shares[m], (1.0,), (reach,), s.sums, k))
        moved = of.lengths[m] * eps * np.linalg.norm(row.astype(float))
        share = moved / np.linalg.norm(np.asarray(victim.z[m][item], np.float64))
        phi = float(np.arcsin(share)) if share < 1 else np.pi
        learned.append(_reach(of.z[m], item, k, phi, _Z_ANGLE))
    sums = parts.learned[0].sums
    return [*found, _group(1 - raw_share, shares, tuple(learned), sums, k)]


def _reach(of: Directions, item: int, k: int, phi: float, slack: float) -> _Reach:
    angle = np.arccos(np.clip(cosines(of, of.units[[item]])[0], -1, 1))
    angle[item] = np.inf
    wide = phi + slack
    ids = np.flatnonzero(angle <= np.partition(angle, k - 2)[k - 2] + 2 * wide)
    low = np.cos(np.minimum(np.pi, angle[ids] + wide))
    return _Reach(ids, low, np.cos(np.maximum(0.0, angle[ids] - wide)))


def _group(
    weight: float, shares: tuple[float, ...], lists: tuple[_Reach, ...], sums: np.ndarray, k: int
) -> _Group:
    def most(values: np.ndarray) -> float:
        return 1 + np.sort(values)[::-1][: k - 1].sum()

    low = sum(w * most(one.low) for w, one in zip(shares, lists, strict=True))
    high = sum(w * most(one.high) for w, one in zip(shares, lists, strict=True))
    return _Group(weight, shares, lists, sums, k, float(low) * (1 - 1e-6), float(high) * (1 + 1e-6))


def _above(group: _Group, table: np.ndarray, item: int, w: np.ndarray) -> np.ndarray:
    """(b,) no less than <w, what the group adds up> for w (b, D), within the budget."""
    total = np.zeros(len(w))
    for share, (ids, low, high) in zip(group.shares, group.lists, strict=True):
        pull = w @ table[ids].T / np.sqrt(group.sums[ids])
        each, k = np.maximum(low * pull, high * pull), group.k
        total += share * -np.partition(-each, k - 2, axis=1)[:, : k - 1].sum(axis=1)
    own = sum(group.shares) * (w @ table[item])
    own = np.maximum(own / group.low, own / group.high)
    others = np.maximum(total / np.sqrt(group.low), total / np.sqrt(group.high))
    return group.weight * (own + others)


def _terms(group: _Group, table: np.ndarray) -> float:
    """What the lengths of all that the group adds up amount to at most."""
    longest = np.linalg.norm(table, axis=1).max()
    each = sum(
        share * (group.k - 1) / np.sqrt(group.low * group.sums[one.ids].min())
        for share, one in zip(group.shares, group.lists, strict=True)
    )
    return group.weight * longest * (1 / group.low + each)
