"""One study's results on disk, and the figures of what it measured.

RESULTS/STUDY/rows/ARTEFACT.jsonl  one measured row a line, with settings, seeds, data, code,
                                   device; what rows have alike is said once (`shared_rows`)
RESULTS/STUDY/measures.csv         the same numbers, one a line, with intervals; not in git
RESULTS/STUDY/plan.json            every unit, expected and measured time
RESULTS/STUDY/*.png                figures

Results of before had all rows in RESULTS/STUDY/rows.jsonl, which is read alike.
"""

import csv
import io
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.paper.artefact import figure_of
from experiments.paper.registry import ARTEFACTS
from experiments.row_files import read_rows
from experiments.shared_rows import format_rows
from experiments.study import (
    TRAINING,
    Rows,
    Study,
    Unit,
    artefact_of,
    definition_of,
    read_units,
    software_of,
)
from uatmc_jax import store
from uatmc_jax.errors import InputError
from uatmc_jax.settings import Settings, from_values, to_dict
from uatmc_jax.training.folder import differences

_FOLDER, _ONE_FILE, _PLAN, _MEASURES = "rows", "rows.jsonl", "plan.json", "measures.csv"
_NAMES = ("study", "artefact", "unit", "variant", "attack")
_FIELDS = {
    "artefact": (str, "what of the paper it belongs to"),
    "unit": (str, "what it was measured with"),
    "dataset": (dict, "name and fingerprint of the data"),
    "code": (dict, "commit and digest of the sources"),
    "device": (dict, "platform and kind"),
}


class Results(NamedTuple):
    """One study's results as on disk.

    Attributes:
      name: of the study.
      plan: {"settings", "plan", "units": [{"unit", "expected_seconds", "seconds"}]}.
      rows: all measured rows.
    """

    name: str
    plan: dict
    rows: Rows


def write_study(study: Study, units: Sequence[Unit], results: pathlib.Path) -> list[str]:
    """Writes what is done of a study, if anything is: rows, measures, plan and figures.

    What RESULTS has of the same settings and plan stays, as `_joined` says, so that results can be
    completed on another machine; of others it is replaced (see `require_same`).

    Returns:
      A line for each kind of units that are left out, if any are.
    """
    folder, measured = results / study.name, read_units(study, units)
    there = _read_study(folder)
    if there is not None and _differing(study, there):
        if not any(one["rows"] for one in measured.values()):
            return []
        _remove(folder)
        there = None
    kept, outdated = ({}, []) if there is None else _kept(units, there)
    done, left_out = _joined(measured, kept)
    notes, outdated = [], [name for name in outdated if name not in done]
    if outdated:
        notes.append(f"{folder}: defined anew since, and left out: {', '.join(outdated)}.")
    if left_out:
        notes.append(
            f"{folder} has more of these from another device or version of JAX; measured here and "
            f"left out: {', '.join(left_out)}. Name another --results for them."
        )
    own = {unit.name: unit for unit in units}
    found = {name: done[name] for name in dict.fromkeys((*own, *kept)) if name in done}
    rows = [_without_places(row) for one in found.values() for row in one["rows"]]
    if not rows:
        return notes
    settings, plan = _conditions(study)
    # Trained in units of other names: with every measurement there, nothing asks for these.
    idle = all(name in done for name in own if artefact_of(name) != TRAINING)
    planned = [
        _planned(name, own[name].seconds, done.get(name), definition_of(own[name]))
        for name in own
        if name in done or not idle
    ]
    planned += [kept[name]["planned"] for name in found if name not in own]
    whole = {
        "settings": settings,
        "plan": plan,
        "overrides": list(study.overrides),
        "units": planned,
    }
    write_results(Results(study.name, whole, rows), results)
    return notes


def _planned(name: str, expected: float, done: dict | None, definition: str) -> dict[str, Any]:
    """A unit as plan.json has it; of one that was there already, what it was measured by."""
    entry = {"unit": name, "expected_seconds": round(expected), "seconds": None}
    if done is None:
        return entry
    entry["seconds"] = round(done["seconds"], 1)
    known = done["planned"].get("definition") if "planned" in done else definition
    return entry | ({"definition": known} if known else {})


def _joined(own: Mapping[str, dict], kept: Mapping[str, dict]) -> tuple[dict[str, dict], list[str]]:
    """OUT's units and those of RESULTS, of each artefact from one device and version of JAX.

    OUT's, where it has every unit that RESULTS has. Else RESULTS' stay, and OUT adds what is not
    among them, if of the same device and version; what it has besides is left out. Trainings are
    no measurements: RESULTS' stay where any of its measurements do, and OUT adds others.

    Args:
      own: {unit: {"seconds", "rows"}} of OUT.
      kept: the same of RESULTS.

    Returns:
      {unit: the same}, and the names of OUT's that are left out.
    """
    chosen: dict[str, dict] = {}
    left_out: list[str] = []
    stays = False
    artefacts = dict.fromkeys(artefact_of(name) for name in (*own, *kept))
    for artefact in sorted(artefacts, key=lambda name: name == TRAINING):  # trainings last
        mine, theirs = (
            {name: one for name, one in some.items() if artefact_of(name) == artefact}
            for some in (own, kept)
        )
        if theirs.keys() <= mine.keys() and not (artefact == TRAINING and stays):
            chosen |= mine
            continue
        stays = True
        measured = (*mine.values(), *theirs.values())
        software = {software_of(row) for one in measured for row in one["rows"][:1]}
        if artefact == TRAINING or len(software) <= 1:
            chosen |= mine | theirs
        else:
            chosen |= theirs
            left_out += list(mine)
    return chosen, left_out


def _remove(folder: pathlib.Path) -> None:
    """A study's plan and rows, before others' take their place: a kill leaves no mixture."""
    for file in (folder / _PLAN, folder / _ONE_FILE, *(folder / _FOLDER).glob("*.jsonl")):
        file.unlink(missing_ok=True)


def write_results(found: Results, results: pathlib.Path) -> None:
    """Writes a study's rows, measures, plan and figures.

    The plan comes after the rows: where a kill cuts it short, the old plan does not know of the
    rows that are new. What is there must be of the same settings and plan, or gone.
    """
    folder = results / found.name
    of_artefact: dict[str, Rows] = {}
    for row in found.rows:
        of_artefact.setdefault(row["artefact"], []).append(row)
    (folder / _FOLDER).mkdir(parents=True, exist_ok=True)
    for artefact, rows in of_artefact.items():
        store.write_text(folder / _FOLDER / f"{artefact}.jsonl", format_rows(rows))
    (folder / _ONE_FILE).unlink(missing_ok=True)
    store.write_json(folder / _PLAN, found.plan)
    for file in (folder / _FOLDER).glob("*.jsonl"):
        if file.stem not in of_artefact:
            file.unlink()
    store.write_text(folder / _MEASURES, format_measures(found.rows))
    draw(found, folder)


def read_results(results: pathlib.Path) -> list[Results]:
    """All studies in the folder, by name; none of folders without rows.

    Raises:
      InputError: a file's rows are not as `row_files.read_rows` wants them, or a plan is damaged.
    """
    folders = sorted(path for path in results.glob("*") if path.is_dir())
    return [study for folder in folders if (study := _read_study(folder)) is not None]


def _read_study(folder: pathlib.Path) -> Results | None:
    """A study's results; None where the folder has no rows."""
    order = {name: place for place, name in enumerate(ARTEFACTS)}
    files = list((folder / _FOLDER).glob("*.jsonl"))
    files.sort(key=lambda file: (order.get(file.stem, -1), file.stem))  # trainings first
    if files and (folder / _ONE_FILE).exists():
        raise InputError(
            f"{folder} has both {_ONE_FILE} and {_FOLDER}/, as a kill leaves them. Remove "
            f"{_FOLDER}/, which is a part of the other, or {_ONE_FILE} if that is the older."
        )
    if not files and (folder / _ONE_FILE).exists():
        files = [folder / _ONE_FILE]
    if not files:
        return None
    plan = store.read_json(folder / _PLAN, "settings", "plan", "units", "overrides")
    return Results(folder.name, plan, [row for file in files for row in read_rows(file, _FIELDS)])


def require_same(study: Study, results: pathlib.Path) -> None:
    """Raises InputError where RESULTS has the study under other settings, plan or data.

    For a folder that was named: what is there may have been measured elsewhere, and would be lost.
    """
    there = _read_study(results / study.name)
    others = [] if there is None else _differing(study, there)
    if others:
        raise InputError(
            f"{results / study.name} has rows of another {', '.join(others)}. Name another "
            "--results, or move it away."
        )


def _differing(study: Study, there: Results) -> list[str]:
    """In what the results were got otherwise: "dataset", fields of the settings and the plan."""
    found = there.rows[0]["dataset"]["fingerprint"] != study.dataset.fingerprint
    others = ["dataset"] if found else []
    settings, plan = _conditions(study)
    try:
        known = to_dict(from_values(Settings, there.plan["settings"]))
    except InputError:  # of fields that are gone
        known = there.plan["settings"]
    return others + differences(known, settings) + differences(there.plan["plan"], plan)


def _kept(units: Sequence[Unit], there: Results) -> tuple[dict[str, dict], list[str]]:
    """{unit: {"seconds", "rows", "planned"}} of what RESULTS has, and units defined anew since.

    Units of other names than the plan's stay: trainings for a part of the artefacts.
    """
    defined = {unit.name: definition_of(unit) for unit in units}
    rows: dict[str, Rows] = {}
    for row in there.rows:
        rows.setdefault(row["unit"], []).append(row)
    kept, outdated = {}, []
    for planned in there.plan["units"]:
        name, seconds, known = planned["unit"], planned["seconds"], planned.get("definition")
        if seconds is None:
            continue
        if known in (None, defined.get(name, known)):  # older plans do not have it
            kept[name] = {"seconds": seconds, "rows": rows.get(name, []), "planned": planned}
        else:
            outdated.append(name)
    return kept, outdated


def _conditions(study: Study) -> tuple[dict, dict]:
    """Settings and plan as plan.json has them."""
    plain = to_dict(study.settings)
    plain["data"]["root"] = ""  # where the data lie is the machine's business
    return plain, json.loads(json.dumps(to_dict(study.plan)))


def _without_places(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row without paths of the machine that measured it."""
    if "trained_with" not in row:
        return dict(row)
    trained = row["trained_with"]
    places = {"data": {"root": ""}, "pretrain": {"init_from": ""}}
    return dict(row) | {
        "trained_with": trained | {name: trained[name] | one for name, one in places.items()}
    }


def draw(results: Results, folder: pathlib.Path) -> list[str]:
    """Draws the figures of all artefacts that have rows; returns their file names.

    One that an artefact's rows are no longer enough for goes, as the page would still show it.
    """
    drawn = []
    for artefact, rows in by_artefact(results):
        drawn += ARTEFACTS[artefact].draw(rows, folder)
        if figure_of(artefact) not in drawn:
            (folder / figure_of(artefact)).unlink(missing_ok=True)
    return drawn


def by_artefact(study: Results) -> Iterator[tuple[str, Rows]]:
    """(artefact, its rows) for the artefacts of which a part has all its units done."""
    for name in ARTEFACTS:
        done = set(_parts(study, name, whole=True))
        rows = [row for row in study.rows if row["unit"] in done]
        if rows:
            yield name, rows


def left_out(study: Results, artefact: str) -> list[str]:
    """Units of the artefact's parts that are not shown, as not all of their units are done."""
    return _parts(study, artefact, whole=False)


def _parts(study: Results, artefact: str, whole: bool) -> list[str]:
    """Names of the units of the artefact's parts that are whole, or of the others."""
    part, seconds = ARTEFACTS[artefact].part, {}
    for unit in study.plan["units"]:
        if artefact_of(unit["unit"]) == artefact:
            seconds.setdefault(part(unit["unit"]), {})[unit["unit"]] = unit["seconds"]
    return [
        name for some in seconds.values() if (None not in some.values()) == whole for name in some
    ]


def format_measures(rows: Rows) -> str:
    """Every number of the rows with its intervals, one a line, as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ends = [f"{group}_{end}" for group in ("targets", "seeds", "users") for end in ("low", "high")]
    writer.writerow([*_NAMES, "row", "measure", "value", *ends])
    for number, row in enumerate(rows):
        for measure, value, *interval in _measures(row):
            head = [row.get(name, "") for name in _NAMES]
            writer.writerow([*head, number, measure, value, *interval])
    return text.getvalue()


# Parts of a row that say how it was got.
_HOW = {"trained_with", "threat_model", "evaluation", "checkpoint", "versions", "code", "device"}
_HOW |= {"dataset", "utility", "sets_from", "depends_on", *_NAMES}


def _measures(row: dict, prefix: str = "") -> Iterator[tuple]:
    for key, value in row.items():
        if not prefix and key in _HOW:
            continue
        name = f"{prefix}{key}"
        if isinstance(value, dict) and "value" in value:
            ends = [value.get(f"over_{group}") or ("", "") for group in ("targets", "seeds")]
            users = next((x for n, x in value.items() if n.startswith("over_users")), ("", ""))
            yield name, value["value"], *ends[0], *ends[1], *users
        elif isinstance(value, dict):
            yield from _measures(value, f"{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield name, value, *[""] * 6
