"""From per-target rows to figures with intervals."""

from collections.abc import Sequence

import numpy as np

_CHUNK = 256
_LEVEL = (0.025, 0.975)


def summarize(rows: Sequence[dict], ks: Sequence[int], bootstrap: int) -> dict:
    """Averages over targets, gains, and bootstrap 95 % intervals.

    Args:
      rows: one per target and seed, as in a result file: "seed", "hr_before" and
        "hr_after" ({K: share}), optionally "rank_before", "rank_after",
        "budget_certificate", "any_content_certificate".
      ks: the K.
      bootstrap: resamples behind each interval.

    Returns:
      {"hr@K": {"before", "after", "gain", "budget_certificate",
      "any_content_certificate"}, ..., "rank": {"before", "after"}}. Each has
      "value", "over_targets" (low, high) and, with two seeds or more,
      "over_seeds". A gain is mean after / mean before - 1; without any hit before
      it is None, and so is an end of an interval that falls on such a resample.
    """
    columns = _columns(rows, ks)
    values = np.stack(list(columns.values()), axis=1)
    names = list(columns)
    seeds, member = np.unique([row["seed"] for row in rows], return_inverse=True)
    by_seed = np.stack([values[member == s].mean(axis=0) for s in range(len(seeds))])
    resampled = {"over_targets": _resample(values, bootstrap)}
    if len(seeds) > 1:
        resampled["over_seeds"] = _resample(by_seed, bootstrap)

    def mean(name: str) -> dict:
        column = names.index(name)
        ends = {over: _interval(means[:, column]) for over, means in resampled.items()}
        return {"value": float(values[:, column].mean()), **ends}

    def gain(before: str, after: str) -> dict:
        def ratio(means: np.ndarray) -> np.ndarray:
            bottom, top = means[..., names.index(before)], means[..., names.index(after)]
            # Without a hit before there is no gain: it stands above every number.
            return np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1.0) - 1, np.inf)

        value = float(ratio(values.mean(axis=0)))
        ends = {over: _interval(ratio(means)) for over, means in resampled.items()}
        return {"value": _finite(value), **ends}

    summary: dict = {"targets": len(rows), "seeds": len(seeds)}
    for k in ks:
        entry = summary[f"hr@{k}"] = {
            "before": mean(f"hr_before {k}"),
            "after": mean(f"hr_after {k}"),
            "gain": gain(f"hr_before {k}", f"hr_after {k}"),
        }
        for certificate in ("budget_certificate", "any_content_certificate"):
            if f"{certificate} {k}" in columns:
                entry[certificate] = mean(f"{certificate} {k}")
    if "rank_before" in columns:
        summary["rank"] = {when: mean(f"rank_{when}") for when in ("before", "after")}
    return summary


def _columns(rows: Sequence[dict], ks: Sequence[int]) -> dict[str, np.ndarray]:
    by_k = ("hr_before", "hr_after", "budget_certificate", "any_content_certificate")
    columns = {
        f"{name} {k}": np.array([row[name][str(k)] for row in rows])
        for name in by_k
        if name in rows[0]
        for k in ks
    }
    for name in ("rank_before", "rank_after"):
        if name in rows[0]:
            columns[name] = np.array([row[name] for row in rows])
    return columns


def _resample(values: np.ndarray, count: int) -> np.ndarray:
    """(count, columns) means of resamples of the rows, every column under the same draws."""
    rng = np.random.default_rng(0)
    n = len(values)
    means = []
    for start in range(0, count, _CHUNK):
        size = min(_CHUNK, count - start)
        drawn = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        weights = np.bincount(drawn.reshape(-1), minlength=size * n).reshape(size, n) / n
        means.append(weights @ values)
    return np.concatenate(means)


def _interval(values: np.ndarray) -> list[float | None]:
    return [_finite(float(end)) for end in np.quantile(values, _LEVEL, method="nearest")]


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
