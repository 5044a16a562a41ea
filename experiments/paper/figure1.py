"""Figure 1 and Section 3.2: FGSM crafted on all users, or only on those behind the gradients.

Under the published hinge and under elu; U_v and U_t by the same utility's gradients.
"""

import pathlib
from collections.abc import Callable

import numpy as np

from experiments import plots
from experiments.paper.artefact import Artefact, Claim
from experiments.paper.effects import verdict
from experiments.paper.mismatch import UTILITIES, Scene, analysed, mismatch_of, scenes
from experiments.study import UNDEFENDED, Rows, Study, Unit, recorded
from experiments.variants import attack_seconds, measuring_unit
from uatmc_jax.analysis.mismatch import top_users
from uatmc_jax.attacks import attack
from uatmc_jax.benchmark.run import options_of
from uatmc_jax.benchmark.summary import compare, summarize
from uatmc_jax.report.text import change, gain, percent, table
from uatmc_jax.settings import AttackRunSettings, to_dict

GROUPS = {
    "all": "all users",
    "union": "U_v u U_t",
    "intersection": "U_v n U_t",
    "visual": "U_v",
    "textual": "U_t",
}
K = 50


def groups(first: np.ndarray, second: np.ndarray) -> dict[str, np.ndarray]:
    """(T, n) masks of the users each variant of the attack is crafted on."""
    return {
        "all": np.ones_like(first),
        "union": first | second,
        "intersection": first & second,
        "visual": first,
        "textual": second,
    }


def _units(study: Study) -> list[Unit]:
    settings = analysed(study)
    seconds = attack_seconds(study, 1, study.plan.grid_seeds, fgsm=2 * len(GROUPS) + 3)

    def run(tell: Callable[[float], None]) -> Rows:
        found: dict[tuple[str, str], list[dict]] = {}
        empty = dict.fromkeys(settings.attacks, 0)
        for done, scene in enumerate(scenes(study, settings), start=1):
            for name in settings.attacks:
                found_users = mismatch_of(study, scene, name).contributions
                sets = top_users(found_users, study.plan.rho)
                chosen = groups(sets[:, 0], sets[:, 1])
                empty[name] += int((~chosen["intersection"].any(axis=1)).sum())
                for group, users in chosen.items():
                    some = found.setdefault((name, group), [])
                    some += attacked(settings, scene, name, users)
            tell(done / len(settings.seeds))
        return [
            {
                "variant": UNDEFENDED,
                "attack": name,
                "crafted_on": group,
                "rho": study.plan.rho,
                "empty_intersections": empty[name],
                "threat_model": to_dict(settings)["attacks"][name],
                "seeds": list(settings.seeds),
                "summary": summarize(some, settings.ks, settings.bootstrap),
                "against_all": compare(found[name, "all"], some, K, settings.bootstrap),
                "against_union": compare(found[name, "union"], some, K, settings.bootstrap),
            }
            for (name, group), some in found.items()
        ]

    plan = recorded(settings) | {"rho": study.plan.rho, "sets": "by the attack's own utility"}
    return [measuring_unit(study, "figure1/variants", [UNDEFENDED], plan, seconds, run)]


def attacked(settings: AttackRunSettings, scene: Scene, name: str, users: np.ndarray) -> list[dict]:
    """Rows of one attack on the scene's targets, crafted on (T, n) `users` only."""
    given = (settings.attacks[name], scene.victim, scene.items)
    options = options_of(settings)._replace(ranks=False)
    outcome = attack(*given, seed=scene.seed, weights=users, options=options)
    ks = list(map(str, settings.ks))
    return [
        {
            "seed": scene.seed,
            "item": int(item),
            "hr_before": dict(zip(ks, before.tolist(), strict=True)),
            "hr_after": dict(zip(ks, after.tolist(), strict=True)),
        }
        for item, before, after in zip(
            outcome.items, outcome.hr_before, outcome.hr_after, strict=True
        )
    ]


def _section(rows: Rows) -> list[str]:
    header = ["attack", "crafted on", "HR@50 before", "after", "gain"]
    header += ["HR@50 after, against all users", "against U_v u U_t"]
    body = []
    for row in rows:
        entry = row["summary"][f"hr@{K}"]
        body.append(
            [
                row["attack"],
                GROUPS[row["crafted_on"]],
                percent(entry["before"]["value"]),
                percent(entry["after"]["value"]),
                gain(entry["gain"]),
                change(row["against_all"]["after"]),
                change(row["against_union"]["after"]),
            ]
        )
    first = rows[0]
    empty = {row["attack"]: row["empty_intersections"] for row in rows}
    return [
        *table(header, body, left=2),
        "",
        f"FGSM on the undefended model, crafted on a part of the users and always measured on all. "
        f"U_v, U_t: the {first['rho']:.0%} of the users with the largest c_u^v, c_u^t (the paper "
        f"does not give rho) to the attack's own utility. Of {first['summary']['targets']} "
        "intersections, empty, so that the attack changes nothing: "
        + ", ".join(f"{name} {count}" for name, count in empty.items())
        + ".",
    ]


def _claims(rows: Rows) -> list[Claim]:
    readings = (
        ("against_all", ("union", "intersection"), "U_v u U_t or U_v n U_t", "all users"),
        ("against_union", ("visual", "textual"), "U_v or U_t alone", "U_v u U_t"),
    )
    claims = []
    for name_of_attack, g in UTILITIES.items():
        for against, named, some, others in readings:
            found = {
                row["crafted_on"]: row[against]["after"]
                for row in rows
                if row["attack"] == name_of_attack
            }
            claims.append(
                Claim(
                    "3.2",
                    f"Crafting on {some} promotes more than on {others} (g = {g}).",
                    verdict([found[name]["over_targets"] for name in named]),
                    f"HR@50 after, against {others}: "
                    + ", ".join(f"{GROUPS[name]} {change(found[name])}" for name in named),
                    "one of two readings: which sets the paper compares is lost in our text",
                )
            )
    return claims


def _draw(rows: Rows, folder: pathlib.Path) -> list[str]:
    first = rows[0]
    values: dict[str, dict[str, dict]] = {}
    for row in rows:
        entry = row["summary"][f"hr@{K}"]["after"]
        values.setdefault(row["attack"], {})[GROUPS[row["crafted_on"]]] = entry
    before = first["summary"][f"hr@{K}"]["before"]["value"]
    title = f"FGSM, {first['model'].upper()} on {first['dataset']['name']}"
    return [plots.groups(folder / "figure1.png", title, values, before)]


ARTEFACT = Artefact(
    name="figure1",
    title="Figure 1, Section 3.2: whom the attack is crafted on",
    trainings=lambda study: [UNDEFENDED],
    units=_units,
    section=_section,
    claims=_claims,
    draw=_draw,
)
