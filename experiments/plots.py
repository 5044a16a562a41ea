"""The figures, in matplotlib: colours that colour-blind readers tell apart, markers that print."""

import pathlib
from collections.abc import Collection, Mapping, Sequence

import numpy as np

# Okabe and Ito's palette.
BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666"
COLOURS = (BLUE, ORANGE, GREEN, PINK, GREY)
MARKERS = ("o", "s", "^", "D", "v")
PAPER = {"marker": "x", "color": "black", "linestyle": "none", "label": "paper's value"}


def pyplot():
    """matplotlib.pyplot, drawing to files."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    return plt


def defences(
    file: pathlib.Path,
    title: str,
    gains: Mapping[tuple[str, str], dict],
    paper: Mapping[tuple[str, str], float],
    others: Mapping[str, Mapping[str, float | None]],
) -> str:
    """Gain by defence and attack, and panels of other measures by defence.

    Args:
      file: to write.
      title: of the figure.
      gains: {(defence, attack): entry with value and over_targets, perhaps over_trainings}.
      paper: the same of the paper's gains, as far as it has them.
      others: {measure: {defence: value}}.
    """
    plt = pyplot()
    labels = list(dict.fromkeys(defence for defence, _ in gains))
    attacks = list(dict.fromkeys(attack for _, attack in gains))
    widths = [2, *[1] * len(others)]
    size = (5 + 2 * len(others), 3.2)
    figure, axes = plt.subplots(1, len(widths), figsize=size, width_ratios=widths)
    shown = [label.replace(", ", ",\n") for label in labels]
    for n, attack in enumerate(attacks):
        shift = 0.2 * (n - (len(attacks) - 1) / 2)
        entries = [gains[label, attack] for label in labels]
        places = np.arange(len(labels)) + shift
        _points(axes[0], places, entries, COLOURS[n], MARKERS[n], attack.upper())
        known = [
            (place, paper[label, attack])
            for place, label in zip(places, labels, strict=True)
            if (label, attack) in paper
        ]
        if known:
            style = PAPER if n == 0 else PAPER | {"label": None}
            axes[0].plot(*zip(*known, strict=True), **style)
    axes[0].set(ylabel="HR@50 gain", xticks=range(len(labels)), xticklabels=shown)
    axes[0].set_yscale("symlog", linthresh=0.1)
    axes[0].yaxis.set_major_formatter(lambda value, _: f"{value:,.0%}")
    ends = [_interval(entry) for entry in gains.values()]
    if not any(_number(low) < 0 for low, _ in ends) and not any(x < 0 for x in paper.values()):
        axes[0].set_ylim(bottom=0)
    if any(entry["value"] is not None and _interval(entry)[1] is None for entry in gains.values()):
        axes[0].set_ylim(top=2 * axes[0].get_ylim()[1])  # room for the arrows' heads
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.18), "ncols": 3}
    axes[0].legend(frameon=False, fontsize=7, **below)
    for axis, (name, values) in zip(axes[1:], others.items(), strict=True):
        axis.bar(range(len(labels)), [values[label] for label in labels], color=GREY, width=0.6)
        axis.set(ylabel=name, xticks=range(len(labels)))
        axis.set_xticklabels(labels, fontsize=7, rotation=45, ha="right", rotation_mode="anchor")
    return save(figure, file, title)


def grids(
    file: pathlib.Path, title: str, values: Mapping[str, Mapping[tuple[str, float], float | None]]
) -> str:
    """Heat maps of gains: training budgets downwards, attack budget to the right.

    Args:
      file: to write.
      title: of the figure.
      values: {attack: {(label, attack budget): gain; None if undefined}}.
    """
    plt = pyplot()
    figure, axes = plt.subplots(1, len(values), figsize=(4 * len(values), 3.2), squeeze=False)
    for axis, (name, grid) in zip(axes[0], values.items(), strict=True):
        trained = list(dict.fromkeys(t for t, _ in grid))
        attacked = sorted({a for _, a in grid})
        table = np.array([[_number(grid[t, a]) for a in attacked] for t in trained])
        shade = np.log10(np.maximum(table, 1e-3))
        image = axis.imshow(shade, cmap="Blues", aspect="auto")
        middle = np.nanmean(shade) if np.isfinite(shade).any() else 0.0
        for (i, j), value in np.ndenumerate(table):
            text = "undefined" if np.isnan(value) else f"{value:,.0%}"
            dark = np.isfinite(shade[i, j]) and shade[i, j] > middle
            colour = "white" if dark else "black"
            axis.text(j, i, text, ha="center", va="center", fontsize=7, color=colour)
        axis.set(
            title=name,
            xlabel="attack budget eps",
            ylabel="training budget eps",
            xticks=range(len(attacked)),
            yticks=range(len(trained)),
            xticklabels=[f"{a:.1%}" for a in attacked],
            yticklabels=trained,
        )
        bar = figure.colorbar(image, ax=axis)
        bar.ax.yaxis.set_major_formatter(lambda value, _: f"{10**value:,.0%}")
    return save(figure, file, title)


def sweeps(
    file: pathlib.Path,
    title: str,
    series: Mapping[str, tuple[str, Sequence[tuple[float, float | None, float]]]],
) -> str:
    """NDCG@10 against what an attack wins along each hyper-parameter, labelled with its value.

    Args:
      file: to write.
      title: of the figure.
      series: {parameter: what is won, in words, with [(value, won in hundredths, None if
        undefined, NDCG@10)]}.
    """
    plt = pyplot()
    figure, axes = plt.subplots(1, len(series), figsize=(4 * len(series), 3.2), squeeze=False)
    for n, (axis, (name, (label, points))) in enumerate(zip(axes[0], series.items(), strict=True)):
        known = [(value, 100 * won, score) for value, won, score in points if won is not None]
        missing = [f"{value:g}" for value, won, _ in points if won is None]
        x, y = [won for _, won, _ in known], [score for _, _, score in known]
        axis.plot(x, y, color=COLOURS[n], marker=MARKERS[n], linewidth=0.8)
        for value, won, score in known:
            axis.annotate(f"{value:g}", (won, score), textcoords="offset points", xytext=(4, 3))
        axis.xaxis.set_major_locator(plt.MaxNLocator(5))
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.5g}")
        left_out = f"\n(undefined at {', '.join(missing)})" if missing else ""
        axis.set(xlabel=label, ylabel="NDCG@10", title=f"along {name}{left_out}")
    return save(figure, file, title)


def groups(
    file: pathlib.Path, title: str, values: Mapping[str, Mapping[str, dict]], before: float
) -> str:
    """HR@50 by the users an attack is crafted on.

    Args:
      file: to write.
      title: of the figure.
      values: {attack: {users: entry with value and over_targets, shares}}.
      before: HR@50 without attack.
    """
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(4.5, 3))
    names = list(next(iter(values.values())))
    for n, (attack, by_users) in enumerate(values.items()):
        entries = [_scaled(by_users[name], 100) for name in names]
        places = np.arange(len(names)) + 0.2 * (n - (len(values) - 1) / 2)
        _points(axis, places, entries, COLOURS[n], MARKERS[n], attack)
    axis.axhline(100 * before, color=GREY, linestyle="--", linewidth=0.8, label="before")
    axis.set(ylabel="HR@50, %", xticks=range(len(names)), xticklabels=names)
    axis.set(xlabel="users the attack is crafted on")
    axis.set_ylim(bottom=0)
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.22), "ncols": 3}
    axis.legend(frameon=False, fontsize=7, **place)
    return save(figure, file, title)


def overlaps(
    file: pathlib.Path,
    title: str,
    values: Mapping[str, Mapping[float, tuple[Sequence[float], float]]],
) -> str:
    """Distributions of Jaccard similarities by rho, chance beside them: one panel a utility.

    Args:
      file: to write.
      title: of the figure.
      values: {utility: {rho: (similarities of the targets, that of two random sets)}}.
    """
    plt = pyplot()
    figure, axes = plt.subplots(1, len(values), figsize=(4 * len(values), 3), squeeze=False)
    for axis, (utility, by_rho) in zip(axes[0], values.items(), strict=True):
        places = np.arange(len(by_rho))
        known = [[v for v in some if v == v] for some, _ in by_rho.values()]
        axis.boxplot(known, positions=places, widths=0.5, whis=(5, 95), showfliers=False)
        chance = [by_chance for _, by_chance in by_rho.values()]
        axis.plot(places, chance, color=ORANGE, marker="D", linestyle="none", label="random sets")
        axis.set(ylabel="Jaccard of U_v and U_t", xlabel="rho, share of the users", ylim=(0, 1))
        axis.set(
            xticks=places, xticklabels=[f"{rho:.0%}" for rho in by_rho], title=f"g = {utility}"
        )
    axes[0, 0].legend(frameon=False, fontsize=7)
    return save(figure, file, title)


def steps(
    file: pathlib.Path,
    title: str,
    series: Mapping[tuple[str, str], tuple[Sequence[float], Sequence[float]]],
) -> str:
    """Coverage and gradient cosine by step: one column for each (item or mean).

    Args:
      file: to write.
      title: of the figure.
      series: {(of, attack): (coverage by step, cosine by step)}.
    """
    plt = pyplot()
    columns = list(dict.fromkeys(of for of, _ in series))
    names = list(dict.fromkeys(attack for _, attack in series))
    figure, axes = plt.subplots(2, len(columns), figsize=(4 * len(columns), 4.6), sharex=True)
    axes = np.asarray(axes).reshape(2, len(columns))
    for (of, attack), (coverage, cosine) in series.items():
        column, n = columns.index(of), names.index(attack)
        style = {"color": COLOURS[n], "marker": MARKERS[n], "markersize": 3, "label": attack}
        style["linestyle"] = "--" if n % 2 else "-"  # where two runs coincide, both are seen
        axes[0, column].plot([100 * c for c in coverage], **style)
        axes[1, column].plot(cosine, **style)
    for column, of in enumerate(columns):
        axes[0, column].set(title=of, ylabel="coverage: HR@50, %")
        axes[1, column].set(xlabel="PGD step", ylabel="cos(g^v, g^t)")
    axes[0, 0].legend(frameon=False, fontsize=7)
    return save(figure, file, title)


def pareto(file: pathlib.Path, title: str, entries: Sequence, best: Collection[str]) -> str:
    """Robustness against what content contributes, recall as colour; the front is ringed.

    Args:
      file: to write.
      title: of the figure.
      entries: `pareto.Entry` of each defence, numbered from 1 in this order; one whose
        gain is undefined is left out.
      best: names of those on the front.
    """
    plt = pyplot()
    numbers = {entry.name: n for n, entry in enumerate(entries, start=1)}
    entries = [entry for entry in entries if entry.measures["gain"].mean is not None]
    bounded = all(entry.measures["certificate"].mean is not None for entry in entries)
    use, use_label = "contribution", "contribution (recall@20 that content gives)"
    if any(entry.measures[use].mean is None for entry in entries):  # rows older than it
        use, use_label = "sensitivity", "sensitivity (recall@20 lost, contents exchanged)"
    shown = {"gain": "HR gain under the suite", "certificate": "budget certificate of HR"}
    shown = {axis: label for axis, label in shown.items() if axis == "gain" or bounded}
    figure, axes = plt.subplots(
        1,
        len(shown) + 1,
        figsize=(4.4 * len(shown) + 2.4, 4.4),
        width_ratios=[4.4] * len(shown) + [1.8],
        squeeze=False,
    )
    *axes, key = axes[0]
    key.axis("off")
    if not entries:
        figure.text(0.5, 0.5, "every gain is undefined: nobody had a target before", ha="center")
        return save(figure, file, title)
    recalls = [entry.measures["recall@20"].mean for entry in entries]
    colours = plt.Normalize(min(recalls), max(recalls))
    for axis, (name, label) in zip(axes, shown.items(), strict=True):
        for entry in entries:
            x, y = entry.measures[use], entry.measures[name]
            ends = [[[m.mean - m.low], [m.high - m.mean]] for m in (x, y)]
            axis.errorbar(x.mean, y.mean, ends[1], ends[0], color=GREY, linewidth=0.6, zorder=1)
            edge, width = ("black", 1.4) if entry.name in best else ("white", 0.4)
            colour = plt.cm.viridis(colours(entry.measures["recall@20"].mean))
            axis.scatter(x.mean, y.mean, 46, [colour], edgecolors=edge, linewidths=width, zorder=2)
            axis.annotate(
                str(numbers[entry.name]),
                (x.mean, y.mean),
                xytext=(4, 3),
                textcoords="offset points",
                fontsize=7,
                color="black" if entry.name in best else GREY,
            )
        axis.set(xlabel=use_label, ylabel=label)
        heights = [entry.measures[name].mean for entry in entries]
        if max(heights) > 10 * min(heights):
            axis.set_yscale("symlog", linthresh=0.1 if name == "gain" else 1e-4)
        axis.xaxis.set_major_locator(plt.MaxNLocator(5))
        digits = ".0%" if name == "gain" else ".2%"
        axis.yaxis.set_major_formatter(lambda value, _, digits=digits: f"{value:,{digits}}")
    mappable = plt.cm.ScalarMappable(colours, plt.cm.viridis)
    figure.colorbar(mappable, ax=axes[-1], label="recall@20", pad=0.03)
    for entry in entries:
        key.text(
            0.0,
            1.02 - 0.036 * numbers[entry.name],
            f"{numbers[entry.name]}  {entry.name}",
            fontsize=6.5,
            color="black" if entry.name in best else GREY,
            transform=key.transAxes,
        )
    return save(figure, file, title)


def _points(axis, places: np.ndarray, entries: list[dict], colour: str, marker: str, label: str):
    """Values with intervals, over training seeds too where there are; an arrow has no upper end."""
    values = np.array([_number(entry["value"]) for entry in entries])
    ends = np.array([[_number(end) for end in _interval(entry)] for entry in entries]).T
    style = {"color": colour, "linestyle": "none", "capsize": 3}
    lengths = np.abs(np.nan_to_num(ends - values))
    axis.errorbar(places, values, lengths, marker=marker, label=f"{label} (95 % interval)", **style)
    open_above = np.isfinite(values) & np.isnan(ends[1])
    if open_above.any():
        upwards = np.abs(values[open_above])
        axis.errorbar(places[open_above], values[open_above], upwards, lolims=True, **style)


def _interval(entry: dict) -> list[float | None]:
    return entry.get("over_trainings", entry["over_targets"])


def _scaled(entry: dict, factor: float) -> dict:
    return {
        "value": factor * entry["value"],
        "over_targets": [factor * end for end in _interval(entry)],
    }


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def save(figure, file: pathlib.Path, title: str) -> str:
    """Writes a figure under its title and closes it; returns the file's name."""
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    # Without the date and the versions, the same rows give the same file.
    figure.savefig(file, dpi=150, metadata={"Software": None})
    pyplot().close(figure)
    return file.name
