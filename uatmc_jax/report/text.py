"""Numbers and tables as Markdown."""

from collections.abc import Sequence


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
