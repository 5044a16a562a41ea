"""The scoreboard's page, of rows; pure functions."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.scoreboard.pareto import (
    FIELDS,
    KEEPS,
    REACHES,
    Entry,
    Measure,
    clearly_dominates,
    dominates,
    entries_of,
    holds,
    pareto_front,
)
from experiments.study import UNDEFENDED
from uatmc_jax.report.text import table


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
