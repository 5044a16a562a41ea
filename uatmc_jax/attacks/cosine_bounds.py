"""Bounds of sums over lists that are valued by cosines, whatever an edit makes of one of them.

Of a list with values s_j / sqrt(c_t c_j), c_t the sum of the cosines s listed, the others' c_j
being stored as they are,

    <w, sum_j ..> <= max(a / c_lo, a / c_hi) + max(b / sqrt(c_lo), b / sqrt(c_hi))

with a = <w, table_t>, b the k - 1 largest over C of the larger of s_lo and s_hi times
<w, table_j> / sqrt(c_j). An edit that turns the item's row by phi at most can list those whose
angle theta_j is no more than the last listed one's and 2 phi, C, and leaves s between
cos(theta_j + phi) and cos(theta_j - phi). Several lists may share their sums, as a mixture does.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from uatmc_jax.attacks.victim import Victim
from uatmc_jax.models import Graph, Modal
from uatmc_jax.models.neighbours import Directions, cosines
from uatmc_jax.models.protocol import PyTree
from uatmc_jax.numerics import EXACT

UNIT = 2.0**-24  # of float32, half the distance from 1 to the next number
BLOCK = 2048  # users at a time
RAW_ANGLE = 1e-5  # by how much arccos of a cosine to 12 digits may be off near 0


class Reach(NamedTuple):
    """Whom one list may have besides the item: ids, and the least and largest of their cosines."""

    ids: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Group(NamedTuple):
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
    lists: tuple[Reach, ...]
    sums: np.ndarray
    k: int
    low: float
    high: float


def reach_of(of: Directions, item: int, k: int, phi: float, slack: float) -> Reach:
    """Whom a list may have once its item is turned by an angle of phi at most.

    Args:
      of: the items' directions.
      item: whose list it is.
      k: its length.
      phi: in radians.
      slack: by how much angles may be off.
    """
    angle = np.arccos(np.clip(cosines(of, of.units[[item]])[0], -1, 1))
    angle[item] = np.inf
    wide = phi + slack
    ids = np.flatnonzero(angle <= np.partition(angle, k - 2)[k - 2] + 2 * wide)
    low = np.cos(np.minimum(np.pi, angle[ids] + wide))
    return Reach(ids, low, np.cos(np.maximum(0.0, angle[ids] - wide)))


def group_of(
    weight: float, shares: tuple[float, ...], lists: tuple[Reach, ...], sums: np.ndarray, k: int
) -> Group:
    """Lists of an item with the bounds of its sum c, of length k each; arguments as of `Group`."""

    def most(values: np.ndarray) -> float:
        return 1 + np.sort(values)[::-1][: k - 1].sum()

    low = sum(w * most(one.low) for w, one in zip(shares, lists, strict=True))
    high = sum(w * most(one.high) for w, one in zip(shares, lists, strict=True))
    return Group(weight, shares, lists, sums, k, float(low) * (1 - 1e-6), float(high) * (1 + 1e-6))


def above(group: Group, table: np.ndarray, w: np.ndarray, own: np.ndarray) -> np.ndarray:
    """(b,) no less than <w, what the group adds up> for w (b, D), within the budget.

    Args:
      group: lists of an item.
      table: (|I|, D) what they list.
      w: of users.
      own: (b,) no less than <w, the item's own row>.
    """
    total = np.zeros(len(w))
    for share, (ids, low, high) in zip(group.shares, group.lists, strict=True):
        pull = w @ table[ids].T / np.sqrt(group.sums[ids])
        each, k = np.maximum(low * pull, high * pull), group.k
        total += share * -np.partition(-each, k - 2, axis=1)[:, : k - 1].sum(axis=1)
    own = sum(group.shares) * own
    own = np.maximum(own / group.low, own / group.high)
    others = np.maximum(total / np.sqrt(group.low), total / np.sqrt(group.high))
    return group.weight * (own + others)


class _HasParts(Protocol):
    """What a model declares of its lists: (Params.encoder, z, Graph) -> what items add up."""

    parts: Callable[[PyTree, Modal, Graph], Any]


def parts_of(victim: Victim, lists: _HasParts) -> Any:
    """What the clean model's items are added up of, as `lists` of the model's says."""
    return _parts(lists.parts, victim.encoder, victim.z, victim.graph)


@functools.partial(jax.jit, static_argnames="parts")
def _parts(parts: Callable, encoder: PyTree, z: Modal, graph: Graph) -> Any:
    with jax.default_matmul_precision(EXACT):
        return parts(encoder, z, graph)
