"""Tables 4 and 5, Figure 5: training budget against attack budget, FGSM with and w/o L_align."""

import itertools
import pathlib
from collections.abc import Callable

from experiments import content, plots
from experiments.paper import numbers
from experiments.paper.artefact import FAILS, HOLDS, Artefact, Claim
from experiments.paper.effects import decided, on_gain_or_points, reversed_effect
from experiments.paper.trainings import sweep
from experiments.study import CONTROL, UNDEFENDED, Rows, Study, Unit, recorded
from experiments.variants import attack_seconds, attack_settings, attack_trainings, measuring_unit
from uatmc_jax.benchmark.summary import compare
from uatmc_jax.report.text import promoted, table
from uatmc_jax.settings import AttackRunSettings

TABLES = {"fgsm": numbers.TABLE_4, "fgsm_aligned": numbers.TABLE_5}
K = 50


def _trained(study: Study) -> dict[str, tuple[float, str]]:
    """{label: (training budget, variant)}, weakest first."""
    budgets = {f"{eps:.1%}": (eps, variant) for eps, variant in sweep(study, "eps").items()}
    return {"w/o AT": (0.0, UNDEFENDED), "w/o AT, trained on": (0.0, CONTROL)} | budgets


def _name(attack: str, eps: float) -> str:
    return f"{attack}_{eps:g}"


def _attacks(study: Study) -> AttackRunSettings:
    more = {"fgsm": {}, "fgsm_aligned": {"beta": study.plan.attack_beta}}
    attacks = {
        _name(attack, eps): {"base": "fgsm", "eps": eps, **fields}
        for (attack, fields), eps in itertools.product(more.items(), study.plan.eps)
    }
    return attack_settings(study, study.plan.grid_seeds, attacks)


def _units(study: Study) -> list[Unit]:
    settings = _attacks(study)
    plan = recorded(settings)
    n, grid = len(study.seeds), study.plan.grid_seeds
    seconds = attack_seconds(study, n, grid, fgsm=len(settings.attacks))

    def run(label: str, budget: float, variant: str) -> Rows:
        rows, _ = attack_trainings(study, variant, settings)
        return [{"trained": label, "training_budget": budget, **row} for row in rows]

    trained = _trained(study)
    units = [
        measuring_unit(
            study,
            f"table4/{variant}",
            [variant],
            plan,
            seconds,
            lambda tell, given=(label, budget, variant): run(*given),
            trainings=True,
        )
        for label, (budget, variant) in trained.items()
    ]
    variants = [variant for _, variant in trained.values()]
    return [
        *units,
        measuring_unit(
            study,
            "table4/comparisons",
            variants,
            plan,
            15.0,
            lambda tell: _compare(study, tell),
            trainings=True,
        ),
    ]


def _compare(study: Study, tell: Callable[[float], None]) -> Rows:
    """Each training budget against the one below it, from training on without a defence."""
    settings, found = _attacks(study), {}
    trained = list(_trained(study).items())[1:]
    for n, (label, (_, variant)) in enumerate(trained, start=1):
        found[label] = attack_trainings(study, variant, settings)[1]
        tell(n / len(trained))
    return [
        {
            "lower": lower,
            "higher": higher,
            "attacked_by": attack,
            "seeds": list(settings.seeds),
            "differences": compare(
                found[lower][attack], found[higher][attack], K, settings.bootstrap
            ),
        }
        for lower, higher in itertools.pairwise(found)
        for attack in settings.attacks
    ]


def _grid(rows: Rows, name: str) -> dict[tuple[str, float], dict]:
    """{(label, attack budget): row} of one attack."""
    return {
        (r["trained"], r["threat_model"]["eps"]): r
        for r in rows
        if "attack" in r and r["attack"].rpartition("_")[0] == name
    }


def _promoted(row: dict) -> str:
    return promoted(row["summary"][f"hr@{K}"])


def _section(rows: Rows) -> list[str]:
    lines = []
    for number, (name, paper) in enumerate(TABLES.items(), start=4):
        grid = _grid(rows, name)
        budgets = sorted({attack for _, attack in grid})
        body = []
        for label in dict.fromkeys(label for label, _ in grid):
            row = grid[label, budgets[-1]]
            key = row["dataset"]["name"], row["model"], row["training_budget"]
            theirs = paper.get(key) if row["variant"] != CONTROL else None
            cells = [label]
            for attack in budgets:
                text = _promoted(grid[label, attack])
                if theirs and attack in numbers.BUDGETS:
                    text += f" ({theirs[numbers.BUDGETS.index(attack)]:,g})"
                cells.append(text)
            cells += [f"{row['test']['recall@10']:.4f}", *content.cells(row["content"])]
            body.append(cells)
        header = ["training budget", *(f"attack {b:.1%}" for b in budgets)]
        header += ["Recall@10", *content.HEADER]
        what = "with" if name == "fgsm_aligned" else "without"
        lines += [
            f"Table {number}: HR@50 gain under FGSM {what} L_align; in parentheses the paper's.",
            "",
        ]
        lines += [*table(header, body), ""]
    return lines[:-1]


def _claims(rows: Rows) -> list[Claim]:
    claims = []
    for name in TABLES:
        grid = _grid(rows, name)
        labels = list(dict.fromkeys(label for label, _ in grid))
        strongest = max(attack for _, attack in grid)
        steps = [
            on_gain_or_points(r["differences"])
            for r in rows
            if "lower" in r and r["attacked_by"].rpartition("_")[0] == name
        ]
        down = [reversed_effect(entry) for entry in steps]
        sure = sum(decided([entry]) == HOLDS for entry in down)
        up = sum(decided([entry]) == FAILS for entry in down)
        by_points = sum("of" in entry for entry in steps)
        claims.append(
            Claim(
                "5.3, B.3",
                f"A larger training budget consistently lowers the gain ({name}).",
                decided(down),
                f"of {len(steps)} steps from one training budget to the next, paired by target, "
                f"{sure} lower the gain, {up} do not, {len(steps) - sure - up} are not decided; at "
                f"attack budget {strongest:.1%} it goes from "
                + " over ".join(_promoted(grid[label, strongest]) for label in labels[:2])
                + f" ({', '.join(labels[:2])}) to {_promoted(grid[labels[-1], strongest])} "
                f"({labels[-1]})",
                f"{by_points} of the steps by the hit rate won, as their gain is not always defined"
                if by_points
                else "",
            )
        )
    return claims


def _draw(rows: Rows, folder: pathlib.Path) -> list[str]:
    first = rows[0]
    values = {
        name: {
            place: row["summary"][f"hr@{K}"]["gain"]["value"]
            for place, row in _grid(rows, name).items()
        }
        for name in TABLES
    }
    title = f"{first['model'].upper()} on {first['dataset']['name']}: HR@50 gain"
    return [plots.grids(folder / "figure5.png", title, values)]


ARTEFACT = Artefact(
    name="table4",
    title="Tables 4 and 5, Figure 5: training budget against attack budget",
    trainings=lambda study: [variant for _, variant in _trained(study).values()],
    units=_units,
    section=_section,
    claims=_claims,
    draw=_draw,
    seeded=lambda study: [variant for _, variant in _trained(study).values()],
)
