"""Tables 4 and 5, Figure 5: training budget against attack budget, FGSM with and w/o L_align."""

import itertools
import pathlib

from experiments import plots
from experiments.paper import numbers
from experiments.paper.artefact import FAILS, HOLDS, Artefact, Claim
from experiments.study import (
    UNDEFENDED,
    Rows,
    Study,
    Unit,
    attack_seconds,
    attack_settings,
    attack_variant,
    measuring_unit,
    sweep,
)
from uatmc_jax.report.text import gain, table
from uatmc_jax.settings import to_dict

TABLES = {"fgsm": numbers.TABLE_4, "fgsm_aligned": numbers.TABLE_5}
K = 50


def _trained(study: Study) -> dict[float, str]:
    """{training budget: variant}; 0 is w/o AT."""
    return {0.0: UNDEFENDED} | sweep(study, "eps")


def _units(study: Study) -> list[Unit]:
    aligned = {"fgsm": {}, "fgsm_aligned": {"beta": study.plan.attack_beta}}
    attacks = {
        f"{name}_{eps:g}": {"base": "fgsm", "eps": eps, **more}
        for (name, more), eps in itertools.product(aligned.items(), study.plan.eps)
    }
    settings = attack_settings(study, study.plan.grid_seeds, attacks)
    seconds = attack_seconds(study, 1, study.plan.grid_seeds, fgsm=len(attacks))

    def run(budget: float, variant: str) -> Rows:
        return [
            {"training_budget": budget, **row}
            for row in attack_variant(study, variant, settings)[0]
        ]

    return [
        measuring_unit(
            study,
            f"table4/{budget:g}",
            [variant],
            to_dict(settings),
            seconds,
            lambda tell, budget=budget, variant=variant: run(budget, variant),
        )
        for budget, variant in _trained(study).items()
    ]


def _grid(rows: Rows, name: str) -> dict[tuple[float, float], dict]:
    """{(training budget, attack budget): row} of one attack."""
    return {
        (r["training_budget"], r["threat_model"]["eps"]): r
        for r in rows
        if r["attack"].rpartition("_")[0] == name
    }


def _gain(row: dict) -> dict:
    return row["summary"][f"hr@{K}"]["gain"]


def _section(rows: Rows) -> list[str]:
    lines = []
    first = rows[0]
    for number, (name, paper) in enumerate(TABLES.items(), start=4):
        grid = _grid(rows, name)
        budgets = sorted({attack for _, attack in grid})
        body = []
        for trained in sorted({trained for trained, _ in grid}):
            theirs = paper.get((first["dataset"]["name"], first["model"], trained))
            cells = [f"{trained:.1%}" if trained else "w/o AT"]
            for attack in budgets:
                text = gain(_gain(grid[trained, attack]))
                if theirs and attack in numbers.BUDGETS:
                    text += f" (paper {theirs[numbers.BUDGETS.index(attack)]:,.0f}%)"
                cells.append(text)
            row = grid[trained, budgets[-1]]
            cells += [f"{row['test']['recall@10']:.4f}", f"{row['content']['content_utility']:.4f}"]
            body.append(cells)
        header = ["training budget", *(f"attack {b:.1%}" for b in budgets)]
        header += ["Recall@10", "content utility"]
        what = "with" if name == "fgsm_aligned" else "without"
        lines += [f"Table {number}: HR@50 gain under FGSM {what} L_align.", ""]
        lines += [*table(header, body), ""]
    return lines[:-1]


def _claims(rows: Rows) -> list[Claim]:
    claims = []
    for name in TABLES:
        grid = _grid(rows, name)
        trained = sorted({t for t, _ in grid})
        budgets = sorted({a for _, a in grid})
        steps = [
            (_gain(grid[low, a])["value"], _gain(grid[high, a])["value"])
            for low, high in itertools.pairwise(trained)
            for a in budgets
        ]
        known = [(x, y) for x, y in steps if x is not None and y is not None]
        falls = sum(y <= x for x, y in known)
        strongest = budgets[-1]
        ends = [gain(_gain(grid[t, strongest])) for t in (trained[0], trained[-1])]
        claims.append(
            Claim(
                "5.3, B.3",
                f"A larger training budget consistently lowers the gain ({name}).",
                HOLDS if known and falls == len(steps) else FAILS,
                f"it falls in {falls} of {len(steps)} steps from one training budget to the next; "
                f"at attack budget {strongest:.1%} from {ends[0]} (w/o AT) to {ends[1]} "
                f"(training budget {trained[-1]:.1%})",
            )
        )
    return claims


def _draw(rows: Rows, folder: pathlib.Path) -> list[str]:
    first = rows[0]
    values = {
        name: {place: _gain(row)["value"] for place, row in _grid(rows, name).items()}
        for name in TABLES
    }
    title = f"{first['model'].upper()} on {first['dataset']['name']}: HR@50 gain"
    return [plots.grids(folder / "figure5.png", title, values)]


ARTEFACT = Artefact(
    name="table4",
    title="Tables 4 and 5, Figure 5: training budget against attack budget",
    trainings=lambda study: list(_trained(study).values()),
    units=_units,
    section=_section,
    claims=_claims,
    draw=_draw,
)

if __name__ == "__main__":
    from experiments import reproduce

    reproduce.run_alone(ARTEFACT)
