"""Beyond the paper: the inner step in the attack's own linf ball, and what it does to content use.

The published defence trains in an l2 ball an eighth as long as the attack's linf
ball (d = 64). Here UAT's one step is an linf one, at lambda = 5 and eps = 10 %, and
half as far at lambda = 1.
"""

from collections.abc import Callable

import numpy as np

from experiments.paper.artefact import FAILS, HOLDS, UNDECIDED, Artefact, Claim, nothing_to_draw
from experiments.study import CONTROL, UNDEFENDED, Rows, Study, Unit, recorded
from experiments.variants import attack_seconds, attack_settings, attack_variant, measuring_unit
from uatmc_jax.benchmark.summary import compare
from uatmc_jax.report.text import gain, percent, table

VARIANTS = (UNDEFENDED, CONTROL, "uat", "matched_strong", "matched_mild")
NAMES = {UNDEFENDED: "w/o AT", CONTROL: "w/o AT, trained on"}
K = 50


def _units(study: Study) -> list[Unit]:
    settings = attack_settings(study, study.plan.grid_seeds, {"pgd": {"base": "pgd"}})

    def run(tell: Callable[[float], None]) -> Rows:
        rows, base = [], None
        for n, variant in enumerate(VARIANTS, start=1):
            (row,), by_attack = attack_variant(study, variant, settings)
            base = by_attack["pgd"] if variant == CONTROL else base
            rows.append(row)
            if base is not None:
                differences = compare(base, by_attack["pgd"], K, settings.bootstrap)
                rows[-1]["against_control"] = differences
            tell(n / len(VARIANTS))
        return rows

    seconds = attack_seconds(study, len(VARIANTS), study.plan.grid_seeds, pgd=1)
    return [measuring_unit(study, "matched_ball/pgd", VARIANTS, recorded(settings), seconds, run)]


def _section(rows: Rows) -> list[str]:
    header = ["defence", "inner step", "lambda", "eps", "HR@50 gain, PGD", "certificate"]
    header += ["Recall@20", "the same, features permuted", "content utility"]
    body = []
    for row in rows:
        training, content = row["trained_with"]["adversarial"], row["content"]
        hardened = row["variant"] not in NAMES
        entry = row["summary"][f"hr@{K}"]
        bound = entry.get("budget_certificate")
        body.append(
            [
                training["defense"] if hardened else NAMES[row["variant"]],
                training["norm"] if hardened else "",
                f"{training['lam']:g}" if hardened else "",
                f"{training['eps']:.1%}" if hardened else "",
                gain(entry["gain"]),
                percent(bound["value"]) if bound else "none",
                f"{content['clean']:.4f}",
                f"{content['permuted']:.4f}",
                f"{content['content_utility']:.4f}",
            ]
        )
    return table(header, body, left=2)


def _claims(rows: Rows) -> list[Claim]:
    """The shares are of what training on without a defence has."""
    by_variant = {row["variant"]: row for row in rows}
    control = by_variant[CONTROL]

    def gain_of(row: dict) -> dict:
        return row["summary"][f"hr@{K}"]["gain"]

    def left(row: dict) -> float:
        """Share of the gain; NaN, of which nothing is true, if one is undefined."""
        ours, base = gain_of(row)["value"], gain_of(control)["value"]
        return float("nan") if ours is None or not base else ours / base

    def kept(row: dict) -> float:
        base = control["content"]["content_utility"]
        return row["content"]["content_utility"] / base if base > 0 else float("nan")

    def shown(row: dict) -> str:
        content = row["content"]
        return (
            f"gain {gain(gain_of(row))}, recall@20 {content['clean']:.4f}, with features permuted "
            f"{content['permuted']:.4f}, content utility {content['content_utility']:.4f}"
        )

    strong, mild, uat = (by_variant[v] for v in ("matched_strong", "matched_mild", "uat"))
    found = [
        (
            "(b)",
            "UAT as published, with its l2 step, leaves over half of the linf attack's gain.",
            left(uat) > 0.5,
            uat,
        ),
        (
            "(c)",
            "In the attack's own ball at lambda = 5, eps = 10 % under a tenth of the gain is left, "
            "and under a tenth of the content utility.",
            left(strong) < 0.1 and kept(strong) < 0.1,
            strong,
        ),
        (
            "(c)",
            "At lambda = 1, eps = 5 % recall is no lower, over a third of the content utility is "
            "left, and under a quarter of the gain.",
            left(mild) < 0.25
            and kept(mild) > 1 / 3
            and mild["content"]["clean"] >= control["content"]["clean"],
            mild,
        ),
    ]
    return [
        Claim(
            f"finding {number}",
            text,
            UNDECIDED if np.isnan([left(row), kept(row)]).any() else HOLDS if right else FAILS,
            f"{NAMES[CONTROL]}: {shown(control)}. Here: {shown(row)}",
            "shares of what training on without a defence has; point values",
        )
        for number, text, right, row in found
    ]


ARTEFACT = Artefact(
    name="matched_ball",
    title="Beyond the paper: training in the attack's own ball",
    trainings=lambda study: list(VARIANTS),
    units=_units,
    section=_section,
    claims=_claims,
    draw=nothing_to_draw,
)
