"""Which defences are worth having: rows over seeds, dominance, and the scoreboard's page.

Pure functions of rows. A row is one trained model under one suite of attacks; the
fields of `FIELDS` are what another group's row needs to stand beside ours.
"""

import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.study import UNDEFENDED
from uatmc_jax.errors import InputError
from uatmc_jax.report.text import table
from uatmc_jax.settings import result_with_new_names

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
    """The rows of a JSON-lines file.

    Raises:
      InputError: no rows; or names the line and the field that is missing, of another
        type, or not finite.
    """
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = result_with_new_names(json.loads(line))
        except ValueError as error:
            raise InputError(f"{file}, line {number}: not JSON ({error}).") from None
        if isinstance(row, dict):
            row = dict.fromkeys(_LATER) | row
        for name, (kind, meaning) in FIELDS.items():
            value = row.get(name) if isinstance(row, dict) else None
            right = isinstance(value, kind)
            if kind is float:
                right = isinstance(value, int | float) and math.isfinite(value)
            known_null = value is None and isinstance(row, dict) and name in row
            if not right and not (name in _MAY_BE_NULL and known_null):
                raise InputError(f"{file}, line {number}: '{name}' must be there: {meaning}.")
        rows.append(row)
    if not rows:
        raise InputError(f"{file}: no rows. Delete it, or put rows into it.")
    return rows


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


def page(studies: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The scoreboard as Markdown.

    Args:
      studies: {study: its rows}.
    """
    lines = [
        "# Scoreboard",
        "",
        "Written by `python -m experiments.scoreboard` from the `.jsonl` files beside it; "
        "`--rebuild` does so again after rows were added. Better is: higher recall and "
        "contribution, lower gain and certificate. In brackets the least and the greatest of the "
        "training seeds.",
        "",
        "*contribution*: test recall@20 minus the same with the catalogue's mean content in every "
        "item's place, what content gives; *sensitivity*: test recall@20 lost when the items' "
        "contents are exchanged, what a wrong content takes. *tail*: hit rate@20 and contribution "
        "on the test interactions with items as popular as the attacked ones. *holds*: keeps "
        f"{KEEPS:.0%} of the undefended model's on both and at most {REACHES:.0%} of its HR under "
        "the suite.",
        "",
        "*dominated by*: another entry is at least as good on every axis and better on one, on "
        "the means; in bold where, of two seeds or more, its worst beats this entry's best one "
        "on every axis; with a dagger where edits of the raw features go further against it all "
        "the same, which is no axis, as the threat model is one of z. *masking*: the verdict found "
        "gradients that cannot be believed. *s/epoch*: of the hardening as it was run, with "
        "compilation, other trainings under the same `vmap` and other work on the machine; steps "
        "timed alone are in docs/defenses.md.",
        "",
        "A row is one JSON object with at least the fields:",
        "",
        *table(
            ["field", "type", "meaning"],
            [[name, kind.__name__, meaning] for name, (kind, meaning) in FIELDS.items()],
            left=3,
        ),
    ]
    for study, rows in studies.items():
        lines += ["", f"## {study}", "", *_section(study, rows)]
    return "\n".join(lines) + "\n"


def _section(study: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    entries, first = entries_of(rows), rows[0]
    threat, evaluation = first["threat_model"], first["evaluation"]
    best = {entry.name for entry in pareto_front(entries)}
    members = max((row["members"] for row in rows), key=len)
    fewer = list(dict.fromkeys(r["entry"] for r in rows if len(r["members"]) < len(members)))
    lacking = f" A part of it on {', '.join(fewer)}." if fewer else ""
    body = []
    for number, entry in enumerate(entries, start=1):
        measure = entry.measures
        body.append(
            [
                str(number),
                f"**{entry.name}**" if entry.name in best else entry.name,
                _settings(entry.defense),
                _with_range(measure["recall@20"], "{:.4f}"),
                _with_range(measure["contribution"], "{:.4f}", "–"),
                _with_range(measure["sensitivity"], "{:.4f}"),
                _with_range(measure["attacked_hit_rate"], "{:.4f}", "–"),
                _with_range(measure["attacked_contribution"], "{:.4f}", "–"),
                _with_range(measure["gain"], "{:,.0%}"),
                _with_range(measure["pgd_gain"], "{:,.0%}"),
                _with_range(measure["feature_gain"], "{:,.0%}"),
                _with_range(measure["certificate"], "{:.2%}", "none"),
                _with_range(measure["hr_before"], "{:.3%}"),
                _with_range(measure["hr_after"], "{:.2%}"),
                _held(entry, entries),
                _seconds_per_epoch(entry),
                f"{len(entry.masked)} of {len(entry.seeds)}",
                _dominators(entry, entries),
            ]
        )
    header = [
        "#",
        "entry",
        "trained with",
        "recall@20",
        "contribution",
        "sensitivity",
        "tail: hits",
        "tail: contribution",
        "gain, suite",
        "gain, PGD-10",
        "gain, raw features",
        "certificate",
    ]
    header += ["HR before", "after", "holds", "s/epoch", "masking", "dominated by"]
    devices = sorted({row["device"]["kind"] for row in rows})
    seeds = sorted({row["seed"] for row in rows})
    return [
        f"{first['victim']} on {first['dataset']['name']} (data "
        f"{first['dataset']['fingerprint']}), training seeds {', '.join(map(str, seeds))}; "
        f"attacks within the {threat['norm']} ball of {threat['eps']:g} of the perturbed row's "
        f"2-norm, level {threat['level']}, HR@{threat['k']}; {evaluation['targets']} targets, "
        f"{evaluation['users']} users; trained on {', '.join(devices)}. In bold: on the front.",
        "",
        f"The suite: {', '.join(members)}.{lacking} *gain, raw features*: under PGD-10 on these, "
        "in the l2 ball of the same share.",
        "",
        f"![front]({study}.png)",
        "",
        *table(header, body, left=3),
    ]


def _by_gain(entry: Entry) -> float:
    gain = entry.measures["gain"].mean
    return math.inf if gain is None else gain


def _settings(defense: Mapping[str, Any]) -> str:
    """What of the training settings tells defences apart, in short."""
    kind = defense["defense"]
    parts = []
    if kind != "none":
        parts.append(f"lambda {defense['lam']:g}")
    if kind not in ("none", "spectral"):
        parts.append(f"eps {defense['eps']:g}")
    if kind in ("uat", "uat_mc", "noise", "exact", "linearized"):
        parts.append(defense["norm"])
    if kind in ("uat", "uat_mc") and defense["steps"] > 1:
        parts.append(f"{defense['steps']} steps of {defense['step_size']:g}")
    if kind == "uat_mc":
        parts.append(f"beta {defense['beta']:g}")
    if defense.get("modalities"):
        parts.append(f"{' and '.join(defense['modalities'])} only")
    if defense.get("eps_tail"):
        parts.append(f"eps by popularity^{defense['eps_tail']:g}")
    if defense.get("content_weight"):
        parts.append(f"content {defense['content_weight']:g}")
    if defense.get("train_projector_head"):
        parts.append("z learned anew")
    if defense.get("ramp_epochs"):
        parts.append(f"ramp {defense['ramp_epochs']}")
    return ", ".join([kind, *parts])


def _held(entry: Entry, entries: Sequence[Entry]) -> str:
    undefended = [other for other in entries if other.name == UNDEFENDED]
    if not undefended or entry.name == UNDEFENDED:
        return ""
    return {True: "yes", False: "no", None: "–"}[holds(entry, undefended[0])]


def _seconds_per_epoch(entry: Entry) -> str:
    if not entry.defense.get("epochs", 1):
        return "none"
    return f"{entry.measures['training_seconds'].mean / max(entry.measures['epochs'].mean, 1):.2f}"


def _dominators(entry: Entry, entries: Sequence[Entry]) -> str:
    """Names of those that dominate, the clear ones first; the page says what the marks mean."""
    found = [other for other in entries if dominates(other, entry)]
    named = []
    for other in sorted(found, key=lambda other: not clearly_dominates(other, entry)):
        name = f"**{other.name}**" if clearly_dominates(other, entry) else other.name
        theirs, ours = (e.measures["feature_gain"].mean for e in (other, entry))
        weaker = theirs is not None and ours is not None and theirs > ours
        named.append(f"{name}\N{DAGGER}" if weaker else name)
    more = f" and {len(named) - 2} more" if len(named) > 2 else ""
    return ", ".join(named[:2]) + more


def _with_range(measure: Measure, form: str, none: str = "undefined") -> str:
    if measure.mean is None:
        return none
    if measure.low == measure.high:
        return form.format(measure.mean)
    ends = f"{form.format(measure.low)}, {form.format(measure.high)}"
    return f"{form.format(measure.mean)} [{ends}]"
