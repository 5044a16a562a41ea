"""Which defences are worth having: rows over seeds, and dominance.

Pure functions of rows. A row is one trained model under one suite of attacks; the
fields of `FIELDS` are what another group's row needs to stand beside ours.
"""

import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments import row_files
from uatmc_jax.errors import InputError

# Measured quantities and which way is better. "certificate" may be None (no bound known), "gain"
# as well (nobody had a target before), "contribution" in rows that are older than it.
AXES = {"recall@20": 1, "contribution": 1, "gain": -1, "certificate": -1}
_LEFT_OUT_IF_UNKNOWN = ("contribution", "certificate")
# What a defence must keep of the undefended model's on items like the attacked ones, and the most
# of its HR after the attacks.
KEEPS, REACHES = 0.9, 0.25
# Of every row: name, type, meaning.
FIELDS = {
    "format": (int, "1"),
    "study": (str, "which board the row belongs to: data set and victim"),
    "victim": (str, "name of the model"),
    "dataset": (dict, "name and fingerprint"),
    "entry": (str, "the defence's name; rows that differ in the seed only share it"),
    "defense": (dict, "how it was trained: every setting"),
    "seed": (int, "of the training"),
    "threat_model": (dict, "norm, eps, k, level, modalities"),
    "evaluation": (dict, "targets and users"),
    "members": (list, "names of the suite's attacks"),
    "recall@20": (float, "on the test split"),
    "contribution": (float, "test recall@20 minus that with the mean content everywhere; or null"),
    "attacked_hit_rate": (float, "test hit rate@20 on items like the attacked ones; or null"),
    "attacked_contribution": (float, "contribution on these; or null"),
    "sensitivity": (float, "test recall@20 lost when the items' contents are exchanged"),
    "gain": (float, "HR@K gain under the suite's best attack on each target; or null"),
    "certificate": (float, "mean upper bound of HR@K within the budget; or null"),
    "hr_before": (float, "mean HR@K of the targets, clean"),
    "hr_after": (float, "the same under the suite"),
    "pgd_gain": (float, "gain under PGD-10 alone; or null"),
    "feature_gain": (float, "gain under PGD-10 on the raw features, l2, same eps; or null"),
    "masking": (list, "the verdict's flags"),
    "training_seconds": (float, "of the last stage trained, compilation included, as it was run"),
    "epochs": (int, "of that stage"),
    "device": (dict, "platform and kind of what it was trained on"),
}
_LATER = ("contribution", "attacked_hit_rate", "attacked_contribution")
_MAY_BE_NULL = ("gain", "certificate", "pgd_gain", "feature_gain", *_LATER)


class Measure(NamedTuple):
    """One quantity over the training seeds; all None where a seed has none.

    Attributes:
      mean: of the seeds.
      low: the least of them.
      high: the greatest.
    """

    mean: float | None
    low: float | None
    high: float | None


class Entry(NamedTuple):
    """One defence in one setting.

    Attributes:
      name: as in its rows.
      defense: settings of the training, as in its first row.
      seeds: those of its rows.
      measures: {quantity: Measure} of the axes and of every other number.
      masked: seeds under which the verdict has a flag.
    """

    name: str
    defense: dict
    seeds: tuple[int, ...]
    measures: dict[str, Measure]
    masked: tuple[int, ...]


def read_rows(file: pathlib.Path) -> list[dict]:
    """The rows of a JSON-lines file; errors as of `row_files.read_rows`."""
    return row_files.read_rows(file, FIELDS, _MAY_BE_NULL, _LATER)


def entries_of(rows: Sequence[Mapping[str, Any]]) -> list[Entry]:
    """Rows that differ in the training seed only, as one entry each, by mean gain.

    Those of undefined gain are last.

    Raises:
      InputError: two rows of one entry and seed; an entry whose rows were trained in
        several ways; rows under several threat models or evaluations.
    """
    for field in ("threat_model", "evaluation", "dataset", "victim"):
        if len({json.dumps(row[field], sort_keys=True) for row in rows}) > 1:
            raise InputError(
                f"the rows differ in '{field}', so they are no one board's. Put those of another "
                "into a file of their own, under another 'study'."
            )
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        grouped.setdefault(row["entry"], []).append(row)
    return sorted((_entry(name, of) for name, of in grouped.items()), key=_by_gain)


def _by_gain(entry: Entry) -> float:
    gain = entry.measures["gain"].mean
    return math.inf if gain is None else gain


def _entry(name: str, rows: list[Mapping[str, Any]]) -> Entry:
    seeds = tuple(row["seed"] for row in rows)
    if len(set(seeds)) < len(seeds):
        raise InputError(
            f"entry '{name}': two rows of one seed. Give each entry a name of its own."
        )
    if len({json.dumps(row["defense"], sort_keys=True) for row in rows}) > 1:
        raise InputError(f"entry '{name}': its rows differ in 'defense'. Name them apart.")
    others = ("hr_before", "hr_after", "pgd_gain", "feature_gain", "training_seconds", "epochs")
    names = (*AXES, *others, "sensitivity", *_LATER[1:])
    measures = {quantity: _measure([row[quantity] for row in rows]) for quantity in names}
    masked = tuple(row["seed"] for row in rows if row["masking"])
    return Entry(name, dict(rows[0]["defense"]), seeds, measures, masked)


def _measure(values: Sequence[float | None]) -> Measure:
    if any(value is None for value in values):
        return Measure(None, None, None)
    return Measure(float(np.mean(values)), float(min(values)), float(max(values)))


def dominates(better: Entry, worse: Entry) -> bool:
    """On the means: no worse on any axis, better on one. False if a gain is undefined."""
    differences = _differences(better, worse, "mean", "mean")
    return differences is not None and min(differences) >= 0 and max(differences) > 0


def clearly_dominates(better: Entry, worse: Entry) -> bool:
    """The worst seed of one is better than the best seed of the other, on every axis.

    False if one of them has a single seed, and so no spread.
    """
    if min(len(better.seeds), len(worse.seeds)) < 2:
        return False
    differences = _differences(better, worse, "worst", "best")
    return differences is not None and min(differences) > 0


def _differences(better: Entry, worse: Entry, ours: str, theirs: str) -> list[float] | None:
    found = []
    for axis, sign in AXES.items():
        a, b = better.measures[axis], worse.measures[axis]
        if a.mean is None or b.mean is None:
            if axis in _LEFT_OUT_IF_UNKNOWN:
                continue
            return None
        found.append(_signed(a, sign, ours) - _signed(b, sign, theirs))
    return found


def _signed(measure: Measure, sign: int, which: str) -> float:
    """sign * the mean, the worst or the best of the seeds: larger is better."""
    if which == "mean":
        return sign * measure.mean
    ends = sorted((sign * measure.low, sign * measure.high))
    return ends[0] if which == "worst" else ends[1]


def pareto_front(entries: Sequence[Entry]) -> list[Entry]:
    """Those whose gain is defined and that no other dominates on the means."""
    return [
        entry
        for entry in entries
        if entry.measures["gain"].mean is not None
        and not any(dominates(other, entry) for other in entries)
    ]


def holds(entry: Entry, undefended: Entry) -> bool | None:
    """Whether a defence keeps what the attacked items have and takes the attacks' reach.

    That is, on the means: `KEEPS` of the undefended model's hit rate and contribution on items
    like the attacked ones, and at most `REACHES` of its HR under the suite. None where one of
    these was not measured.
    """
    ours, theirs = entry.measures, undefended.measures
    kept = _LATER[1:]
    if any(of[name].mean is None for of in (ours, theirs) for name in kept):
        return None
    within = ours["hr_after"].mean <= REACHES * theirs["hr_after"].mean
    return within and all(ours[name].mean >= KEEPS * theirs[name].mean for name in kept)
