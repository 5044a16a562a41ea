"""Which ids interactions have, and which splits they are in: pure NumPy on whole columns."""

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
