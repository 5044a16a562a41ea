"""What robustness costs on items like those attacked: a figure of finished audits.

    python -m experiments.tail_front --audits runs/audit_baby,runs/audit_shop --out tail_front.png

A panel an audit. Across: what content contributes to the hit rate on held-out test interactions
with items as popular as those attacked, as a share of the audited model's, with its interval over
users where the audited model's stands for 100 %. Up: the gain in HR@K that is left to the suite,
as a share of the audited model's. Good is the corner below to the right, which is shaded.
"""

import argparse
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from experiments.plots import BLUE, GREEN, GREY, pyplot
from uatmc_jax import store
from uatmc_jax.cli import Parser, start_parsed
from uatmc_jax.errors import InputError

KEPT, LEFT = 0.9, 0.25


class Point(NamedTuple):
    """A model, as shares of the audited one's.

    Attributes:
      name: of the entry.
      contribution: of content, on the attacked range.
      interval: of it, over users.
      hits: on the same interactions.
      reach: gain in HR@K under the suite.
    """

    name: str
    contribution: float
    interval: tuple[float, float]
    hits: float
    reach: float

    @property
    def holds(self) -> bool:
        """Whether it lies in the corner asked for."""
        return min(self.contribution, self.hits) >= KEPT and self.reach <= LEFT


def points_of(audit: Mapping[str, Any]) -> list[Point]:
    """The audit's models.

    Args:
      audit: of audit.json.

    Raises:
      InputError: too few such interactions, or content contributes nothing there beyond chance.
    """

    def measured(entry: Mapping) -> tuple[Mapping, float]:
        rates = entry["verdict"]["suite"][f"hr@{audit['k']}"]
        gain = rates["after"]["value"] - rates["before"]["value"]
        return entry["content"]["test"]["attacked"], gain

    content, gained = measured(audit["entries"][0])
    clear = content["contribution"] and content["contribution"]["over_users"][0] > 0
    if not clear or gained <= 0:
        raise InputError(
            f"the audit of {audit['dataset']['name']}: content contributes nothing beyond chance "
            "on items like those attacked, or no attack gains anything, so there are no shares. "
            "Leave it out."
        )
    whole = content["contribution"]["value"]
    points = []
    for entry in audit["entries"]:
        own, gain = measured(entry)
        low, high = own["contribution"]["over_users"]
        points.append(
            Point(
                "audited" if entry["name"] == "victim" else entry["name"],
                own["contribution"]["value"] / whole,
                (low / whole, high / whole),
                own["hits"]["own"] / content["hits"]["own"],
                gain / gained,
            )
        )
    return points


def draw(file: pathlib.Path, audits: Sequence[Mapping[str, Any]]) -> None:
    """Writes the figure.

    Args:
      file: to write.
      audits: each of an audit.json.
    """
    plt = pyplot()
    size = 4.2 * len(audits), 3.6
    figure, row = plt.subplots(1, len(audits), figsize=size, sharey=True, squeeze=False)
    for axes, audit in zip(row[0], audits, strict=True):
        points = sorted(points_of(audit), key=lambda point: point.reach)
        axes.fill_between([100 * KEPT, 1000], -6, 100 * LEFT, color=GREEN, alpha=0.15, linewidth=0)
        for n, point in enumerate(points):
            low, high = point.interval
            colour = GREEN if point.holds else BLUE if point.reach < 1 else GREY
            x, y = 100 * point.contribution, 100 * point.reach
            axes.plot([100 * low, 100 * high], [y, y], color=colour, linewidth=0.8, alpha=0.4)
            axes.plot(x, y, "o", color=colour, markersize=5)
            above = (4, 4) if n % 2 else (4, -10)
            axes.annotate(point.name, (x, y), above, textcoords="offset points", fontsize=7)
        content = audit["entries"][0]["content"]["test"]["attacked"]
        axes.set(
            title=f"{audit['dataset']['name']}, {content['interactions']:,} interactions",
            xlabel="contribution of content left, %",
            xlim=(40, 160),
            ylim=(-6, 115),
        )
    row[0][0].set_ylabel(f"gain in HR@{audits[0]['k']} left, %")
    figure.tight_layout()
    figure.savefig(file, dpi=150)
    plt.close(figure)


def main(argv: list[str] | None = None) -> NoReturn:
    """Audits in, a figure out."""
    parser = Parser(prog="python -m experiments.tail_front", description=__doc__)
    parser.add_argument("--audits", required=True, help="folders of finished audits, with commas")
    parser.add_argument("--out", type=pathlib.Path, default="tail_front.png", help="the figure")
    start_parsed(parser, _run, "the same command draws it again", argv)


def _run(arguments: argparse.Namespace) -> None:
    audits = [
        store.read_json(pathlib.Path(folder) / "audit.json", "entries", "k", remedy="Audit again")
        for folder in arguments.audits.split(",")
    ]
    draw(arguments.out, audits)
    for audit in audits:
        for point in points_of(audit):
            print(json.dumps({"data": audit["dataset"]["name"], **point._asdict()}))


if __name__ == "__main__":
    main()
