"""Which interactions stay, under which ids, and in which split: pure NumPy on whole columns."""

from typing import NamedTuple

import numpy as np

TRAIN, VALID, TEST = 0, 1, 2
_SHARES = (
    "n < 3: all train; n < 10: 1 validation, 1 test; else n // 5 held out, half of them (rounded "
    "down) test, the others validation"
)
SPLIT_RULES = {
    "random": f"each user's n rows shuffled; {_SHARES}",
    "user-time": f"each user's n rows by time, the latest test, those before validation; {_SHARES}",
    "global-time": "the latest tenth of all rows test, the tenth before validation; rows of one "
    "time stay together",
}
_SHORTEST_TO_SPLIT, _SHORTEST_IN_SHARES = 3, 10


class Rows(NamedTuple):
    """Interactions as columns of equal length n, in the source's order.

    Attributes:
      users: int32.
      items: int32.
      times: float64, whole numbers or not; None if the source has none.
      ratings: float32, NaN where a row has none; None if the source has none.
      labels: int8 of the three splits; None if they are to be drawn.
    """

    users: np.ndarray
    items: np.ndarray
    times: np.ndarray | None = None
    ratings: np.ndarray | None = None
    labels: np.ndarray | None = None


def take(rows: Rows, index: np.ndarray) -> Rows:
    """The rows that `index`, a mask or positions, chooses, in its order."""
    return Rows(*(None if column is None else column[index] for column in rows))  # type: ignore[arg-type]


def first_of_pairs(rows: Rows) -> tuple[np.ndarray, int]:
    """Marks the first row of every (user, item) pair.

    Returns:
      (n,) boolean mask, and how many of the other rows repeat an earlier one's
      time as well (0 without times).
    """
    keep = np.zeros(len(rows.users), bool)
    if not len(keep):
        return keep, 0
    key = rows.users.astype(np.int64) * (int(rows.items.max()) + 1) + rows.items
    # Both sorts are stable: equal rows stay in the source's order.
    order = np.argsort(key, kind="stable") if rows.times is None else np.lexsort((rows.times, key))
    same_pair = np.diff(key[order]) == 0
    keep[np.minimum.reduceat(order, np.flatnonzero(np.r_[True, ~same_pair]))] = True
    if rows.times is None:
        return keep, 0
    return keep, int((same_pair & (np.diff(rows.times[order]) == 0)).sum())


def k_core(users: np.ndarray, items: np.ndarray, k: int) -> tuple[np.ndarray, int]:
    """Drops users and items of fewer than k rows until none is left.

    A sweep counts users and items on the same rows and drops both.

    Args:
      users: (n,) integers.
      items: (n,) integers.
      k: 0 and 1 keep everything.

    Returns:
      (n,) boolean mask of the rows that stay, and the number of sweeps that
      dropped something.
    """
    kept = np.arange(len(users))
    sweeps = 0
    while len(kept):
        stays = np.ones(len(kept), bool)
        for column in (users[kept], items[kept]):
            stays &= (np.bincount(column) >= k)[column]
        if stays.all():
            break
        kept, sweeps = kept[stays], sweeps + 1
    mask = np.zeros(len(users), bool)
    mask[kept] = True
    return mask, sweeps


def renumber(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers 0, 1, 2, ... by first appearance.

    >>> renumber(np.array([7, 3, 7, 5]))
    (array([0, 1, 0, 2], dtype=int32), array([7, 3, 5]))

    Returns:
      (n,) int32 new ids, and the old id of each new one.
    """
    old, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    order = np.argsort(first)
    new = np.empty(len(old), np.int32)
    new[order] = np.arange(len(old), dtype=np.int32)
    return new[inverse], old[order]


def split(users: np.ndarray, seed: int) -> np.ndarray:
    """Draws each row's split by the rule "random".

    Args:
      users: (n,) ids from 0 on.
      seed: of numpy's PCG64 generator.

    Returns:
      (n,) int8: 0 train, 1 validation, 2 test.
    """
    keys = np.random.default_rng(seed).random(len(users))
    return _hold_out(users, np.lexsort((keys, users)))


def split_by_user_time(users: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Each row's split by the rule "user-time"; of rows of one time, later ones count as later.

    Args:
      users: (n,) ids from 0 on.
      times: (n,) float64.

    Returns:
      (n,) int8: 0 train, 1 validation, 2 test.
    """
    return _hold_out(users, np.lexsort((-np.arange(len(users)), -times, users)))


def split_by_global_time(times: np.ndarray) -> np.ndarray:
    """Each row's split by the rule "global-time".

    Args:
      times: (n,) float64.

    Returns:
      (n,) int8: 0 train, 1 validation, 2 test.
    """
    tenth = len(times) // 10
    in_order = np.sort(times)
    labels = np.full(len(times), TRAIN, np.int8)
    for label, held in ((VALID, 2 * tenth), (TEST, tenth)):
        labels[times >= in_order[len(times) - max(held, 1)]] = label
    return labels


SPLITTERS = {
    "random": lambda rows, seed: split(rows.users, seed),
    "user-time": lambda rows, _: split_by_user_time(rows.users, rows.times),
    "global-time": lambda rows, _: split_by_global_time(rows.times),
}


def _hold_out(users: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Labels of rows of which each user's first ones in `order` are test, then validation."""
    sizes = np.bincount(users)
    rank = np.arange(len(users)) - (np.cumsum(sizes) - sizes)[users[order]]
    held = np.where(sizes < _SHORTEST_IN_SHARES, 2, sizes // 5)
    held[sizes < _SHORTEST_TO_SPLIT] = 0
    test = held // 2
    n_test, n_held = test[users[order]], held[users[order]]
    labels = np.empty(len(users), np.int8)
    labels[order] = np.where(rank < n_test, TEST, np.where(rank < n_held, VALID, TRAIN))
    return labels
