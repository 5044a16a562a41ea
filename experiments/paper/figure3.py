"""Figures 3 and 7: how far the users behind the two modalities' gradients overlap."""

import pathlib
from collections.abc import Callable

import numpy as np

from experiments import plots
from experiments.paper.artefact import FAILS, HOLDS, Artefact, Claim
from experiments.paper.mismatch import UTILITIES, analysed, mismatch_of, scenes
from experiments.study import UNDEFENDED, Rows, Study, Unit, attack_seconds, measuring_unit
from uatmc_jax.analysis.mismatch import jaccard, top_users
from uatmc_jax.attacks.results import mean_with_interval
from uatmc_jax.report.text import table
from uatmc_jax.settings import to_dict


def _units(study: Study) -> list[Unit]:
    settings, plan = analysed(study), study.plan
    seconds = attack_seconds(study, 1, plan.grid_seeds, fgsm=6)

    def run(tell: Callable[[float], None]) -> Rows:
        overlaps: dict[tuple[str, float], list[float]] = {}
        cosines: dict[str, list[float]] = {}
        for done, scene in enumerate(scenes(study, settings), start=1):
            for name in UTILITIES:
                found = mismatch_of(study, scene, name)
                cosines.setdefault(name, []).extend(found.cosine.tolist())
                for rho in plan.rhos:
                    sets = top_users(found.contributions, rho)
                    some = overlaps.setdefault((name, rho), [])
                    some += jaccard(sets[:, 0], sets[:, 1]).tolist()
            tell(done / len(settings.seeds))
        return [
            {
                "variant": UNDEFENDED,
                "attack": name,
                "rho": rho,
                "seeds": list(settings.seeds),
                "threat_model": to_dict(settings)["attacks"][name],
                "jaccard": mean_with_interval(values, plan.bootstrap),
                # Two independent sets of this share overlap by rho^2, their union is 2 rho - rho^2.
                "by_chance": rho / (2 - rho),
                "values": [round(value, 4) for value in values],
                "cosine": mean_with_interval(cosines[name], plan.bootstrap),
            }
            for (name, rho), values in overlaps.items()
        ]

    given = to_dict(settings) | {"rhos": list(plan.rhos)}
    return [measuring_unit(study, "figure3/jaccard", [UNDEFENDED], given, seconds, run)]


def _interval(entry: dict) -> str:
    low, high = entry["over_targets"]
    return f"{entry['value']:.3f} [{low:.3f}, {high:.3f}]"


def _section(rows: Rows) -> list[str]:
    header = ["g", "rho", "mean Jaccard of U_v and U_t", "two random sets"]
    header += ["5 % to 95 % of targets", "cos(g^v, g^t)"]
    body = [
        [
            UTILITIES[row["attack"]],
            f"{row['rho']:.0%}",
            _interval(row["jaccard"]),
            f"{row['by_chance']:.3f}",
            " to ".join(f"{q:.3f}" for q in np.quantile(row["values"], (0.05, 0.95))),
            _interval(row["cosine"]),
        ]
        for row in rows
    ]
    return [*table(header, body), "", f"{len(rows[0]['values'])} targets, at the clean content."]


def _claims(rows: Rows) -> list[Claim]:
    claims = []
    for name, g in UTILITIES.items():
        mine = [row for row in rows if row["attack"] == name]
        middle = min(mine, key=lambda row: abs(row["rho"] - 0.1))
        highs = [row["jaccard"]["over_targets"][1] for row in mine if row["rho"] <= 0.2]
        claims.append(
            Claim(
                "3.2, B.2",
                "The Jaccard similarity of U_v and U_t is low to moderate (below 0.5, rho up to "
                f"20 %; g = {g}).",
                HOLDS if highs and max(highs) < 0.5 else FAILS,
                f"mean {_interval(middle['jaccard'])} at rho = {middle['rho']:.0%}, where two "
                f"random sets have {middle['by_chance']:.3f}; cos(g^v, g^t) "
                f"{_interval(middle['cosine'])}",
                "the paper gives neither rho nor, in the text we have, its range",
            )
        )
    return claims


def _draw(rows: Rows, folder: pathlib.Path) -> list[str]:
    first = rows[0]
    values: dict[str, dict[float, tuple[list[float], float]]] = {}
    for row in rows:
        by_rho = values.setdefault(UTILITIES[row["attack"]], {})
        by_rho[row["rho"]] = row["values"], row["by_chance"]
    title = f"{first['model'].upper()} on {first['dataset']['name']}"
    return [plots.overlaps(folder / "figure3.png", title, values)]


ARTEFACT = Artefact(
    name="figure3",
    title="Figures 3 and 7: overlap of the users behind the gradients",
    trainings=lambda study: [UNDEFENDED],
    units=_units,
    section=_section,
    claims=_claims,
    draw=_draw,
)

if __name__ == "__main__":
    from experiments import reproduce

    reproduce.run_alone(ARTEFACT)
