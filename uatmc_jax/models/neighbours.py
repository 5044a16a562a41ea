"""Item-item graphs: each item's k nearest by the cosine of raw features, itself first.

N_i are the k items of largest cos(x_i, x_j), i included. Ties: i first, then the larger
cosine, then the lower id. Cosines are of float64 and compared to 12 digits, and items with
bitwise the same features have the same cosine to every other, so that the lists do not
depend on how a product was cut into blocks.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.checks import require
from uatmc_jax.numerics import take

Raw = tuple[np.ndarray, ...]  # modal, on the host

_DIGITS = 12
_BLOCK = 512  # items compared with all others at a time


@flax.struct.dataclass
class Neighbours:
    """A directed, weighted item-item graph S with k edges out of every item.

    Attributes:
      ids: (|I|, k) int32, itself first, then by falling cosine.
      values: (|I|, k) float32 S_ij of these.
      sums: (|I|,) float32 c_i, which cosine-valued lists are divided by; None of unweighted ones.
    """

    ids: jax.Array
    values: jax.Array
    sums: jax.Array | None = None

    def __call__(self, table: jax.Array) -> jax.Array:
        """S h: (|I|, f) to (|I|, f)."""
        return jnp.sum(self.values[..., None] * take(table, self.ids), axis=1)

    def row_beside(self, stored: "Neighbours", item: jax.Array) -> "Neighbours":
        """The item's own row, (1, k), computed anew beside others as they are stored.

        Args:
          stored: whose sums the others keep.
          item: () int32.
        """
        ids, values = self.ids[item][None], self.values[item][None]
        if self.sums is None or stored.sums is None:
            return Neighbours(ids, values)
        there = stored.sums.at[item].set(self.sums[item])
        return Neighbours(ids, values * jnp.sqrt(take(self.sums, ids) / take(there, ids)))

    def with_row(self, item: jax.Array, ids: jax.Array, cosines: jax.Array) -> "Neighbours":
        """One item's list as new, beside the others' and their sums as they are.

        Args:
          item: () int32.
          ids: (k,) its new list.
          cosines: (k,) to these.
        """
        listed = self.ids.at[item].set(ids)
        if self.sums is None:
            return Neighbours(listed, self.values)
        sums = self.sums.at[item].set(jnp.sum(cosines))
        values = cosines / jnp.sqrt(sums[item] * take(sums, ids))
        return Neighbours(listed, self.values.at[item].set(values), sums)


class Directions(NamedTuple):
    """Rows to compare, on the host.

    Attributes:
      units: (|I|, dim) float64, of length one.
      same: (|I|,) the first item with bitwise the same features.
    """

    units: np.ndarray
    same: np.ndarray


class Nearest(NamedTuple):
    """Each item's list, on the host.

    Attributes:
      ids: (|I|, k) int32.
      cosines: (|I|, k) float64.
    """

    ids: np.ndarray
    cosines: np.ndarray


def directions(features: np.ndarray) -> Directions:
    """What lists are made of.

    Args:
      features: (|I|, dim), no row zero.
    """
    rows = np.ascontiguousarray(features)
    first: dict[bytes, int] = {}
    same = np.array([first.setdefault(row.tobytes(), n) for n, row in enumerate(rows)])
    units = rows.astype(np.float64)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    return Directions(units, same)


def cosines(of: Directions, units: np.ndarray) -> np.ndarray:
    """(b, |I|) float64 cosines of rows to all items, to 12 digits, clones alike.

    Args:
      of: the items.
      units: (b, dim) float64 rows of length one.
    """
    return np.round(units @ of.units.T, _DIGITS)[:, of.same]


def nearest(found: np.ndarray, own: np.ndarray, k: int) -> Nearest:
    """The lists of some items.

    Args:
      found: (b, |I|) cosines.
      own: (b,) which items they are of.
      k: at most |I|.

    Returns:
      (b, k), by the tie rule; an item's cosine with itself is 1.
    """
    b, n = found.shape
    ranked = found.copy()
    ranked[np.arange(b), own] = np.inf
    least = np.partition(ranked, n - k, axis=1)[:, n - k]
    ids = np.empty((b, k), np.int32)
    for row, (values, floor) in enumerate(zip(ranked, least, strict=True)):
        # Ascending ids in a stable sort: of equal cosines the lower id comes first.
        among = np.flatnonzero(values >= floor)
        ids[row] = among[np.argsort(-values[among], kind="stable")[:k]]
    return Nearest(ids, np.minimum(np.take_along_axis(ranked, ids, axis=1), 1.0))


def all_nearest(of: Directions, k: int, rows: np.ndarray | None = None) -> Nearest:
    """The lists of all items, `_BLOCK` of them at a time.

    Args:
      of: the items.
      k: length of a list, itself included.
      rows: (|I|, dim) what each item's features are, one at a time, beside all others as they
        are in `of`; by default as they are.

    Raises:
      InputError: fewer than k items.
    """
    n = len(of.units)
    require(k <= n, "model.n_neighbours", k, f"at most the {n} items of the data")
    parts = []
    for start in range(0, n, _BLOCK):
        own = np.arange(start, min(start + _BLOCK, n))
        # As one of its clones an item has their list, but for itself.
        units = of.units[of.same[own]] if rows is None else directions(rows[own]).units
        parts.append(nearest(cosines(of, units), own, k))
    return Nearest(*map(np.concatenate, zip(*parts, strict=True)))


def unweighted(lists: Nearest) -> Neighbours:
    """S_ij = 1/k for j in N_i: rows sum to 1, columns to in-degree / k."""
    k = lists.ids.shape[1]
    return Neighbours(jnp.asarray(lists.ids), jnp.full(lists.ids.shape, 1.0 / k, jnp.float32))


class MadeLists(NamedTuple):
    """How a model makes its lists of raw features, one graph a modality.

    Attributes:
      relate: features, (|I|, dim) each -> the lists.
      relate_rows: (features, others of the same shapes) -> lists in which each item's are as if
        it alone had the other features.
    """

    relate: Callable[[Raw], tuple[Neighbours, ...]]
    relate_rows: Callable[[Raw, Raw], tuple[Neighbours, ...]]


def made_lists(weigh: Callable[[Nearest], Neighbours], k: int) -> MadeLists:
    """Lists of k, an item itself included, whose values `weigh` gives.

    Args:
      weigh: `unweighted` or `cosine_valued`.
      k: their length.
    """

    def relate(features: Raw) -> tuple[Neighbours, ...]:
        return tuple(weigh(all_nearest(directions(x), k)) for x in features)

    def relate_rows(features: Raw, rows: Raw) -> tuple[Neighbours, ...]:
        both = zip(features, rows, strict=True)
        return tuple(weigh(all_nearest(directions(x), k, own)) for x, own in both)

    return MadeLists(relate, relate_rows)


def cosine_valued(lists: Nearest) -> Neighbours:
    """S_ij = s_ij / sqrt(c_i c_j) for j in N_i, with c_i = sum_{j in N_i} s_ij, s the cosine.

    Row sums on both sides, though s is not symmetric: rows do not sum to 1.

    Raises:
      InputError: an item whose cosines sum to 0 or less, naming it.
    """
    sums = lists.cosines.sum(axis=1)
    wrong = np.flatnonzero(sums <= 0)
    if len(wrong):
        require(
            False,
            "model.n_neighbours",
            lists.ids.shape[1],
            f"fewer: the cosines of item {wrong[0]} to its neighbours sum to "
            f"{sums[wrong[0]]:.3g}, and have no square root",
        )
    values = lists.cosines / np.sqrt(sums[:, None] * sums[lists.ids])
    arrays = (jnp.asarray(x, jnp.float32) for x in (values, sums))
    return Neighbours(jnp.asarray(lists.ids), *arrays)
