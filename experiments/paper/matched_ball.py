"""Beyond the paper: the inner step in the attack's own linf ball, and what it does to content use.

The published defence trains in an l2 ball an eighth as long as the attack's linf
ball (d = 64). Here UAT's one step is an linf one, at lambda = 5 and eps = 10 %, and
half as far at lambda = 1.
"""

from collections.abc import Callable

from experiments.paper.artefact import FAILS, HOLDS, Artefact, Claim, nothing_to_draw
from experiments.study import (
    UNDEFENDED,
    Rows,
    Study,
    Unit,
    attack_seconds,
    attack_settings,
    attack_variant,
    measuring_unit,
)
from uatmc_jax.attacks.results import compare
from uatmc_jax.report.text import gain, percent, table
from uatmc_jax.settings import to_dict

VARIANTS = (UNDEFENDED, "uat", "matched_strong", "matched_mild")
K = 50


def _units(study: Study) -> list[Unit]:
    settings = attack_settings(study, study.plan.grid_seeds, {"pgd": {"base": "pgd"}})

    def run(tell: Callable[[float], None]) -> Rows:
        rows, clean = [], None
        for n, variant in enumerate(VARIANTS, start=1):
            (row,), by_attack = attack_variant(study, variant, settings)
            clean = clean or by_attack["pgd"]
            differences = compare(clean, by_attack["pgd"], K, settings.bootstrap)
            rows.append(row | {"against_none": differences})
            tell(n / len(VARIANTS))
        return rows

    seconds = attack_seconds(study, len(VARIANTS), study.plan.grid_seeds, pgd=1)
    return [measuring_unit(study, "matched_ball/pgd", VARIANTS, to_dict(settings), seconds, run)]


def _section(rows: Rows) -> list[str]:
    header = ["defence", "inner step", "lambda", "eps", "HR@50 gain, PGD", "certificate"]
    header += ["Recall@20", "the same, features permuted", "content utility"]
    body = []
    for row in rows:
        training, content = row["trained_with"]["adversarial"], row["content"]
        hardened = row["variant"] != UNDEFENDED
        entry = row["summary"][f"hr@{K}"]
        bound = entry.get("budget_certificate")
        body.append(
            [
                training["defense"] if hardened else "w/o AT",
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
    by_variant = {row["variant"]: row for row in rows}
    clean = by_variant[UNDEFENDED]
    before = clean["summary"][f"hr@{K}"]["gain"]

    def shown(row: dict) -> str:
        content = row["content"]
        return (
            f"gain {gain(row['summary'][f'hr@{K}']['gain'])}, recall@20 {content['clean']:.4f}, "
            f"with features permuted {content['permuted']:.4f}, content utility "
            f"{content['content_utility']:.4f}"
        )

    strong, mild, uat = (by_variant[v] for v in ("matched_strong", "matched_mild", "uat"))

    def kept(row: dict) -> float:
        return row["content"]["content_utility"] / clean["content"]["content_utility"]

    def left(row: dict) -> float | None:
        value = row["summary"][f"hr@{K}"]["gain"]["value"]
        return None if value is None or not before["value"] else value / before["value"]

    def verdict_of(right: bool) -> str:
        return HOLDS if right else FAILS

    some = left(uat)
    return [
        Claim(
            "finding (b)",
            "UAT as published, with its l2 step, leaves over half of the linf attack's gain.",
            verdict_of(some is not None and some > 0.5),
            f"w/o AT {gain(before)}; UAT {shown(uat)}",
        ),
        Claim(
            "finding (c)",
            "In the attack's own ball at lambda = 5, eps = 10 % the gain vanishes (under a tenth "
            "is left) because content is no longer used (under a third of its utility is left).",
            verdict_of(left(strong) is not None and left(strong) < 0.1 and kept(strong) < 1 / 3),
            shown(strong),
        ),
        Claim(
            "finding (c)",
            "At lambda = 1, eps = 5 % recall rises, over half of the content utility is left "
            "and the gain falls to under a quarter.",
            verdict_of(
                left(mild) is not None
                and left(mild) < 0.25
                and kept(mild) > 0.5
                and mild["content"]["clean"] > clean["content"]["clean"]
            ),
            shown(mild),
        ),
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

if __name__ == "__main__":
    from experiments import reproduce

    reproduce.run_alone(ARTEFACT)
