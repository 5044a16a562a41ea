"""Figure 8: PGD step by step, with and without L_align, on one item and on average."""

import pathlib
from collections.abc import Callable

import numpy as np

from experiments import plots
from experiments.paper.artefact import FAILS, HOLDS, Artefact, Claim
from experiments.paper.effects import verdict
from experiments.paper.mismatch import scenes
from experiments.study import UNDEFENDED, Rows, Study, Unit, recorded
from experiments.variants import attack_seconds, attack_settings, measuring_unit
from uatmc_jax.analysis.trajectory import follow
from uatmc_jax.benchmark.run import options_of
from uatmc_jax.benchmark.summary import mean_with_interval
from uatmc_jax.report.text import percent, table
from uatmc_jax.settings import to_dict

K = 50


def _attacks(study: Study):
    aligned, elu = {"beta": study.plan.attack_beta}, {"utility": "elu", "margin": 0.0}
    return attack_settings(
        study,
        study.plan.grid_seeds,
        {
            "pgd": {"base": "pgd"},
            "pgd_aligned": {"base": "pgd", **aligned},
            "pgd_elu": {"base": "pgd", **elu},
            "pgd_elu_aligned": {"base": "pgd", **elu, **aligned},
        },
    )


def _case_item(study: Study, otherwise: int) -> tuple[int, str]:
    """The paper's item; in a data set without it, the first target."""
    for item, name in study.dataset.names.ids.items():
        if name == study.plan.case_item:
            return item, name
    return otherwise, f"item {otherwise}"


def _units(study: Study) -> list[Unit]:
    settings = _attacks(study)
    seeds = settings.seeds[:1]
    seconds = attack_seconds(study, 1, seeds, pgd=8)

    def run(tell: Callable[[float], None]) -> Rows:
        scene = next(scenes(study, settings))
        item, name = _case_item(study, int(scene.items[0]))
        items = np.concatenate([[item], scene.items]).astype(np.int32)
        rows, of_plain = [], None
        for done, (attack_name, chosen) in enumerate(settings.attacks.items(), start=1):
            options = options_of(settings)._replace(ks=(K,))
            found = follow(chosen, scene.victim, items, options)
            means = {
                key: values[1:, 1:].mean(axis=1)
                for key, values in (("coverage", found.hit_rates[..., 0]), ("cosine", found.cosine))
            }
            of_plain = of_plain if attack_name.endswith("_aligned") else means
            differences = {
                key: mean_with_interval(values - of_plain[key], settings.bootstrap)
                for key, values in means.items()
            }
            for of, part in ((name, slice(0, 1)), ("mean", slice(1, None))):
                rows.append(
                    {
                        "variant": UNDEFENDED,
                        "attack": attack_name,
                        "of": of,
                        "items": items[part].tolist() if of != "mean" else len(items) - 1,
                        "seeds": [scene.seed],
                        "threat_model": to_dict(chosen),
                        "coverage": found.hit_rates[part, :, 0].mean(axis=0).tolist(),
                        "cosine": found.cosine[part].mean(axis=0).tolist(),
                        "utility": found.utility[part].mean(axis=0).tolist(),
                        **({"over_plain": differences} if of == "mean" else {}),
                    }
                )
            tell(done / len(settings.attacks))
        return rows

    plan = recorded(settings) | {"case_item": study.plan.case_item}
    return [measuring_unit(study, "figure8/steps", [UNDEFENDED], plan, seconds, run)]


def _section(rows: Rows) -> list[str]:
    header = ["of", "attack", "coverage before", "after 1", "after 5", "at the end"]
    header += ["cosine before", "after 1", "after 5", "at the end"]
    body = []
    for row in sorted(rows, key=lambda r: r["of"] == "mean"):
        places = (0, 1, min(5, len(row["coverage"]) - 1), -1)
        body.append(
            [
                row["of"] if row["of"] != "mean" else f"mean of {row['items']} targets",
                row["attack"],
                *(percent(row["coverage"][n]) for n in places),
                *(f"{row['cosine'][n]:+.3f}" for n in places),
            ]
        )
    return [
        *table(header, body, left=2),
        "",
        "Coverage is HR@50; the cosine is that of Phi's visual and textual gradients there.",
    ]


def _claims(rows: Rows) -> list[Claim]:
    claims = []
    case = next(row["of"] for row in rows if row["of"] != "mean")
    for ending, g in (("", "hinge"), ("_elu", "elu")):
        for of in (case, "mean"):
            plain, aligned = (
                next(r for r in rows if r["of"] == of and r["attack"] == f"pgd{ending}{more}")
                for more in ("", "_aligned")
            )
            keys = ("coverage", "cosine", "utility")
            same = all(plain[key] == aligned[key] for key in keys)
            # Averages over the iterates after the first, where the two can differ.
            cosines, coverages = (
                [float(np.mean(row[key][1:])) for row in (plain, aligned)]
                for key in ("cosine", "coverage")
            )
            decided = HOLDS if cosines[1] > cosines[0] and coverages[1] > coverages[0] else FAILS
            shown = (
                f"averaged over the steps: cosine {cosines[0]:+.3f} without, {cosines[1]:+.3f} "
                f"with; coverage {percent(coverages[0])} without, {percent(coverages[1])} with"
            )
            if of == "mean":
                ends = {key: entry["over_targets"] for key, entry in aligned["over_plain"].items()}
                decided = verdict(list(ends.values()))
                coverage, cosine = (f"[{low:+.4f}, {high:+.4f}]" for low, high in ends.values())
                shown += f"; intervals of the differences: coverage {coverage}, cosine {cosine}"
            claims.append(
                Claim(
                    "B.4",
                    "With L_align the gradients' cosine stays higher and coverage grows faster "
                    f"(g = {g}, {'mean of the targets' if of == 'mean' else of}).",
                    decided,
                    shown,
                    "the two runs are identical" if same else "one item" if of != "mean" else "",
                )
            )
    return claims


def _draw(rows: Rows, folder: pathlib.Path) -> list[str]:
    first = rows[0]
    title = f"{first['model'].upper()} on {first['dataset']['name']}"
    series = {(r["of"], r["attack"]): (r["coverage"], r["cosine"]) for r in rows}
    return [plots.steps(folder / "figure8.png", title, series)]


ARTEFACT = Artefact(
    name="figure8",
    title="Figure 8: a case study, step by step",
    trainings=lambda study: [UNDEFENDED],
    units=_units,
    section=_section,
    claims=_claims,
    draw=_draw,
)
