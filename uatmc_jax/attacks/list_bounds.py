"""How far no edit can promote an item whose content acts through its list of neighbours alone.

Under the policy own_row rivals and users stand still, and an item's embedding is

    h_t = base_t + sum_m share_m / k * (table_t + sum of k - 1 rows of table in C_m)

with C_m the items that any edit within the budget can bring into its list (`candidates`). So

    y_ut <= <u, base_t> + sum_m share_m / k * (<u, table_t> + the k - 1 largest <u, table_j>,
                                               j in C_m)

which lets modalities, neighbours and users choose freely: an upper bound. Of an edit within
eps = 1 and more, and of any content whatever, C_m are all items.
"""

import numpy as np

from uatmc_jax.attacks.listings import Listings, distances
from uatmc_jax.attacks.victim import Victim

# Of float32, half the distance from 1 to the next number.
_UNIT = 2.0**-24
_BLOCK = 2048  # users at a time


def list_bounds(victim: Victim, of: Listings, item: int, eps: float | None) -> np.ndarray:
    """(n,) what no edit within the budget can bring a user's score above, rounding included.

    Args:
      victim: the clean model.
      of: its lists.
      item: the edited one.
      eps: as of `list_certificates.certify_lists`.
    """
    return bounds_of(victim, of, np.array([item]), eps)[0]


def bounds_of(victim: Victim, of: Listings, items: np.ndarray, eps: float | None) -> np.ndarray:
    """(T, n) `list_bounds` of several items: a block of users' scores is of use to all of them."""
    reachable = [
        [
            candidates(distances(s, x[item]), item, of.k, eps)
            for s, x in zip(of.standings, victim.dataset.features, strict=True)
        ]
        for item in items
    ]
    table, found = of.table.astype(np.float64), np.empty((len(items), len(victim.users)))
    for start in range(0, len(victim.users), _BLOCK):
        user = np.asarray(victim.user[start : start + _BLOCK], np.float64)
        whole = None
        rounding = _rounding(of, user)
        for n, item in enumerate(items.tolist()):
            own, bound = user @ table[item], user @ of.base[item].astype(np.float64)
            for standing, among in zip(of.standings, reachable[n], strict=True):
                if len(among) == len(table) - 1:  # any of the others
                    whole = _largest(user @ table.T, of.k) if whole is None else whole
                    largest = _without(whole, item)
                else:
                    largest = _largest(user @ table[among].T, of.k - 1)[1].sum(axis=1)
                bound += standing.share / of.k * (own + largest)
            found[n, start : start + _BLOCK] = bound + rounding
    return found


def _largest(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, k) places of each row's k largest, and these."""
    places = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    return places, np.take_along_axis(scores, places, axis=1)


def _without(whole: tuple[np.ndarray, np.ndarray], item: int) -> np.ndarray:
    """(n,) the sum of each row's k - 1 largest other than the item's, of its k largest."""
    places, values = whole
    own = places == item
    left_out = np.where(own.any(axis=1), (values * own).sum(axis=1), values.min(axis=1))
    return values.sum(axis=1) - left_out


def _rounding(of: Listings, user: np.ndarray) -> np.ndarray:
    """(n,) what float32 makes at most of a user's score, and of her bar's."""
    width, n = of.table.shape[1], of.k * len(of.standings)
    terms = np.abs(of.base).max(axis=0) + sum(s.share for s in of.standings) * np.abs(of.table).max(
        axis=0
    )
    return 2 * (width + n + 16) * _UNIT * (np.abs(user) @ terms)


def turn(eps: float | None) -> float:
    """The angle, in radians, by which an edit can turn a row: arcsin(eps), pi from 1 on.

    At eps = 1 itself rows are turned by less than pi / 2, and no bound is taken from that.
    """
    return np.pi if eps is None or eps >= 1 else float(np.arcsin(eps))


def candidates(found: np.ndarray, item: int, k: int, eps: float | None) -> np.ndarray:
    """Whom an item can list besides itself, whatever edit within the budget is made.

    An edit turns the row by phi = arcsin(eps) at most, and angles obey the triangle
    inequality: with theta_j the angle to item j and theta_(k-1) that to the last listed one,

        C = {j : theta_j <= theta_(k-1) + 2 phi}.

    Args:
      found: (|I|,) cosines of the item's clean row.
      item: the edited one.
      k: length of the lists.
      eps: the budget; None or 1 and more for all items.

    Returns:
      Ids, at least k - 1, ascending.
    """
    angle = np.arccos(np.clip(found, -1, 1))
    angle[item] = np.inf
    last = np.partition(angle, k - 2)[k - 2]
    # arccos of a cosine to 12 digits is off by 1.5e-6 near 0.
    wide = np.pi if turn(eps) == np.pi else last + 2 * turn(eps)
    return np.flatnonzero(angle <= wide + 1e-5)
