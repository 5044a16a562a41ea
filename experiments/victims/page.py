"""The comparison's page, of rows; pure functions."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.study import UNDEFENDED
from uatmc_jax.errors import InputError
from uatmc_jax.report.text import table

Row = Mapping[str, Any]

# Of every row: name, type, meaning.
FIELDS = {
    "format": (int, "1"),
    "victim": (str, "its name in the plan"),
    "model": (str, "name of the model"),
    "reads": (list, "what of content reaches a score when it serves"),
    "variant": (str, "the defence's name; 'none' for the model as it was trained"),
    "defense": (dict, "how it was hardened: what is not the config's"),
    "seed": (int, "of the training"),
    "serving": (str, "the policy: what is computed anew after an edit"),
    "blind": (str, "why no edit changes anything; or null"),
    "dataset": (dict, "name and fingerprint"),
    "evaluation": (dict, "targets, users, threats"),
    "users": (int, "whose lists were looked at"),
    "recall@20": (float, "on the test split"),
    "contribution": (float, "test recall@20 minus that with the mean content everywhere; or null"),
    "sensitivity": (float, "test recall@20 lost when the items' contents are exchanged; or null"),
    "cold_contribution": (float, "contribution on cold items; or null"),
    "hr_before": (float, "mean HR@K of the targets, clean"),
    "threats": (dict, "{threat: members, after, certificates, unsearched; null: nothing sees it}"),
    "training_seconds": (float, "of the last stage trained, compilation included"),
    "epochs": (int, "of that stage"),
    "target_seconds": (dict, "of one target: exact, dense; or null"),
    "device": (dict, "platform and kind of what it was measured on"),
}
NULLABLE = ("blind", "contribution", "sensitivity", "cold_contribution", "target_seconds")
# Test Recall@20 as reported, with 4096-d and 384-d features, on another draw of the split, the
# hyper-parameters chosen on the test split: MMRec's evaluation page; of MGCN and LGMRec, and on
# Clothing, their authors' repositories. DRAGON's is not on any page that was read.
REPORTED = {
    "baby": {
        "lightgcn": 0.0754,
        "lattice": 0.0850,
        "bm3": 0.0883,
        "freedom": 0.0992,
        "mgcn": 0.0964,
        "lgmrec": 0.1002,
    },
    "sports": {
        "lightgcn": 0.0864,
        "lattice": 0.0953,
        "bm3": 0.0980,
        "freedom": 0.1089,
        "mgcn": 0.1106,
        "lgmrec": 0.1067,
    },
    "clothing": {"lightgcn": 0.0526, "bm3": 0.0625, "mgcn": 0.0945, "lgmrec": 0.0830},
}
MOVING = ("own_row", "full")
_FEW_HITS = 30  # of fewer a ratio has a relative error of a fifth and more: they are said
_BOUNDS = ("budget_certificate", "any_content_certificate")


def page(studies: Mapping[str, Sequence[Row]]) -> str:
    """The comparison as Markdown.

    Args:
      studies: {data set: its rows}.

    Raises:
      InputError: rows of one data set that cannot stand beside each other.
    """
    lines = [
        "# The recommenders people run",
        "",
        "Written by `python -m experiments.victims` from the `.jsonl` files beside it; `--rebuild` "
        "does so again. What the models are, and what they read when they serve: docs/victims.md.",
        "",
        "*frozen*: nothing is computed anew after an edit; every hit rate stays as it is before. "
        "*own_row*: the edited item's own features, neighbours and embedding are. *full*: "
        "everything is, as after the next re-indexing. Each cell is the mean over the targets of "
        "the share of the users with the item in their top K, under the strongest search on each "
        "target, and after \N{LESS-THAN OR EQUAL TO} what no edit within the budget exceeds, where "
        "there is such a certificate; in brackets the least and the greatest of several training "
        "seeds. A dash: the policy is not defined for the model, or no search sees what such an "
        "edit does to its scores. A star: part of what the model reads was not searched.",
        "",
        "*contribution*: test recall@20 minus the same with the catalogue's mean content in every "
        "item's place; *sensitivity*: test recall@20 lost when the items' contents are exchanged; "
        "both are measured as the policy computes anew, and are 0 under frozen. *s/target*: of ten "
        "steps of PGD, or of copying listings, with hit rates, by the exact path and by the dense "
        "one; on the clock, and of CPUs, as a machine may be shared. *reported*: by "
        "others, with other features, another draw of the split and hyper-parameters chosen on the "
        "test split.",
    ]
    for name, rows in studies.items():
        lines += ["", f"## {name}", "", *_section(name, rows)]
    return "\n".join(lines) + "\n"


def _section(name: str, rows: Sequence[Row]) -> list[str]:
    _require_same(rows)
    evaluation, models = rows[0]["evaluation"], grouped(rows)
    threats = evaluation["threats"]
    said = "; ".join(
        f"*{threat}*: {_level(of['level'])} within {of['eps']:g} of their length, {of['norm']}"
        for threat, of in threats.items()
    )
    low, high = evaluation["quantiles"]
    return [
        f"Data {rows[0]['dataset']['fingerprint']}, training seeds "
        f"{', '.join(str(seed) for seed in sorted({row['seed'] for row in rows}))}, "
        f"{evaluation['targets']} targets between the quantiles {low:g} and {high:g} of "
        f"popularity, {rows[0]['users']} users, HR@{evaluation['k']}; "
        f"measured on {_devices(rows)}. {said}.",
        "",
        f"![hit rates]({name}.png)",
        "",
        *_in_short(models),
        "",
        "### As recommenders",
        "",
        *_recommenders(name, models),
        "",
        "### How far each is promoted",
        "",
        *_promoted(models, list(threats)),
        *_remarks(models),
    ]


def _devices(rows: Sequence[Row]) -> str:
    return ", ".join(sorted({row["device"]["kind"] for row in rows}))


def _level(level: str) -> str:
    return "projected features" if level == "projected" else "raw features"


def _require_same(rows: Sequence[Row]) -> None:
    for field in ("dataset", "evaluation"):
        if len({json.dumps(row[field], sort_keys=True) for row in rows}) > 1:
            raise InputError(
                f"the rows differ in '{field}', so they do not stand beside each other. Put those "
                "of another plan into a folder of their own."
            )


Models = Mapping[tuple[str, str], Mapping[str, Sequence[Row]]]


def grouped(rows: Sequence[Row]) -> Models:
    """{(victim, variant): {policy: one row a seed}}, the least moved first, undefended first."""
    reach: dict[str, float] = {}
    for row in rows:
        if row["variant"] == UNDEFENDED:
            reach[row["victim"]] = max(reach.get(row["victim"], 0.0), _largest(row))

    def place(row: Row) -> tuple[float, str, bool]:
        return reach.get(row["victim"], np.inf), row["victim"], row["variant"] != UNDEFENDED

    found: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for row in sorted(rows, key=place):
        policies = found.setdefault((row["victim"], row["variant"]), {})
        policies.setdefault(row["serving"], []).append(row)
    return found


def most_moving(policies: Mapping[str, Sequence[Row]]) -> Sequence[Row]:
    """Rows under the policy that most moves under."""
    return next(policies[name] for name in ("full", "own_row", "frozen") if name in policies)


def _in_short(models: Models) -> list[str]:
    """Who reads nothing, and who is moved how far, of the undefended models."""
    undefended = {victim: of for (victim, variant), of in models.items() if variant == UNDEFENDED}
    nothing = [victim for victim, of in undefended.items() if not most_moving(of)[0]["reads"]]
    lines = []
    if nothing:
        lines.append(
            f"- No edit whatever moves {', '.join(nothing)}: they read no content when they serve. "
            "A new item has nothing of its image and text there either."
        )
    factors, hits = {}, {}
    for victim, of in undefended.items():
        before, after = mean(most_moving(of), "hr_before"), _most(most_moving(of))
        if after is not None and before:
            factors[victim] = after / before
            pairs = (row["evaluation"]["targets"] * row["users"] for row in most_moving(of))
            hits[victim] = before * sum(pairs)
    if factors:
        ranked = sorted(factors, key=lambda victim: factors[victim])
        shown = ", ".join(
            f"{victim} {_times(factors[victim])}"
            + (f" (of {hits[victim]:.0f} hits before)" if hits[victim] < _FEW_HITS else "")
            for victim in ranked
        )
        lines.append(
            "- Times as many users with the item among their best, under full and the strongest "
            f"threat: {shown}."
        )
    return lines


def _times(factor: float) -> str:
    """Three digits, and none after the point from a hundred on."""
    return f"{factor:,.0f}" if factor >= 100 else f"{factor:.3g}"


def _most(rows: Sequence[Row]) -> float | None:
    """The mean over seeds of the largest hit rate under any threat."""
    moved = [row for row in rows if row["blind"] is None and any(row["threats"].values())]
    return float(np.mean([_largest(row) for row in moved])) if moved else None


def _largest(row: Row) -> float:
    return max((of["after"] for of in row["threats"].values() if of), default=0.0)


def _recommenders(name: str, models: Models) -> list[str]:
    body = []
    for (victim, variant), policies in models.items():
        if variant != UNDEFENDED:
            continue
        rows = most_moving(policies)
        first, reported = rows[0], REPORTED.get(name, {}).get(victim)
        use = [
            _ranged(policies.get(policy, ()), lambda row, of=of: row[of], "{:.4f}")
            for of in ("contribution", "sensitivity")
            for policy in MOVING
        ]
        body.append(
            [
                victim,
                " and ".join(first["reads"]) or "nothing",
                _ranged(rows, lambda row: row["recall@20"], "{:.4f}"),
                f"{reported:.4f}" if reported else "–",
                f"{mean(rows, 'epochs'):,.0f}",
                _ranged(
                    rows, lambda row: row["training_seconds"] / max(row["epochs"], 1), "{:,.1f}"
                ),
                _devices(rows),
                *(_ranged(rows, lambda row, of=of: _seconds(row, of), "{:.2f}") for of in _TIMES),
                *use,
                _ranged(policies.get("full", ()), lambda row: row["cold_contribution"], "{:.4f}"),
            ]
        )
    header = ["victim", "reads", "recall@20", "reported", "epochs", "s/epoch"]
    header += [
        "on",
        "s/target",
        "of CPU",
        "dense",
        "of CPU",
        "contribution, own_row",
        "full",
        "sensitivity, own_row",
        "full",
    ]
    return table([*header, "contribution on cold items, full"], body, left=2)


_TIMES = ("exact", "exact_cpu", "dense", "dense_cpu")


def _seconds(row: Row, of: str) -> float | None:
    return None if row["target_seconds"] is None else row["target_seconds"].get(of)


def _promoted(models: Models, threats: Sequence[str]) -> list[str]:
    columns = [(policy, threat) for policy in MOVING for threat in threats]
    body = []
    for (victim, variant), policies in models.items():
        rows = most_moving(policies)
        body.append(
            [
                victim,
                variant,
                _ranged(rows, lambda row: row["recall@20"], "{:.4f}"),
                _ranged(rows, lambda row: row["hr_before"], "{:.3%}"),
                *(_reached(policies.get(policy, ()), threat) for policy, threat in columns),
                _any_content(policies),
            ]
        )
    header = ["victim", "defence", "recall@20", "HR before (frozen)"]
    header += [f"{policy}, {threat}" for policy, threat in columns]
    return table([*header, "any content"], body, left=2)


def _reached(rows: Sequence[Row], threat: str) -> str:
    """The strongest search's hit rate, its certificate, and whether something was not searched."""
    known = [row["threats"].get(threat) for row in rows]
    if not known or any(of is None for of in known):
        return "–"
    shown = _ranged(known, lambda of: of["after"], "{:.3%}")
    bound = _ranged(known, lambda of: of["budget_certificate"], "{:.2%}")
    star = "*" if any(of["unsearched"] for of in known) else ""
    return f"{shown}{star}" + ("" if bound == "–" else f" \N{LESS-THAN OR EQUAL TO} {bound}")


def _any_content(policies: Mapping[str, Sequence[Row]]) -> str:
    """The certificate for any content, under the policy that has one, full before own_row."""
    for policy in reversed(MOVING):
        rows = policies.get(policy, ())
        found = [
            min(
                (t[_BOUNDS[1]] for t in row["threats"].values() if t and t[_BOUNDS[1]] is not None),
                default=None,
            )
            for row in rows
        ]
        if found and all(value is not None for value in found):
            shown = _ranged(found, lambda value: value, "{:.2%}")
            return f"\N{LESS-THAN OR EQUAL TO} {shown} ({policy})"
    return "none"


def _remarks(models: Models) -> list[str]:
    """What no search looked at, and gradients that cannot be believed, each once."""
    lines: dict[str, None] = {}
    for (victim, variant), policies in models.items():
        for policy, rows in policies.items():
            for row in rows:
                for threat, of in row["threats"].items():
                    for said in (of or {}).get("unsearched", ()):
                        lines[f"- {victim}, {policy}, {threat}: {said}."] = None
                    for flag in (of or {}).get("masking", ()):
                        lines[f"- {victim}, {variant}, {policy}, {threat}: {flag['why']}."] = None
    return ["", *lines] if lines else []


def mean(rows: Sequence[Row], field: str) -> float:
    """Of a field over rows."""
    return float(np.mean([row[field] for row in rows]))


def _ranged(of: Sequence[Any], value: Callable[[Any], float | None], form: str) -> str:
    """The mean and, where they differ, the least and the greatest; a dash where one is unknown."""
    values = [value(one) for one in of]
    if not values or any(x is None for x in values):
        return "–"
    shown = form.format(np.mean(values))
    if min(values) == max(values):
        return shown
    return f"{shown} [{form.format(min(values))}, {form.format(max(values))}]"
