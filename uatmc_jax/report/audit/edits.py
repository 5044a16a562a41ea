"""The page's section on edits of real pictures and titles, as values for its template."""

from collections.abc import Mapping
from typing import Any

# {harmless edit that is the unit: how a sentence has it}
_UNITS = {"image": "a 5 % crop does to the picture", "text": "adding “new” does to the title"}
_THINGS = {"image": "pictures", "text": "titles"}


def edits_section(audit: Mapping) -> dict[str, Any] | None:
    """What the template shows of `auditing.edited.edit_items`; None where nothing was edited."""
    found = audit.get("edits")
    if found is None:
        return None
    models = found["models"]
    victim = models["victim"]
    return {
        "k": found["settings"]["k"],
        "eps": f"{100 * found['settings']['eps']:g} %",
        "things": " and ".join(_THINGS[kind] for kind in victim["harmless"]),
        "users": victim["users"],
        "folder": victim["folder"],
        "cards": [_card(row, found, victim) for row in victim["rows"]],
        "budget_of": "the raw features" if victim["summary"]["measure"] == "raw" else "z",
        "reach_of": victim["summary"]["reach_of"],
        "names": list(models),
        "table": _table(models),
    }


def _card(row: Mapping, found: Mapping, victim: Mapping) -> dict[str, Any]:
    """One item under the strongest edit."""
    edit, users, units = row["edits"][-1], victim["users"], found["units"]
    measure, harmless = victim["summary"]["measure"], victim["harmless"]
    return {
        "name": row["id"],
        "edit": edit["edit"],
        "pictures": found["pictures"].get(str(row["item"])),
        "title": row["title"],
        "parts": found["titles"].get(str(row["item"])),
        "before": _users(row["hr_before"], users),
        "after": _users(edit["hr"], users),
        "jpeg": _users(edit["afterwards"]["JPEG 85"], users) if "afterwards" in edit else None,
        "others": {
            name: [_users(hr, model["users"]) for hr in _ends(model, row["item"])]
            for name, model in found["models"].items()
            if name != "victim"
        },
        "distance": [
            f"{_often(moved[measure], harmless[kind][units[kind]][measure]['median'])} what "
            f"{_UNITS[kind]}"
            for kind, moved in edit["moved"].items()
        ],
        "outside": " and ".join(norm for norm, out in edit["outside"].items() if out),
        "bounds": [_users(bound, users) for bound in _bounds(edit["certificate"])],
    }


def _bounds(certificate: Mapping[str, float]) -> list[float]:
    """What no edit that goes as far exceeds, and what no content whatever does; [] for neither."""
    if not certificate:
        return []
    return [min(certificate.values()), certificate["any_content"]]


def _ends(model: Mapping, item: int) -> tuple[float, float]:
    row = next(row for row in model["rows"] if row["item"] == item)
    return row["hr_before"], row["edits"][-1]["hr"]


def _often(length: float, unit: float) -> str:
    """A displacement in harmless ones.

    >>> _often(0.14, 0.1), _often(1.9, 0.1)
    ('1.4 times', '19 times')
    """
    if unit <= 0:
        return "far more than"
    times = length / unit
    return f"{times:.0f} times" if times >= 10 else f"{times:.1f} times"


def _users(share: float, users: int) -> str:
    """A hit rate of one item as a number of users.

    >>> _users(0.25, 8000)
    '2,000'
    """
    return f"{round(share * users):,}"


def _table(models: Mapping[str, Mapping]) -> list[dict[str, Any]]:
    """A row an edit: its mean hit rate against each model, and the reach."""
    victim = models["victim"]["summary"]
    rows = [_row("before", {name: one["summary"]["before"] for name, one in models.items()}, None)]
    for name, edit in victim["edits"].items():
        means = {model: one["summary"]["edits"][name]["hr"] for model, one in models.items()}
        rows.append(_row(name, means, edit["reach"]))
    return rows


def _row(name: str, means: Mapping[str, Mapping], reach: Mapping | None) -> dict[str, Any]:
    return {
        "name": name,
        "means": list(means.values()),
        "reach": "" if reach is None else f"{reach['value']:.2f}",
    }
