"""From per-target rows to figures with intervals."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from uatmc_jax.bootstrap import finite, interval, resample, resample_crossed

_RATES = ("hr_before", "hr_after")


def summarize(rows: Sequence[dict], ks: Sequence[int], bootstrap: int) -> dict:
    """Averages over targets, gains, and bootstrap 95 % intervals.

    Args:
      rows: one per target and seed, as in a result file: "seed", "item", "hr_before" and
        "hr_after" ({K: share}), optionally "rank_before", "rank_after",
        "budget_certificate", "any_content_certificate"; and where the same targets were
        attacked on models of several training seeds, "training_seed".
      ks: the K.
      bootstrap: resamples behind each interval.

    Returns:
      {"hr@K": {"before", "after", "gain", "points", "budget_certificate",
      "any_content_certificate"}, ..., "rank": {"before", "after"}}. Each has
      "value", "over_targets" (low, high), with two seeds or more "over_seeds", and with
      two training seeds or more "over_trainings", training seeds and targets both
      resampled, and "by_training", each training's own value in the seeds' order. A gain
      is mean after / mean before - 1; without any hit before it is None, and so is an end
      of an interval that falls on such a resample. Points are mean after - mean before,
      which is always defined.
    """
    columns = _columns(rows, ks)
    values = np.stack(list(columns.values()), axis=1)
    names = list(columns)
    resampled = _resamplings(values, rows, bootstrap)

    def mean(name: str) -> dict:
        return _entry(lambda means: means[..., names.index(name)], values, rows, resampled)

    def gain(before: str, after: str) -> dict:
        def ratio(means: np.ndarray) -> np.ndarray:
            return _ratio(means[..., names.index(before)], means[..., names.index(after)])

        return _entry(ratio, values, rows, resampled)

    def points(before: str, after: str) -> dict:
        def difference(means: np.ndarray) -> np.ndarray:
            return means[..., names.index(after)] - means[..., names.index(before)]

        return _entry(difference, values, rows, resampled)

    summary: dict = {"targets": len(rows), "seeds": len({row["seed"] for row in rows})}
    for k in ks:
        entry = summary[f"hr@{k}"] = {
            "before": mean(f"hr_before {k}"),
            "after": mean(f"hr_after {k}"),
            "gain": gain(f"hr_before {k}", f"hr_after {k}"),
            "points": points(f"hr_before {k}", f"hr_after {k}"),
        }
        for certificate in ("budget_certificate", "any_content_certificate"):
            if f"{certificate} {k}" in columns:
                entry[certificate] = mean(f"{certificate} {k}")
    if "rank_before" in columns:
        summary["rank"] = {when: mean(f"rank_{when}") for when in ("before", "after")}
    return summary


def compare(rows: Sequence[dict], others: Sequence[dict], k: int, bootstrap: int) -> dict:
    """Two results on the same targets against each other, target by target.

    Args:
      rows: as for `summarize`.
      others: the same targets, in the same order, under another attack or model.
      k: the K.
      bootstrap: resamples behind each interval.

    Returns:
      {"after": mean HR@K after the attack in `others` over that in `rows`, minus 1,
      "gain": the gain in `others` minus that in `rows`, "points": mean HR won in `others`
      minus that in `rows`}, each as in `summarize`.

    Raises:
      ValueError: the targets differ.
    """
    _require_same_targets(rows, others)
    columns = [[row[name][str(k)] for row in some] for some in (rows, others) for name in _RATES]
    values = np.array(columns).T  # before, after, others' before, others' after
    resampled = _resamplings(values, rows, bootstrap)

    def ratio(means: np.ndarray) -> np.ndarray:
        return _ratio(means[..., 1], means[..., 3])

    def gain(means: np.ndarray) -> np.ndarray:
        ours, theirs = _ratio(means[..., 0], means[..., 1]), _ratio(means[..., 2], means[..., 3])
        known = np.isfinite(ours) & np.isfinite(theirs)
        return np.where(known, np.where(known, theirs, 0.0) - np.where(known, ours, 0.0), np.inf)

    def points(means: np.ndarray) -> np.ndarray:
        return means[..., 3] - means[..., 2] - (means[..., 1] - means[..., 0])

    return {
        name: _entry(function, values, rows, resampled)
        for name, function in (("after", ratio), ("gain", gain), ("points", points))
    }


def always_defined(gain: Mapping) -> bool:
    """Whether a gain is a number in every training and at both ends of its interval.

    >>> always_defined({"value": 3.0, "over_targets": [1.0, None]})
    False
    >>> entry = {"value": 3.0, "over_targets": [1.0, None], "over_trainings": [1.0, 9.0]}
    >>> always_defined(entry), always_defined(entry | {"by_training": [3.0, None]})
    (True, False)

    Args:
      gain: of `summarize` or `compare`; of several trainings the interval is that over them.
    """
    ends = gain.get("over_trainings", gain["over_targets"])
    return None not in (gain["value"], *ends, *gain.get("by_training", ()))


def paired_difference(
    rows: Sequence[Mapping],
    others: Sequence[Mapping],
    value_of: Callable[[Mapping], float],
    bootstrap: int,
) -> dict:
    """Mean of a number in `others` minus that in `rows`, resampled target by target.

    Args:
      rows: as for `summarize`.
      others: the same targets, in the same order, under another attack or model.
      value_of: a row's number.
      bootstrap: resamples behind each interval.

    Returns:
      {"value", "over_targets", ...} as in `summarize`.

    Raises:
      ValueError: the targets differ.
    """
    _require_same_targets(rows, others)
    pairs = zip(rows, others, strict=True)
    column = np.array([[value_of(b) - value_of(a)] for a, b in pairs], float)
    resampled = _resamplings(column, rows, bootstrap)
    return _entry(lambda means: means[..., 0], column, rows, resampled)


def mean_with_interval(values: Sequence[float], bootstrap: int) -> dict:
    """The mean of one number per target, as in `summarize`; None where there is none."""
    if not len(values):
        return {"value": None, "over_targets": [None, None]}
    column = np.asarray(values, float)[:, None]
    means = resample(column, range(len(values)), bootstrap)[:, 0]
    return {"value": float(column.mean()), "over_targets": interval(means)}


def _require_same_targets(rows: Sequence[Mapping], others: Sequence[Mapping]) -> None:
    ours, theirs = ([(_training(r), r["seed"], r["item"]) for r in some] for some in (rows, others))
    if ours != theirs:
        raise ValueError("the results are not of the same targets")


def _training(row: Mapping) -> int:
    return row.get("training_seed", 0)


def _entry(
    function: Callable[[np.ndarray], np.ndarray],
    values: np.ndarray,
    rows: Sequence[Mapping],
    resampled: Mapping[str, np.ndarray],
) -> dict:
    """A function of the columns' means with its intervals, and by training seed if several."""
    ends = {over: interval(function(means)) for over, means in resampled.items()}
    found = {"value": finite(float(function(values.mean(axis=0)))), **ends}
    trainings = np.array([_training(row) for row in rows])
    if "over_trainings" in resampled:
        own = [values[trainings == seed].mean(axis=0) for seed in dict.fromkeys(trainings.tolist())]
        found["by_training"] = [finite(float(function(means))) for means in own]
    return found


def _ratio(bottom: np.ndarray, top: np.ndarray) -> np.ndarray:
    """top / bottom - 1; without a hit before there is no gain: it stands above every number."""
    return np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1.0) - 1, np.inf)


def _resamplings(values: np.ndarray, rows: Sequence[dict], count: int) -> dict[str, np.ndarray]:
    """Means of resampled targets and, with two or more of them, of resampled seeds.

    A target drawn under several seeds, or attacked on several trainings, is resampled with
    all its rows. Trainings are resampled together with the targets, each independently (a
    cluster bootstrap with crossed clusters), so their interval covers both.
    """
    seeds, items = [row["seed"] for row in rows], [row["item"] for row in rows]
    trainings = [_training(row) for row in rows]
    resampled = {"over_targets": resample(values, items, count)}
    if len(set(seeds)) > 1:
        resampled["over_seeds"] = resample(values, seeds, count)
    if len(set(trainings)) > 1:
        resampled["over_trainings"] = resample_crossed(values, trainings, items, count)
    return resampled


def _columns(rows: Sequence[dict], ks: Sequence[int]) -> dict[str, np.ndarray]:
    by_k = (*_RATES, "budget_certificate", "any_content_certificate")
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
