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

from experiments.paper.registry import ARTEFACTS
from experiments.row_files import read_rows
from experiments.shared_rows import format_rows
from experiments.study import Rows, Study, Unit, artefact_of, read_units
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


def write_study(study: Study, units: Sequence[Unit], results: pathlib.Path) -> None:
    """Writes what is done of a study, if anything is: rows, measures, plan and figures.

    What RESULTS has of the same settings and plan, and OUT has not, is kept, so that results can
    be completed on another machine; of others it is replaced (see `require_same`).
    """
    done = read_units(study, units, _kept(study, results))
    found = {name: one["rows"] for name, one in done.items()}
    rows = [_without_places(row) for name in found for row in found[name]]
    if not rows:
        return
    settings, plan = _conditions(study)
    whole = {
        "settings": settings,
        "plan": plan,
        "overrides": list(study.overrides),
        "units": [
            {
                "unit": unit.name,
                "expected_seconds": round(unit.seconds),
                "seconds": round(done[unit.name]["seconds"], 1) if unit.name in done else None,
            }
            for unit in units
        ],
    }
    write_results(Results(study.name, whole, rows), results)


def write_results(found: Results, results: pathlib.Path) -> None:
    """Writes a study's rows, measures, plan and figures, in place of those that are there."""
    folder = results / found.name
    of_artefact: dict[str, Rows] = {}
    for row in found.rows:
        of_artefact.setdefault(row["artefact"], []).append(row)
    (folder / _FOLDER).mkdir(parents=True, exist_ok=True)
    store.write_json(folder / _PLAN, found.plan)
    for artefact, rows in of_artefact.items():
        store.write_text(folder / _FOLDER / f"{artefact}.jsonl", format_rows(rows))
    for file in (folder / _FOLDER).glob("*.jsonl"):
        if file.stem not in of_artefact:
            file.unlink()
    (folder / _ONE_FILE).unlink(missing_ok=True)
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


def _kept(study: Study, results: pathlib.Path) -> dict[str, dict]:
    """{unit: {"seconds", "rows"}} of what RESULTS has, if under the study's settings and plan."""
    there = _read_study(results / study.name)
    if there is None or _differing(study, there):
        return {}
    seconds = {one["unit"]: one["seconds"] for one in there.plan["units"]}
    rows: dict[str, Rows] = {}
    for row in there.rows:
        rows.setdefault(row["unit"], []).append(row)
    return {
        unit: {"seconds": seconds[unit], "rows": some}
        for unit, some in rows.items()
        if seconds.get(unit) is not None
    }


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
    """Draws the figures of all artefacts that have rows; returns their file names."""
    return [
        name
        for artefact, rows in by_artefact(results)
        for name in ARTEFACTS[artefact].draw(rows, folder)
    ]


def by_artefact(study: Results) -> Iterator[tuple[str, Rows]]:
    """(artefact, its rows) for the artefacts whose units are all done."""
    for name in ARTEFACTS:
        mine = [unit for unit in study.plan["units"] if artefact_of(unit["unit"]) == name]
        rows = [row for row in study.rows if row["artefact"] == name]
        if mine and rows and all(unit["seconds"] is not None for unit in mine):
            yield name, rows


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
