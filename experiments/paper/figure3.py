"""Figures 3 and 7: how far the users behind the two modalities' gradients overlap."""

import pathlib
from collections.abc import Callable

import numpy as np

from experiments import plots
from experiments.paper.artefact import UNTESTED, Artefact, Claim
from experiments.paper.effects import verdict
from experiments.paper.mismatch import UTILITIES, analysed, mismatch_of, scenes
from experiments.study import UNDEFENDED, Rows, Study, Unit, recorded
from experiments.variants import attack_seconds, measuring_unit
from uatmc_jax.analysis.mismatch import jaccard, top_users
from uatmc_jax.benchmark.summary import mean_with_interval
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
                "jaccard": mean_with_interval([v for v in values if v == v], plan.bootstrap),
                "undefined": sum(v != v for v in values),
                # Two independent sets of this share overlap by rho^2, their union is 2 rho - rho^2.
                "by_chance": rho / (2 - rho),
                "values": [round(v, 4) for v in values if v == v],
                "cosine": mean_with_interval(cosines[name], plan.bootstrap),
            }
            for (name, rho), values in overlaps.items()
        ]

    given = recorded(settings) | {"rhos": list(plan.rhos)}
    return [measuring_unit(study, "figure3/jaccard", [UNDEFENDED], given, seconds, run)]


def _interval(entry: dict) -> str:
    if entry["value"] is None:
        return "undefined"
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
            " to ".join(f"{q:.3f}" for q in np.quantile(row["values"], (0.05, 0.95)))
            if row["values"]
            else "undefined",
            _interval(row["cosine"]),
        ]
        for row in rows
    ]
    first = rows[0]
    targets = len(first["values"]) + first["undefined"]
    undefined = max(row["undefined"] for row in rows)
    text = f"{targets} targets, at the clean content."
    text += f" Up to {undefined} have no user behind either gradient." if undefined else ""
    return [*table(header, body), "", text]


def _claims(rows: Rows) -> list[Claim]:
    claims = []
    for name, g in UTILITIES.items():
        mine = [row for row in rows if row["attack"] == name]
        middle = min(mine, key=lambda row: abs(row["rho"] - 0.1))
        intervals = [row["jaccard"]["over_targets"] for row in mine if row["rho"] <= 0.2]
        below = [[None if e is None else 0.5 - e for e in reversed(ends)] for ends in intervals]
        claims.append(
            Claim(
                "3.2, B.2",
                "The Jaccard similarity of U_v and U_t is low to moderate (below 0.5, rho up to "
                f"20 %; g = {g}).",
                verdict(below) if below else UNTESTED,
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
