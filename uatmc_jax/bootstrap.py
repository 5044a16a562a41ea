"""Bootstrap intervals: means under resampled groups of rows."""

from collections.abc import Sequence

import numpy as np

_CHUNK = 256
_LEVEL = (0.025, 0.975)


def resample(values: np.ndarray, groups: Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    """Means under resampled groups of rows, every column under the same draws.

    Args:
      values: (n, columns).
      groups: (n,) what a row belongs to; a group is drawn with all its rows.
      count: resamples.

    Returns:
      (count, columns).
    """
    rng = np.random.default_rng(0)
    distinct, member = np.unique(groups, return_inverse=True)
    n = len(distinct)
    sums, sizes = np.zeros((n, values.shape[1])), np.bincount(member)
    np.add.at(sums, member, values)
    means = []
    for start in range(0, count, _CHUNK):
        weights = _weights(rng, min(_CHUNK, count - start), n)
        means.append(weights @ sums / (weights @ sizes)[:, None])
    return np.concatenate(means)


def resample_crossed(
    values: np.ndarray, outer: Sequence[int], inner: Sequence[int], count: int
) -> np.ndarray:
    """As `resample`, a row's weight being how often both its groups were drawn.

    Args:
      values: (n, columns).
      outer: (n,) a row's group of one kind.
      inner: (n,) and of the other, resampled independently (crossed clusters).
      count: resamples.

    Returns:
      (count, columns).
    """
    rng = np.random.default_rng(0)
    (n, first), (m, second) = (
        (len(distinct), member)
        for distinct, member in (np.unique(g, return_inverse=True) for g in (outer, inner))
    )
    sums = np.zeros((n, m, values.shape[1] + 1))
    np.add.at(sums, (first, second), np.column_stack([values, np.ones(len(values))]))
    means = []
    for start in range(0, count, _CHUNK):
        size = min(_CHUNK, count - start)
        weights = [
            np.stack([np.bincount(rng.integers(k, size=k), minlength=k) for _ in range(size)])
            for k in (n, m)
        ]
        total = sum(weights[0][:, [s]] * (weights[1] @ sums[s]) for s in range(n))
        means.append(total[:, :-1] / total[:, -1:])
    return np.concatenate(means)


def resample_table(table: np.ndarray, count: int) -> np.ndarray:
    """(count,) means of an (m, n) table, its rows and its columns resampled independently."""
    rng = np.random.default_rng(0)
    m, n = table.shape
    means = []
    for start in range(0, count, _CHUNK):
        size = min(_CHUNK, count - start)
        rows, columns = _weights(rng, size, m), _weights(rng, size, n)
        means.append(np.einsum("sm,sm->s", rows, columns @ table.T) / (m * n))
    return np.concatenate(means)


def interval(values: np.ndarray) -> list[float | None]:
    """The middle 95 % of resampled values; None for an end that is not finite."""
    return [finite(float(end)) for end in np.quantile(values, _LEVEL, method="nearest")]


def finite(value: float) -> float | None:
    """The value, or None for one that JSON cannot hold."""
    return value if np.isfinite(value) else None


def _weights(rng: np.random.Generator, size: int, n: int) -> np.ndarray:
    """(size, n) how often each of n is drawn in n draws with replacement."""
    drawn = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
    return np.bincount(drawn.reshape(-1), minlength=size * n).reshape(size, n)
