"""Which splits interactions are in: pure NumPy on whole columns."""

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
    """Interactions as columns of equal length n.

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


def split(users: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Each row's split by the rule "random".

    Args:
      users: (n,) ids from 0 on.
      keys: (n,) random numbers, of numpy's PCG64 generator.

    Returns:
      (n,) int8: 0 train, 1 validation, 2 test.
    """
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


def time_places(n: int) -> tuple[int, int]:
    """Of n times in order, the places of the first in validation, and in test."""
    return n - max(2 * (n // 10), 1), n - max(n // 10, 1)


def split_by_global_time(times: np.ndarray, valid_from: float, test_from: float) -> np.ndarray:
    """Each row's split by the rule "global-time".

    Args:
      times: (n,) float64.
      valid_from: the first time in validation, at one of `time_places`.
      test_from: the first time in test.

    Returns:
      (n,) int8: 0 train, 1 validation, 2 test.
    """
    late = np.where(times >= valid_from, VALID, TRAIN)
    return np.where(times >= test_from, TEST, late).astype(np.int8)


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
