"""Means over targets with intervals, and the short table."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from uatmc_jax.bootstrap import interval, resample
from uatmc_jax.edits.harmless import UNITS
from uatmc_jax.report.text import table

_RESAMPLES = 2000


def summarize(rows: Sequence[Mapping]) -> dict[str, Any]:
    """Means over targets, each with the middle 95 % of a bootstrap over targets.

    Args:
      rows: of `run.run_edits`.

    Returns:
      "before", "against" by what it is, "edits" by name, "reach_of" that whose gain reach is a
      share of, and "measure", "l2" of z or "raw", of how far content has moved. "reach" is the
      ratio of the mean gains; "outside" the share of targets whose edit leaves the budget's ball.
    """
    before = np.array([row["hr_before"] for row in rows])
    names = list(rows[0]["against"])
    against = {name: np.array([row["against"][name] for row in rows]) for name in names}
    whole = against[reach_of(names)]
    edits = {}
    for place, first in enumerate(rows[0]["edits"]):
        each = [row["edits"][place] for row in rows]
        hr = np.array([edit["hr"] for edit in each])
        edits[first["edit"]] = {
            "hr": mean(hr),
            "reach": ratio(hr - before, whole - before),
            "outside": {
                norm: float(np.mean([edit["outside"][norm] for edit in each]))
                for norm in each[0]["outside"]
            },
            "radius": {
                norm: mean([edit["radius"][norm] for edit in each]) for norm in each[0]["radius"]
            },
            "seconds": mean([edit["seconds"] for edit in each]),
            **_optional(each),
        }
    return {
        "targets": len(rows),
        "before": mean(before),
        "against": {name: mean(values) for name, values in against.items()},
        "reach_of": reach_of(names),
        "measure": next(iter(rows[0]["edits"][0]["radius"])),
        "edits": edits,
    }


def reach_of(against: Iterable[str]) -> str:
    """What reach is of: the furthest of what edits are held against, their last."""
    return list(against)[-1]


def _optional(each: Sequence[Mapping]) -> dict[str, Any]:
    """Means of what not every edit has, over those that have it."""
    found: dict[str, Any] = {}
    for name in ("psnr", "ssim", "similarity"):
        values = [edit[name] for edit in each if edit.get(name) is not None]
        if values:
            found[name] = mean(values)
    counts = [len(edit["new_words"]) for edit in each if "new_words" in edit]
    if counts:
        found["new_words"] = mean(counts)
    for name in ("afterwards", "certificate"):
        some = [edit[name] for edit in each if edit.get(name)]
        if some:
            found[name] = {key: mean([one[key] for one in some]) for key in some[0]}
    still = dict.fromkeys(("l2", "linf", "raw"), 0.0)
    found["moved"] = {
        kind: {
            measured: mean([edit["moved"].get(kind, still)[measured] for edit in each])
            for measured in still
        }
        for kind in dict.fromkeys(kind for edit in each for kind in edit["moved"])
    }
    return found


def mean(values: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """{"value", "over_targets": [low, high]}."""
    column = np.asarray(values, float)[:, None]
    drawn = resample(column, range(len(column)), _RESAMPLES)[:, 0]
    return {"value": float(column.mean()), "over_targets": interval(drawn)}


def ratio(above: np.ndarray, below: np.ndarray) -> dict[str, Any] | None:
    """A ratio of means with its interval; None where there is nothing to divide by."""
    if below.mean() <= 0:
        return None
    drawn = resample(np.stack([above, below], axis=1), range(len(above)), _RESAMPLES)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = drawn[:, 0] / drawn[:, 1]
    ends = interval(ratios[np.isfinite(ratios)])
    return {"value": float(above.mean() / below.mean()), "over_targets": ends}


def format_edits(result: Mapping) -> str:
    """Two Markdown tables: what edits do, and what harmless ones do."""
    summary = result["summary"]
    k, rows = result["settings"]["k"], []
    measure = summary["measure"]
    rows.append(["before", _share(summary["before"]), *["–"] * 6])
    for name, edit in summary["edits"].items():
        rows.append(
            [
                name,
                _share(edit["hr"]),
                _share(edit["afterwards"]["JPEG 85"]) if "afterwards" in edit else "–",
                "–" if edit["reach"] is None else f"{edit['reach']['value']:.2f}",
                _moved(edit, result["harmless"], measure),
                _bound(edit, measure),
                _bound(edit, "any_content"),
                _said(edit),
            ]
        )
    for name, found in summary["against"].items():
        rows.append([name, _share(found), *["–"] * 6])
    header = [
        f"{summary['targets']} targets, serving {result['serving']}",
        f"HR@{k}", "after JPEG 85", "reach",
        "moved by", f"{measure} certificate there", "any content", "",
    ]  # fmt: skip
    lines = [*table(header, rows), ""]
    for kind, edits in result["harmless"].items():
        shown = [
            [name, *(f"{found['l2'][q]:.3f}" for q in ("median", "q90", "largest")),
             f"{found['raw']['median']:.3f}"]
            for name, found in edits.items()
        ]  # fmt: skip
        header = [f"harmless, {kind}", "z moved by (median)", "90 %", "largest", "raw (median)"]
        lines += [*table(header, shown), ""]
    return "\n".join(lines)


def _share(entry: Mapping) -> str:
    low, high = entry["over_targets"]
    return f"{entry['value']:.4f} [{low:.4f}, {high:.4f}]"


def _moved(edit: Mapping, harmless: Mapping, measure: str) -> str:
    """By kind how far content has moved, in its lengths and in harmless edits."""
    cells = []
    for kind, moved in edit["moved"].items():
        unit, length = harmless[kind][UNITS[kind]][measure]["median"], moved[measure]["value"]
        often = f", {length / unit:.1f} x {UNITS[kind]}" if unit > 0 else ""
        cells.append(f"{length:.2f}{often}")
    return "; ".join(cells)


def _bound(edit: Mapping, name: str) -> str:
    if name not in edit.get("certificate", {}):
        return "–"
    return f"{edit['certificate'][name]['value']:.3f}"


def _said(edit: Mapping) -> str:
    outside = [f"{norm} ({share:.0%})" for norm, share in edit["outside"].items() if share]
    if "certificate" not in edit:
        return f"beyond the budget: {', '.join(outside)}" if outside else ""
    return f"outside the certificate: {', '.join(outside)}" if outside else "inside"
