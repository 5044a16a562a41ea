"""Curves over epochs, one panel a measure."""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.plots import BLUE, GREEN, GREY, ORANGE, PINK, pyplot, save

_COLOURS = (GREY, BLUE, GREEN, PINK, ORANGE)

# Of one training: (epoch, value) on the way, and of its best epoch.
Curve = tuple[Sequence[tuple[int, float]], tuple[int, float]]


def curves(
    file: pathlib.Path, title: str, panels: Mapping[str, Mapping[str, Sequence[Curve]]]
) -> str:
    """Every training's curve by measure, its best epoch as a dot.

    Args:
      file: to write.
      title: of the figure.
      panels: {measure: {training: a curve each training seed}}.
    """
    plt = pyplot()
    columns = -(-len(panels) // 2)
    heights = [1, 1, 0.08]  # the last row is the legend's
    figure, (*rows, below) = plt.subplots(3, columns, figsize=(9, 5), height_ratios=heights)
    axes = np.array(rows)
    for axis, (measure, by_training) in zip(axes.flat, panels.items(), strict=False):
        for colour, (name, some) in zip(_COLOURS, by_training.items(), strict=False):
            for n, (points, best) in enumerate(some):
                label = name if n == 0 else None
                axis.plot(*zip(*points, strict=True), color=colour, lw=1.2, alpha=0.8, label=label)
                axis.plot(*best, "o", color=colour, ms=5, mec="black", mew=0.6)
        axis.set_title(measure, fontsize=9)
    if "HR@50 gain" in panels:
        axes.flat[0].set_yscale("symlog", linthresh=0.1)
        axes.flat[0].yaxis.set_major_formatter(lambda value, _: f"{value:,.0%}")
    for axis in axes[-1]:
        axis.set_xlabel("epoch")
    for axis in below:
        axis.axis("off")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    style = {"loc": "center", "ncols": len(labels), "frameon": False, "fontsize": 8}
    below[columns // 2].legend(handles, labels, **style).set_in_layout(False)
    return save(figure, file, title)
