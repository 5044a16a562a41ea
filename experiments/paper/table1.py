"""Table 1: the data sets."""

from experiments.paper import numbers
from experiments.paper.artefact import Artefact, nothing_to_claim, nothing_to_draw
from experiments.study import Rows, Study, Unit
from uatmc_jax.data import statistics
from uatmc_jax.report.text import table


def _units(study: Study) -> list[Unit]:
    depends = {"data": study.dataset.fingerprint}
    return [Unit("table1/data", depends, 1.0, lambda tell: [{"counts": statistics(study.dataset)}])]


def _section(rows: Rows) -> list[str]:
    counts = rows[0]["counts"]
    users, items, total = counts["users"], counts["items"], counts["interactions"]["all"]
    ours = ["here", f"{users:,}", f"{items:,}", f"{total:,}", f"{counts['sparsity']:.3%}"]
    lines = [ours]
    if counts["name"] in numbers.TABLE_1:
        users, items, total, sparsity = numbers.TABLE_1[counts["name"]]
        lines.append(["paper", f"{users:,}", f"{items:,}", f"{total:,}", f"{sparsity}%"])
    return [
        *table(["", "users", "items", "interactions", "sparsity"], lines),
        "",
        f"{counts['items_with_5_interactions']:,} items have exactly 5 interactions, all splits "
        "counted: the pool the targets are drawn from.",
    ]


ARTEFACT = Artefact(
    name="table1",
    title="Table 1: the data",
    trainings=lambda study: [],
    units=_units,
    section=_section,
    claims=nothing_to_claim,
    draw=nothing_to_draw,
)
