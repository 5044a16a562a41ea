"""Beyond the paper: the inner step in the attack's own linf ball, and its cost in use of content.

The published defence trains in an l2 ball an eighth as long as the attack's linf
ball (d = 64). Here UAT's one step is an linf one, at lambda = 5 and eps = 10 %, and
half as far at lambda = 1.
"""

from collections.abc import Callable

import numpy as np

from experiments import content
from experiments.paper.artefact import FAILS, HOLDS, UNDECIDED, Artefact, Claim, nothing_to_draw
from experiments.paper.effects import gains_or_points
from experiments.study import CONTROL, UNDEFENDED, Rows, Study, Unit, recorded
from experiments.variants import attack_seconds, attack_settings, attack_trainings, measuring_unit
from uatmc_jax.benchmark.summary import compare
from uatmc_jax.report.text import percent, promoted, table

VARIANTS = (UNDEFENDED, CONTROL, "uat", "matched_strong", "matched_mild")
NAMES = {UNDEFENDED: "w/o AT", CONTROL: "w/o AT, trained on"}
K = 50


def _units(study: Study) -> list[Unit]:
    settings = attack_settings(study, study.plan.grid_seeds, {"pgd": {"base": "pgd"}})

    def run(tell: Callable[[float], None]) -> Rows:
        rows, base = [], None
        for n, variant in enumerate(VARIANTS, start=1):
            (row,), by_attack = attack_trainings(study, variant, settings)
            base = by_attack["pgd"] if variant == CONTROL else base
            rows.append(row)
            if base is not None:
                differences = compare(base, by_attack["pgd"], K, settings.bootstrap)
                rows[-1]["against_control"] = differences
            tell(n / len(VARIANTS))
        return rows

    n = len(VARIANTS) * len(study.seeds)
    seconds = attack_seconds(study, n, study.plan.grid_seeds, pgd=1)
    name, plan = "matched_ball/pgd", recorded(settings)
    return [measuring_unit(study, name, VARIANTS, plan, seconds, run, trainings=True)]


def _entry(row: dict) -> dict:
    return row["summary"][f"hr@{K}"]


def _section(rows: Rows) -> list[str]:
    header = ["defence", "inner step", "lambda", "eps", "HR@50 gain, PGD", "certificate"]
    header += ["Recall@20", *content.HEADER]
    body = []
    for row in rows:
        training, use = row["trained_with"]["adversarial"], row["content"]
        hardened = row["variant"] not in NAMES
        entry = _entry(row)
        bound = entry.get("budget_certificate")
        body.append(
            [
                training["defense"] if hardened else NAMES[row["variant"]],
                training["norm"] if hardened else "",
                f"{training['lam']:g}" if hardened else "",
                f"{training['eps']:.1%}" if hardened else "",
                promoted(entry),
                percent(bound["value"]) if bound else "none",
                f"{content.recall(use):.4f}",
                *content.cells(use),
            ]
        )
    return [*table(header, body, left=2), "", content.NOTE]


def _claims(rows: Rows) -> list[Claim]:
    """The shares are of what training on without a defence has, under the same training seed."""
    by_variant = {row["variant"]: row for row in rows}
    control = by_variant[CONTROL]
    seeds = range(len(control.get("by_training", [control])))

    measure, entries = gains_or_points([_entry(row) for row in rows])
    won = dict(zip(by_variant, entries, strict=True))

    def values(row: dict) -> list[float | None]:
        entry = won[row["variant"]]
        return entry.get("by_training", [entry["value"]])

    def contents(row: dict) -> list[dict]:
        return [one["content"] for one in row.get("by_training", [row])]

    def left(row: dict) -> list[float]:
        """Shares of what the attack wins; NaN, of which nothing is true, where one is undefined."""
        pairs = zip(values(row), values(control), strict=True)
        return [float("nan") if a is None or not b else a / b for a, b in pairs]

    def kept(row: dict) -> list[float]:
        pairs = zip(contents(row), contents(control), strict=True)
        use = [[content.value(c, "contribution") for c in pair] for pair in pairs]
        return [float("nan") if a is None or not b or b <= 0 else a / b for a, b in use]

    def holds_up(row: dict) -> list[bool]:
        pairs = zip(contents(row), contents(control), strict=True)
        return [content.recall(a) >= content.recall(b) for a, b in pairs]

    def shown(row: dict) -> str:
        use = zip(content.HEADER, content.cells(row["content"]), strict=True)
        return (
            f"gain {promoted(_entry(row))}, recall@20 {content.recall(row['content']):.4f}, "
            + ", ".join(f"{name} {shown}" for name, shown in use)
        )

    strong, mild, uat = (by_variant[v] for v in ("matched_strong", "matched_mild", "uat"))
    found = [
        (
            "(b)",
            "UAT as published, with its l2 step, leaves over half of the linf attack's gain.",
            [left(uat)[n] > 0.5 for n in seeds],
            uat,
        ),
        (
            "(c)",
            "In the attack's own ball at lambda = 5, eps = 10 % under a tenth of the gain is left, "
            "and under a tenth of content's contribution.",
            [left(strong)[n] < 0.1 and kept(strong)[n] < 0.1 for n in seeds],
            strong,
        ),
        (
            "(c)",
            "At lambda = 1, eps = 5 % recall is no lower, over a third of content's contribution "
            "is left, and under a quarter of the gain.",
            [left(mild)[n] < 0.25 and kept(mild)[n] > 1 / 3 and holds_up(mild)[n] for n in seeds],
            mild,
        ),
    ]
    return [
        Claim(
            f"finding {number}",
            text,
            _agreed(right, left(row) + kept(row)),
            f"{NAMES[CONTROL]}: {shown(control)}. Here: {shown(row)}",
            "shares of what training on without a defence has"
            + ("; " if measure == "gain" else ", of the HR@50 won as some gains are undefined; ")
            + (f"in {sum(right)} of {len(right)} training seeds" if len(right) > 1 else "one seed"),
        )
        for number, text, right, row in found
    ]


def _agreed(right: list[bool], shares: list[float]) -> str:
    if len(right) < 2 or np.isnan(shares).any():
        return UNDECIDED
    return HOLDS if all(right) else UNDECIDED if any(right) else FAILS


ARTEFACT = Artefact(
    name="matched_ball",
    title="Beyond the paper: training in the attack's own ball",
    trainings=lambda study: list(VARIANTS),
    units=_units,
    section=_section,
    claims=_claims,
    draw=nothing_to_draw,
    seeded=lambda study: list(VARIANTS),
)
