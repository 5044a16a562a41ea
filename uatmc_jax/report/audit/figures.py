"""The report's figures as inline SVG, drawn by matplotlib in the colours of the page.

A page may be light or dark, so a figure must not hold colours of its own: it is drawn in
stand-ins, which are then replaced by the style sheet's variables.
"""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

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
    "legend.columnspacing": 1.2,
    "legend.handlelength": 1.4,
}
# Inches; small, so that text of 9 points is legible where the page is as wide as a telephone.
_SIZE = (4.1, 2.9)
# Largest over usual small value, from which an axis is logarithmic.
_WIDE = 30


class Point(NamedTuple):
    """A model on the front.

    Attributes:
      reached: HR@K under attack.
      recall: recall@20.
      content: what content contributes to it; None where it was not measured.
      recommended: whether it is the one to take.
    """

    reached: float
    recall: float
    content: float | None
    recommended: bool


def items_reached(rows: Sequence[Mapping], bound: Mapping | None, users: int, k: int) -> str:
    """Every attacked item: users with it in their list before and after, and the bound.

    Args:
      rows: the suite's, one a target.
      bound: "items" and the "bound" of each; None without certificates.
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
        if bound is not None:
            of = dict(zip(bound["items"], bound["bound"], strict=True))
            most = np.array([of[row["item"]] for row in order]) * users
            axes.step(x, most, color=TWO, linewidth=1, where="mid", label="no attack exceeds")
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
        axes.set(xlabel=f"of the {targets} items, at least so many in her top {k}")
        axes.set(ylabel="share of the users", ylim=(0, None))
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda v, _: f"{v:g}"))
        axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda v, _: f"{v:g} %"))
        _legend(axes, 1)
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


def pareto(points: Sequence[Point], k: int) -> str:
    """Accuracy against robustness, the models by number; the recommended one is a star.

    Args:
      points: the models, numbered from 1 in this order.
      k: K of the hit rate.
    """
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(height=1.15)
        largest = max((p.content or 0.0 for p in points), default=0.0) or 1.0
        for number, point in enumerate(points, start=1):
            colour, marker = (THREE, "*") if point.recommended else (ONE, "o")
            colour = SOFT if number == 1 else colour
            size = 30 + 150 * max(point.content or 0.0, 0.0) / largest
            size = 2.2 * size if point.recommended else size
            place = 100 * point.reached, point.recall
            axes.scatter(*place, s=size, color=colour, marker=marker, alpha=0.75, linewidth=0)
            axes.annotate(str(number), place, xytext=(5, 5), textcoords="offset points")
        _wide_scale(axes, "x", [100 * point.reached for point in points])
        axes.margins(x=0.12, y=0.18)
        if axes.get_xscale() == "linear":
            axes.xaxis.set_major_locator(ticker.MaxNLocator(5))
        axes.set(xlabel=f"users reached under attack (top {k})", ylabel="recall@20, test")
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda v, _: f"{v:g} %"))
        return _svg(figure, "pareto")


def hr_by_budget(entries: Mapping[str, Mapping], strongest: Mapping[str, float], k: int) -> str:
    """HR@K against the size of the edit, with what no attack of that size exceeds.

    Args:
      entries: {label: {"eps", "hr", "certificate" (or None)}}, a value each a budget.
      strongest: {label: HR@K under the strongest of all attacks, within the largest budget}.
      k: K of the lists.
    """
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure()
        for (label, curve), colour in zip(entries.items(), (ONE, THREE, FOUR), strict=False):
            sizes = 100 * np.asarray(curve["eps"])
            axes.plot(sizes, 100 * np.asarray(curve["hr"]), ".-", color=colour, label=label)
            axes.plot(sizes[-1], 100 * strongest[label], "x", color=colour)
            if curve["certificate"]:
                bound = 100 * np.asarray(curve["certificate"])
                axes.plot(sizes, bound, "--", color=colour, label=f"{label}, at most")
        values = [v for c in entries.values() for n in ("hr", "certificate") for v in c[n] or ()]
        _wide_scale(axes, "y", 100 * np.asarray(values))
        axes.set_ylim(0, None)
        axes.set(xlabel="size of the edit", ylabel=f"users with the item in their top {k}")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(ticker.FuncFormatter(lambda v, _: f"{v:g} %"))
        _legend(axes, 2)
        return _svg(figure, "budgets")


def certified(entries: Mapping[str, Sequence[float]], shown: Sequence[float]) -> str:
    """How many items' reach is certified to stay below each share of the users.

    Args:
      entries: {label: (items,) bound as a share of the users}.
      shown: (items,) share who have the item in their list as it is.
    """
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure()
        lines = {"no attack": shown, **entries}
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


def _figure(height: float = 1.0) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_SIZE[0], height * _SIZE[1]), layout="constrained")
    return figure, figure.add_subplot()


def _legend(axes: Axes, columns: int = 3) -> None:
    """Above the axes, where nothing is drawn."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2)


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
