"""Curves over epochs, one panel a measure."""

import pathlib
from collections.abc import Mapping, Sequence

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
    figure, axes = plt.subplots(2, -(-len(panels) // 2), figsize=(9, 5), sharex=True)
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
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False, fontsize=8)
    figure.subplots_adjust(bottom=0.19, hspace=0.3, wspace=0.3)
    return save(figure, file, title)
