"""The report's figures as inline SVG, drawn by matplotlib in the colours of the page.

A page may be light or dark, so a figure must not hold colours of its own: it is drawn in
stand-ins, which are then replaced by the style sheet's variables.
"""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# {stand-in: variable of the style sheet}; each occurs for nothing else.
_COLOURS = {
    "#010101": "var(--ink)",
    "#020202": "var(--soft)",
    "#030303": "var(--line)",
    "#040404": "var(--one)",
    "#050505": "var(--two)",
    "#060606": "var(--three)",
    "#070707": "var(--four)",
}
INK, SOFT, LINE, ONE, TWO, THREE, FOUR = _COLOURS
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: readable, searchable, in the page's font
    "svg.hashsalt": "uatmc",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
}
_SIZE = (5.2, 3.1)
# Largest over usual small value, from which an axis is logarithmic.
_WIDE = 30


def items_reached(rows: Sequence[Mapping], users: int, k: int) -> str:
    """Every attacked item: users with it in their list before and after, and the bound.

    Args:
      rows: the suite's, one a target.
      users: attacked.
      k: K of the lists.
    """
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure()
        by_k = str(k)
        order = sorted(rows, key=lambda row: row["hr_after"][by_k])
        before = np.array([row["hr_before"][by_k] for row in order]) * users
        after = np.array([row["hr_after"][by_k] for row in order]) * users
        x = np.arange(len(order))
        if "budget_certificate" in order[0]:
            bound = np.array([row["budget_certificate"][by_k] for row in order]) * users
            axes.step(x, bound, color=TWO, linewidth=1, where="mid", label="no attack exceeds")
        axes.vlines(x, before, after, color=LINE, linewidth=1)
        axes.plot(x, after, ".", color=ONE, markersize=4, label="under attack")
        axes.plot(x, before, ".", color=SOFT, markersize=3, label="as it is")
        axes.set(xlabel="attacked items, the most promotable to the right")
        axes.set_ylabel(f"users with it in their top {k}")
        _counts(axes, np.concatenate([before, after]))
        axes.grid(axis="x", visible=False)
        _legend(axes)
        return _svg(figure, "items")


def users_reached(
    histograms: Mapping[str, Sequence[int] | np.ndarray], targets: int, k: int
) -> str:
    """Into how many users' lists at least so many of the attacked items can be put.

    Args:
      histograms: {label: number of users with 0, 1, ... of the targets in their list}.
      targets: attacked items.
      k: K of the lists.
    """
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure()
        for (label, counts), colour in zip(
            histograms.items(), (SOFT, ONE, THREE, FOUR), strict=False
        ):
            counts = np.asarray(counts)
            share = counts[::-1].cumsum()[::-1] / counts.sum()
            at_least = np.arange(1, len(share))  # everyone has at least none
            axes.step(at_least, 100 * share[1:], where="post", color=colour, label=label)
        axes.set(xlabel=f"at least so many of the {targets} items in a user's top {k}")
        axes.set(ylabel="share of the users", ylim=(0, None))
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda v, _: f"{v:g}"))
        axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda v, _: f"{v:g} %"))
        _legend(axes)
        return _svg(figure, "users")


def utility_by_step(entries: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """The attack's utility along its steps: the median over the items, and a band.

    Args:
      entries: {label: (low, median, high), each (steps + 1,)}.
    """
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure()
        for (label, (low, middle, high)), colour in zip(
            entries.items(), (ONE, THREE, FOUR), strict=False
        ):
            steps = np.arange(len(middle))
            axes.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
            axes.plot(steps, middle, color=colour, marker="o", markersize=3, label=label)
        axes.set(xlabel="step of the attack", ylabel="promotion utility")
        axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
        _legend(axes)
        return _svg(figure, "steps")


def pareto(points: Mapping[str, tuple[float, float, float]], audited: str, k: int) -> str:
    """Accuracy against robustness, each model's use of content written beside it.

    Args:
      points: {label: (HR@K under attack, recall@20, content utility)}.
      audited: the label of the model audited.
      k: K of the hit rate.
    """
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(width=1.4)
        largest = max((abs(p[2]) for p in points.values()), default=0) or 1.0
        for label, (reached, recall, content) in points.items():
            colour = SOFT if label == audited else ONE
            size = 20 + 180 * max(content, 0.0) / largest
            axes.scatter(100 * reached, recall, s=size, color=colour, alpha=0.75, linewidth=0)
        _wide_scale(axes, "x", [100 * reached for reached, _, _ in points.values()])
        axes.margins(x=0.1, y=0.15)
        _name_points(axes, {f"{n} ({p[2]:.3f})": (100 * p[0], p[1]) for n, p in points.items()})
        axes.set(xlabel=f"average share of users reached under attack (top {k})")
        axes.set(ylabel="recall@20, test")
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda v, _: f"{v:g} %"))
        return _svg(figure, "pareto")


def certified(entries: Mapping[str, Sequence[float]], shown: Sequence[float]) -> str:
    """How many items' reach is certified to stay below each share of the users.

    Args:
      entries: {label: (items,) bound as a share of the users}.
      shown: (items,) share who have the item in their list as it is.
    """
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure()
        lines = {"as it is, no attack": shown, **entries}
        for (label, values), colour in zip(lines.items(), (SOFT, ONE, THREE, FOUR), strict=False):
            ordered = 100 * np.sort(values)
            share = 100 * np.arange(1, len(ordered) + 1) / len(ordered)
            axes.step(ordered, share, where="post", color=colour, label=label)
        _wide_scale(axes, "x", 100 * np.concatenate(list(map(np.asarray, lines.values()))))
        axes.set(xlabel="share of the users, at most", ylabel="items of any popularity")
        axes.set_ylim(0, 100)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(ticker.FuncFormatter(lambda v, _: f"{v:g} %"))
        _legend(axes)
        return _svg(figure, "certified")


def _figure(width: float = 1.0) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width * _SIZE[0], _SIZE[1]), layout="constrained")
    return figure, figure.add_subplot()


def _legend(axes: Axes) -> None:
    """Above the axes, where nothing is drawn."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2)


def _name_points(axes: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    """Names beside the axes, one above the other in the points' order, with lines to them."""
    order = sorted(points, key=lambda name: points[name][1])
    for height, name in zip(np.linspace(0.05, 0.95, len(order)), order, strict=True):
        axes.annotate(
            name,
            points[name],
            xytext=(1.03, height),
            textcoords="axes fraction",
            verticalalignment="center",
            fontsize=8,
            arrowprops={"arrowstyle": "-", "color": SOFT, "linewidth": 0.6},
        )


def _counts(axes: Axes, values: np.ndarray) -> None:
    """Counts of users on an axis that shows few and many."""
    _wide_scale(axes, "y", values)
    axes.set_ylim(0, None)
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda v, _: f"{v:,.0f}"))


def _wide_scale(axes: Axes, which: str, values: Sequence[float] | np.ndarray) -> None:
    """Makes the "x" or "y" axis logarithmic above the small values if they span much."""
    positive = np.asarray(values, float)
    positive = positive[positive > 0]
    if not len(positive):
        return
    usual = float(np.quantile(positive, 0.1, method="lower"))
    if positive.max() > _WIDE * usual:
        getattr(axes, f"set_{which}scale")("symlog", linthresh=usual)


def _svg(figure: Figure, name: str) -> str:
    """The figure as an `svg` element whose ids occur in no other figure."""
    figure.patch.set_alpha(0)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    for stand_in, variable in _COLOURS.items():
        text = text.replace(stand_in, variable)
    text = re.sub(r'id="', f'id="{name}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # The style sheet sets the size and the font; matplotlib's own rules would reach the page.
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    return re.sub(r" font-family: [^;]*;", "", text)
