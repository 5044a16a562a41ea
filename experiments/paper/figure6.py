"""Figures 6, 9 and 10: what lambda and beta buy, NDCG@10 against the gain under PGD."""

import pathlib
from collections.abc import Sequence

import numpy as np

from experiments import content, plots
from experiments.paper.artefact import UNDECIDED, UNTESTED, Artefact, Claim
from experiments.paper.effects import gains_or_points
from experiments.paper.trainings import sweep
from experiments.study import Rows, Study, Unit, recorded
from experiments.variants import attack_seconds, attack_settings, attack_variant, measuring_unit
from uatmc_jax.report.text import promoted, table

SWEEPS = {"lam": "lambda", "beta": "beta"}
K = 50


def _units(study: Study) -> list[Unit]:
    settings = attack_settings(study, study.plan.grid_seeds, {"pgd": {"base": "pgd"}})
    seconds = attack_seconds(study, 1, study.plan.grid_seeds, pgd=1)

    def run(field: str, value: float, variant: str) -> Rows:
        rows, _ = attack_variant(study, variant, settings)
        return [{"swept": field, "value": value, **row} for row in rows]

    return [
        measuring_unit(
            study,
            f"figure6/{field}_{value:g}",
            [variant],
            recorded(settings) | {"swept": field, "value": value},
            seconds,
            lambda tell, given=(field, value, variant): run(*given),
        )
        for field in SWEEPS
        for value, variant in sweep(study, field).items()
    ]


def _along(rows: Rows, field: str) -> Rows:
    return sorted((r for r in rows if r["swept"] == field), key=lambda r: r["value"])


def _won(swept: Rows) -> tuple[str, list[dict]]:
    return gains_or_points([row["summary"][f"hr@{K}"] for row in swept])


def _section(rows: Rows) -> list[str]:
    lines = []
    for field, name in SWEEPS.items():
        body = [
            [
                f"{r['value']:g}",
                promoted(r["summary"][f"hr@{K}"]),
                f"{r['test']['ndcg@10']:.4f}",
                f"{r['test']['recall@10']:.4f}",
                *content.cells(r["content"]),
            ]
            for r in _along(rows, field)
        ]
        header = [name, "HR@50 gain, PGD", "NDCG@10", "Recall@10", *content.HEADER]
        lines += [*table(header, body), ""]
    return lines[:-1]


def _claims(rows: Rows) -> list[Claim]:
    claims = []
    for field, name in SWEEPS.items():
        swept = _along(rows, field)
        scores = [r["test"]["ndcg@10"] for r in swept]
        text = (
            f"Along {name}, better NDCG@10 comes with a higher gain (rank correlation above 0.5)."
        )
        shown = f"NDCG@10 {min(scores):.4f} to {max(scores):.4f}"
        claims.append(_ranked(("5.3, B.1", text), swept, scores, shown, 1))
    # Not the paper's, but what its tuning of beta rests on.
    swept = _along(rows, "beta")
    text = (
        "The more coordination weighs, the lower the gain (rank correlation with beta below -0.5)."
    )
    values = [r["value"] for r in swept]
    shown = f"beta {min(values):g} to {max(values):g}"
    return [*claims, _ranked(("beyond B.1", text), swept, values, shown, -1)]


def _ranked(
    claim: tuple[str, str], swept: Rows, by: Sequence[float], shown: str, sign: int
) -> Claim:
    """That what is won goes with another number along a sweep, or against it (`sign` -1).

    Of one training seed, which another could overturn: its points speak for it or against it.
    """
    measure, entries = _won(swept)
    values = [entry["value"] for entry in entries]
    if len(swept) < 4 or None in values:
        why = "too few" if len(swept) < 4 else "some gains are not defined"
        return Claim(*claim, UNTESTED, f"{len(swept)} points", why)
    rho = rank_correlation(np.array(values), np.array(by))
    what = "gain" if measure == "gain" else "HR@50 won (some gains are not always defined)"
    digits = 1 if measure == "gain" else 3
    evidence = (
        f"rank correlation {rho:+.2f} over {len(swept)} points; {shown}, {what} "
        f"{min(values):,.{digits}%} to {max(values):,.{digits}%}"
    )
    way = "for" if sign * rho > 0.5 else "against"
    why = f"one training seed; its points speak {way} it"
    if _overlapping(swept):
        why += ", by differences smaller than the intervals, which are of the same targets"
    return Claim(*claim, UNDECIDED, evidence, why)


def _overlapping(swept: Rows) -> bool:
    """Whether all intervals overlap, of the gain and, where it is there, of the hit rate won."""
    summaries = [row["summary"][f"hr@{K}"] for row in swept]
    for of in ("gain", "points"):
        ends = [end for one in summaries if of in one for end in one[of]["over_targets"]]
        if ends and None not in ends and max(ends[0::2]) > min(ends[1::2]):
            return False
    return True


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's, equal values sharing their mean rank; 0 if one of them never changes."""

    def ranks(values: np.ndarray) -> np.ndarray:
        below = (values[:, None] > values).sum(axis=1)
        return below + (values[:, None] == values).sum(axis=1) / 2

    a, b = ranks(x), ranks(y)
    return float(np.corrcoef(a, b)[0, 1]) if a.std() and b.std() else 0.0


def _draw(rows: Rows, folder: pathlib.Path) -> list[str]:
    first = rows[0]
    series = {}
    for field, name in SWEEPS.items():
        swept = _along(rows, field)
        measure, entries = _won(swept)
        label = f"HR@{K} gain under PGD, %" if measure == "gain" else f"HR@{K} won by PGD, points"
        points = [
            (row["value"], entry["value"], row["test"]["ndcg@10"])
            for row, entry in zip(swept, entries, strict=True)
        ]
        series[name] = label, points
    title = f"UAT-MC, {first['model'].upper()} on {first['dataset']['name']}"
    return [plots.sweeps(folder / "figure6.png", title, series)]


ARTEFACT = Artefact(
    name="figure6",
    title="Figures 6, 9, 10: lambda and beta",
    trainings=lambda study: [v for field in SWEEPS for v in sweep(study, field).values()],
    units=_units,
    section=_section,
    claims=_claims,
    draw=_draw,
)
