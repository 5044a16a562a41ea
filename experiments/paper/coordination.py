"""Beyond the paper: UAT against UAT-MC at the ends of the beta grid, under every training seed.

Table 2 has coordination at one weight, Figure 6 every weight under one training seed. Here
the smallest and the largest weight of Figure 6 are held against UAT by paired targets.
"""

from collections.abc import Callable

from experiments import content
from experiments.paper.artefact import Artefact, Claim, nothing_to_draw
from experiments.paper.effects import decided, in_points, on_gain_or_points, reversed_effect
from experiments.paper.trainings import sweep
from experiments.study import UNDEFENDED, Rows, Study, Unit, of_seed, recorded
from experiments.variants import (
    attack_seconds,
    attack_settings,
    attack_trainings,
    measuring_unit,
    training_units,
)
from uatmc_jax.benchmark.summary import compare
from uatmc_jax.report.text import percent, promoted, table

UAT, UAT_MC = "uat", "uat_mc"
K = 50


def _coordinated(study: Study) -> dict[float, str]:
    """{beta: variant} of the grid's ends."""
    along = sweep(study, "beta")
    return {beta: along[beta] for beta in sorted(along) if beta in (min(along), max(along))}


def _units(study: Study) -> list[Unit]:
    chosen = _coordinated(study)
    settings = attack_settings(study, study.plan.grid_seeds, {"pgd": {"base": "pgd"}})
    # Under the first seed all of these are Figure 6's, and UAT-MC's own weight is Table 2's.
    own = [variant for variant in chosen.values() if variant != UAT_MC]
    units = []
    for seed in study.seeds[1:] if own else ():
        some = training_units(of_seed(study, seed), own, of="coordination")
        units += [unit for unit in some if not unit.name.startswith("training/none")]

    def run(tell: Callable[[float], None]) -> Rows:
        rows, base = attack_trainings(study, UAT, settings)
        for n, (beta, variant) in enumerate(chosen.items(), start=1):
            tell(n / (len(chosen) + 1))
            measured, found = attack_trainings(study, variant, settings)
            differences = compare(base["pgd"], found["pgd"], K, settings.bootstrap)
            rows += [row | {"beta": beta, "against_uat": differences} for row in measured]
        return rows

    variants = [UAT, *chosen.values()]
    n = len(variants) * len(study.seeds)
    seconds = attack_seconds(study, n, study.plan.grid_seeds, pgd=1)
    name, plan = "coordination/pgd", recorded(settings) | {"betas": list(chosen)}
    return [*units, measuring_unit(study, name, variants, plan, seconds, run, trainings=True)]


def _entry(row: dict) -> dict:
    return row["summary"][f"hr@{K}"]


def _section(rows: Rows) -> list[str]:
    header = ["defence", "beta", "HR@50 before", "after PGD", "gain", "against UAT"]
    header += ["Recall@20", *content.HEADER]
    body = [
        [
            "UAT-MC" if "beta" in row else "UAT",
            f"{row['beta']:g}" if "beta" in row else "",
            percent(_entry(row)["before"]["value"]),
            percent(_entry(row)["after"]["value"]),
            promoted(_entry(row)),
            in_points(on_gain_or_points(row["against_uat"])) if "beta" in row else "",
            f"{content.recall(row['content']):.4f}",
            *content.cells(row["content"]),
        ]
        for row in rows
    ]
    return [*table(header, body, left=2), "", content.NOTE]


def _claims(rows: Rows) -> list[Claim]:
    uat, *coordinated = rows
    claims = []
    for row in coordinated:
        effect = on_gain_or_points(row["against_uat"])
        claims.append(
            Claim(
                "5.2",
                f"UAT-MC lowers the gain further than UAT (beta {row['beta']:g}).",
                decided([reversed_effect(effect)]),
                f"PGD {promoted(_entry(uat))} -> {promoted(_entry(row))}, difference "
                f"{in_points(effect)}",
                "" if "over_trainings" in effect else "one training seed",
            )
        )
    return claims


ARTEFACT = Artefact(
    name="coordination",
    title="UAT and UAT-MC at the smallest and the largest weight of coordination",
    trainings=lambda study: list(_coordinated(study).values()),
    units=_units,
    section=_section,
    claims=_claims,
    draw=nothing_to_draw,
    seeded=lambda study: [
        UNDEFENDED,
        UAT,
        *(variant for variant in _coordinated(study).values() if variant == UAT_MC),
    ],
)
