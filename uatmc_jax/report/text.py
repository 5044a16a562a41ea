"""Numbers and tables as Markdown."""

from collections.abc import Sequence

from uatmc_jax.benchmark.summary import always_defined


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """A Markdown table's lines, the first `left` columns aligned to the left.

    >>> print("\\n".join(table(["a", "b"], [["x", "1"]])))
    | a | b |
    | --- | ---: |
    | x | 1 |
    """
    rule = ["---"] * left + ["---:"] * (len(header) - left)
    return [row(header), row(rule), *map(row, rows)]


def row(cells: Sequence[str]) -> str:
    """One line of a table."""
    return f"| {' | '.join(cells)} |"


def percent(share: float) -> str:
    """A share in percent, as hit rates are shown.

    >>> percent(0.01234)
    '1.234 %'
    """
    return f"{100 * share:.3f} %"


def times(entry: dict) -> str:
    """A gain as how many times as many, with the interval over targets.

    >>> times({"value": 1.5, "over_targets": [1.0, None]})
    '2.5 times [2.0, unbounded]'
    >>> times({"value": None, "over_targets": [None, None]})
    'nobody before'

    Args:
      entry: "gain" of `benchmark.summary.summarize`.
    """
    if entry["value"] is None:
        return "nobody before"
    ends = ("unbounded" if end is None else f"{1 + end:,.1f}" for end in entry["over_targets"])
    return f"{1 + entry['value']:,.1f} times [{', '.join(ends)}]"


def content_cells(entry: dict) -> list[str]:
    """Recall, contribution and sensitivity of one part of a use of content, with intervals.

    Args:
      entry: of `evaluation.content.use_of_content`.
    """
    recall = entry["recall"]
    own = recall and recall["own"]
    return [number(own), number(entry["contribution"]), number(entry["sensitivity"])]


def number(entry: dict | None) -> str:
    """A value with its interval, whatever that is over; a dash where nothing was measured.

    >>> number({"value": 0.01234, "over_users": [0.01, 0.015]}), number(None)
    ('0.0123 [0.0100, 0.0150]', '–')
    """
    if entry is None:
        return "–"
    ends = next((x for name, x in entry.items() if name.startswith("over_")), None)
    shown = "" if ends is None else " [" + ", ".join(f"{end:.4f}" for end in ends) + "]"
    return f"{entry['value']:.4f}{shown}"


def moved(found: dict | None) -> str:
    """How far an attack has taken z, the mean over the modalities that it moves.

    >>> moved({"visual": {"length": 0.8, "cosine": 0.75}, "textual": {"length": 0, "cosine": 1}})
    '80 % of the length, cosine 0.75'

    Args:
      found: of `benchmark.rows.mean_moved`.
    """
    ways = [entry for entry in (found or {}).values() if entry["length"]]
    if not ways:
        return "–" if found is None else "nowhere"
    length, cosine = (sum(way[n] for way in ways) / len(ways) for n in ("length", "cosine"))
    return f"{100 * length:.0f} % of the length, cosine {cosine:.2f}"


def gain(entry: dict) -> str:
    """A gain with its intervals, as `benchmark.summary.summarize` gives it.

    With several training seeds the one over these and the targets, which is the widest, alone.

    >>> gain({"value": 1.5, "over_targets": [1.0, None]})
    '150% [100%, undefined]'
    """
    if "over_trainings" in entry:
        return f"{_whole(entry['value'])} [{_ends(entry['over_trainings'])}]"
    text = f"{_whole(entry['value'])} [{_ends(entry['over_targets'])}]"
    return text + (f" {{{_ends(entry['over_seeds'])}}}" if "over_seeds" in entry else "")


def promoted(entry: dict) -> str:
    """A gain, and beside one that is not always defined the hit rate won, in percent.

    >>> gain_of_none = {"value": None, "over_targets": [None, None]}
    >>> promoted({"gain": gain_of_none, "points": {"value": 0.0143, "over_targets": [0.01, 0.02]}})
    'undefined [undefined, undefined], +1.430 points of HR'
    >>> promoted({"gain": {"value": 1.5, "over_targets": [1.0, 2.0]}})
    '150% [100%, 200%]'

    Args:
      entry: of `benchmark.summary.summarize`, of one K; rows of before have no points.
    """
    text, won = gain(entry["gain"]), entry.get("points", {}).get("value")
    if won is None or always_defined(entry["gain"]):
        return text
    return f"{text}, {100 * won:+.3f} points of HR"


def change(entry: dict, unit: str = "%") -> str:
    """A signed relative change, or a difference of gains in points, with its intervals.

    With several training seeds as `gain`.

    >>> change({"value": 0.0017, "over_targets": [-0.0002, 0.0034]})
    '+0.17% [-0.02, +0.34]'
    """
    value = _signed(entry["value"]) + ("" if entry["value"] is None else unit)
    if "over_trainings" in entry:
        return f"{value} [{', '.join(map(_signed, entry['over_trainings']))}]"
    text = f"{value} [{', '.join(map(_signed, entry['over_targets']))}]"
    if "over_seeds" in entry:
        text += f" {{{', '.join(map(_signed, entry['over_seeds']))}}}"
    return text


def _signed(share: float | None) -> str:
    if share is None:
        return "undefined"
    digits = 0 if abs(share) >= 1 else 1 if abs(share) >= 0.1 else 2
    text = f"{100 * share:+,.{digits}f}"
    return text if float(text.replace(",", "")) else "0"


def _ends(interval: Sequence[float | None]) -> str:
    return ", ".join(map(_whole, interval))


def _whole(share: float | None) -> str:
    text = "undefined" if share is None else f"{share:,.0%}"
    return "0%" if text == "-0%" else text
