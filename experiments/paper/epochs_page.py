"""What the epochs of `epochs` say, in tables, claims and a figure."""

import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from experiments import plots_epochs
from experiments.paper.artefact import Artefact
from experiments.paper.epochs import CURVES, units
from experiments.paper.epochs_claims import (
    UAT,
    Won,
    best,
    best_tenth,
    by_variant,
    claims_of,
    last,
    of_pool,
    percent,
    shares_of_uat,
    won_of,
)
from experiments.study import UNDEFENDED, Rows
from uatmc_jax.report.text import table


def _span(values: Sequence[float], form: Callable[[float], str]) -> str:
    """The mean, and in brackets the range over training seeds; of how many, if not of all."""
    known = [v for v in values if np.isfinite(v)]
    if not known:
        return "undefined"
    text = form(float(np.mean(known)))
    text += f" [{form(min(known))}, {form(max(known))}]" if len(known) > 1 else ""
    return text + (f" ({len(known)} of {len(values)} seeds)" if len(known) < len(values) else "")


def _undefended(variants: dict[str, dict[int, Rows]]) -> Rows:
    """The pre-trained states, from which every variant starts."""
    return [one[0] for one in next(iter(variants.values())).values()]


def _section(rows: Rows) -> list[str]:
    variants = by_variant(rows)
    pools = list(dict.fromkeys(pool for row in rows for pool in row["attacked"]))
    header = ["training", "state", "epoch", "test Recall@20", *(f"gain, {p}" for p in pools)]
    header += ["contribution of content", "sensitivity", "cos of slopes", "length of slopes"]
    body = [_line("w/o AT", "", _undefended(variants), pools)]
    states = {"best": best, "best tenth": best_tenth, "last": last}
    if not any(row["epoch"] and row["epoch"] % 10 == 0 for row in rows):
        del states["best tenth"]
    for variant, by_seed in variants.items():
        for state, pick in states.items():
            body.append(_line(variant, state, [pick(one) for one in by_seed.values()], pools))
    seeds = sorted({row["seed"] for row in rows})
    cosine = np.mean([row["cosine_of_z"] for row in rows])
    attacked = [_attacked(rows, pool, seeds) for pool in pools]
    return [
        f"From one pre-trained state a training seed ({', '.join(map(str, seeds))}; the mean, in "
        "brackets the range; of how many seeds, where not of all), hardened as the config says, "
        "without the leak and with it. *Best* is the epoch of the best validation Recall@20, "
        '"the point of best performance"; *best tenth*, if there is one, the best of every tenth '
        "epoch, which are what the published code keeps. PGD as "
        f"published on {', '.join(attacked)}. Contribution: "
        "Recall@20 minus that with the catalogue's mean content in every item's place. "
        "Sensitivity: minus that with items' contents exchanged. Slopes: of the scores in z^v and "
        f"z^t. Mean cos(z^v, z^t): {cosine:.3f}.",
        "",
        *table(header, body, left=2),
        *_shares(variants, won_of(rows)),
        *_pools(variants, pools),
    ]


def _attacked(rows: Rows, pool: str, seeds: Sequence[int]) -> str:
    """How many targets of a pool, and under which training seeds, if not all."""
    there = [row for row in rows if pool in row["attacked"]]
    some = sorted({row["seed"] for row in there})
    only = "" if some == list(seeds) else f" (training seed {', '.join(map(str, some))} alone)"
    return f"{there[0]['attacked'][pool]['targets']} {pool}{only}"


def _line(variant: str, state: str, rows: Rows, pools: Sequence[str]) -> list[str]:
    def span(form: Callable[[float], str], of: Callable[[dict], float]) -> str:
        return _span([np.nan if of(row) is None else of(row) for row in rows], form)

    def number(digits: int) -> Callable[[float], str]:
        return lambda value: f"{value:.{digits}f}"

    return [
        variant,
        state,
        ", ".join(str(row["epoch"]) for row in rows),
        span(number(4), lambda row: row["test"]["recall@20"]),
        *(span(percent, lambda row, p=p: of_pool(row, p, "gain")) for p in pools),
        span(number(4), lambda row: row["contribution"]),
        span(number(4), lambda row: row["sensitivity"]),
        span(number(2), lambda row: row["slope_cosine"]),
        span(number(1), lambda row: row["slope_length"]),
    ]


def _shares(variants: dict[str, dict[int, Rows]], won: Won) -> list[str]:
    """Of every variant's trainings, against UAT's of the same seed at the same epochs."""
    seeds, body = sorted(variants.get(UAT, {})), []
    for variant in [name for name in variants if name != UAT]:
        cells = []
        for seed in seeds:
            found = shares_of_uat(variants[UAT][seed], variants[variant].get(seed, []), won)
            cells.append(f"{min(found)[0]:.2f} to {max(found)[0]:.2f}" if found else "")
        body.append([variant, *cells])
    if not seeds or not body:
        return []
    header = [f"{won.what}, of UAT's at the same epoch", *(f"seed {seed}" for seed in seeds)]
    return ["", *table(header, body)]


def _pools(variants: dict[str, dict[int, Rows]], pools: Sequence[str]) -> list[str]:
    if len(pools) < 2:
        return []
    name, first = next(iter(variants.items()))
    header = ["HR@50 before, %", *pools]
    body = [
        [
            label,
            *(
                _span([100 * of_pool(row, p, "before") for row in rows], lambda v: f"{v:.3f}")
                for p in pools
            ),
        ]
        for label, rows in (
            ("w/o AT", _undefended(variants)),
            (f"{name}, last epoch", [last(one) for one in first.values()]),
        )
    ]
    return [
        "",
        *table(header, body),
        "",
        "The published code's pool on Baby is a list of items in another numbering (of 936, 133 "
        "have 5 interactions; the median has 11), so of random items. The paper's HR before is "
        "0.667 %, that of a random item 50 / |I| = 0.709 %.",
    ]


def _draw(rows: Rows, folder: pathlib.Path) -> list[str]:
    variants = {name: some for name, some in by_variant(rows).items() if name in CURVES}
    won = won_of(rows)
    attacked = {
        "gain": ("HR@50 gain", won.of),
        "HR@50 won": ("HR@50 won, points", lambda row: 100 * won.of(row)),
    }
    measures: dict[str, Callable[[dict], float]] = dict([attacked[won.what]]) | {
        "validation Recall@20": lambda row: row["valid"]["recall@20"],
        "sensitivity to content": lambda row: row["sensitivity"],
        "contribution of content": lambda row: row["contribution"],
        "cos of slopes": lambda row: row["slope_cosine"],
        "length of slopes": lambda row: row["slope_length"],
    }
    panels: dict[str, dict[str, list]] = {
        measure: {
            variant: [
                (
                    [(row["epoch"], of(row)) for row in some if row["which"] != "best"],
                    (best(some)["epoch"], of(best(some))),
                )
                for some in by_seed.values()
            ]
            for variant, by_seed in variants.items()
        }
        for measure, of in measures.items()
    }
    first = rows[0]
    title = f"{first['model'].upper()} on {first['dataset']['name']}: dots where the best epoch is"
    return [plots_epochs.curves(folder / "epochs.png", title, panels)]


ARTEFACT = Artefact(
    name="epochs",
    title="Why: the adversarial stage epoch by epoch, with the published code's leak",
    trainings=lambda study: [],
    units=units,
    section=_section,
    claims=claims_of,
    draw=_draw,
    seeded=lambda study: [UNDEFENDED],
    part=lambda unit: unit.rpartition(" (")[0],  # a variant, under every training seed of its own
)
