"""The comparison's figure: hit rates of the undefended models, before and after."""

import pathlib
from collections.abc import Sequence

import numpy as np

from experiments import plots
from experiments.study import UNDEFENDED
from experiments.victims.page import MOVING, Row, grouped, mean, most_moving


def draw(file: pathlib.Path, title: str, rows: Sequence[Row]) -> str:
    """Hit rates of the undefended models, before and after, by policy and threat.

    Args:
      file: to write.
      title: of the figure.
      rows: of one data set.
    """
    models = {v: of for (v, variant), of in grouped(rows).items() if variant == UNDEFENDED}
    threats = list(rows[0]["evaluation"]["threats"])
    series = [(policy, threat) for policy in MOVING for threat in threats]
    figure, axis = plots.pyplot().subplots(figsize=(7.2, 1.4 + 0.36 * len(models)))
    places = {victim: n for n, victim in enumerate(models)}
    for victim, policies in models.items():
        before = mean(most_moving(policies), "hr_before")
        axis.plot(before, places[victim], "|", color="black", markersize=14)
        for n, (policy, threat) in enumerate(series):
            found = [row["threats"].get(threat) for row in policies.get(policy, ())]
            if not found or any(of is None for of in found):
                continue
            height = places[victim] + 0.13 * (n - (len(series) - 1) / 2)
            colour = plots.COLOURS[n % len(plots.COLOURS)]
            after = np.mean([of["after"] for of in found])
            axis.plot(after, height, plots.MARKERS[n % len(plots.MARKERS)], color=colour)
            bounds = [of["budget_certificate"] for of in found]
            if all(bound is not None for bound in bounds):
                axis.plot([after, np.mean(bounds)], [height] * 2, "-", color=colour, linewidth=0.8)
    axis.plot([], [], "|", color="black", markersize=10, label="before (frozen)")
    for n, (policy, threat) in enumerate(series):
        colour, marker = (
            plots.COLOURS[n % len(plots.COLOURS)],
            plots.MARKERS[n % len(plots.MARKERS)],
        )
        axis.plot([], [], marker, color=colour, label=f"{policy}, {threat}")
    axis.plot([], [], "-", color="black", linewidth=0.8, label="up to its certificate")
    axis.set_yticks(list(places.values()), list(places))
    axis.invert_yaxis()
    axis.set_xscale("symlog", linthresh=1e-4)
    axis.set_xlim(left=0)
    axis.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    axis.set_xlabel(f"HR@{rows[0]['evaluation']['k']}")
    axis.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return plots.save(figure, file, title)
