"""The page's section on serving policies: what an edit does today, and after a re-indexing."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from uatmc_jax.report.text import number

_ANEW = {
    "frozen": "nothing: today, until the catalogue is indexed again",
    "own_row": "the edited item's own features, neighbours and embedding",
    "full": "everything, other items' neighbours too: the next re-indexing",
}
_DASH = "–"


def said(policy: str) -> str:
    """What the recommender computes anew after an edit, in a clause.

    >>> said("full")
    'after an edit everything is computed anew, as by the next re-indexing (policy full)'
    """
    anew = {
        "frozen": "nothing is computed anew",
        "own_row": "its own row is computed anew",
        "full": "everything is computed anew, as by the next re-indexing",
    }
    return f"after an edit {anew[policy]} (policy {policy})"


def section(
    found: Mapping | None, others: Sequence[str], most: int, count: Callable[[float], str]
) -> dict[str, Any] | None:
    """What serving.html shows; None of an audit of before there were policies.

    Args:
      found: "serving" of the audited model's entry.
      others: names of the other threats.
      most: rows of the table of collateral.
      count: a share of the users as their number.
    """
    if found is None:
        return None
    rows, notes = [], []
    for policy, one in found["policies"].items():
        row = {
            "policy": policy,
            "anew": _ANEW[policy],
            "attacked": policy == found["attacked"],
            "says": one["says"],
            "cells": _cells(one, others, count) if "after" in one else None,
        }
        rows.append(row)
        if one["says"] and "after" in one:
            notes.append(f"{policy}: {one['says']}.")
        if one.get("same_as"):
            notes.append(
                f"{policy} is the same as {one['same_as']}: in this model an edit moves its own "
                "item's scores and nothing else."
            )
    full = found["policies"]["full"]
    return {
        "attacked": found["attacked"],
        "today": full.get("says") is None,
        "rows": rows,
        "notes": notes,
        "collateral": _collateral(found["collateral"], most, count),
    }


def _cells(one: Mapping, others: Sequence[str], count: Callable[[float], str]) -> list[str]:
    def users(entry: Mapping | None) -> str:
        return _DASH if entry is None else count(entry["value"])

    return [
        users(one["before"]),
        users(one["after"]),
        users(one.get("budget_certificate")),
        *(users(one["other_threats"][name]) for name in others),
        users(one.get("any_content_certificate")),
        number(one["contribution"]),
        number(one["sensitivity"]),
    ]


def _collateral(
    found: Mapping | None, most: int, count: Callable[[float], str]
) -> dict[str, Any] | None:
    if found is None:
        return None
    rows = sorted(found["rows"], key=lambda row: -row["collateral"]["lists"])[:most]

    def other(entry: Mapping | None, sign: str) -> str:
        if entry is None:
            return "none"
        name = entry["title"] or entry["name"] or f"item #{entry['item']}"
        return f"{name} ({sign}{count(entry['by'])})"

    return {
        "attack": found["attack"],
        "mean": found["mean"],
        "rows": [
            {
                **{name: row["collateral"][name] for name in ("items", "users", "lists")},
                "name": row["name"] or f"item #{row['item']}",
                "gained": other(row["collateral"]["gained"], "+"),
                "lost": other(row["collateral"]["lost"], "-"),
            }
            for row in rows
        ],
    }
