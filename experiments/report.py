"""From rows to the report: RESULTS/REPORT.md, and for each study its rows, measures and figures.

python -m experiments.report experiments/results     # rebuild from the rows

RESULTS/STUDY/rows.jsonl     one measured row a line, with settings, seeds, data, code, device;
                             what rows have alike is said once (`experiments.shared_rows`)
RESULTS/STUDY/measures.csv   the same numbers, one a line, with their intervals; not in git
RESULTS/STUDY/plan.json      every unit, expected and measured time
RESULTS/STUDY/*.png          figures
"""

import csv
import io
import json
import pathlib
import re
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from experiments.paper.artefact import UNTESTED, Claim
from experiments.paper.registry import ARTEFACTS
from experiments.row_files import read_rows
from experiments.shared_rows import format_rows
from experiments.study import Rows, Study, Unit, read_units
from uatmc_jax import store
from uatmc_jax.errors import InputError
from uatmc_jax.report.text import table
from uatmc_jax.settings import to_dict

REPORT_FILE = "REPORT.md"
# Of the page before the details: at most so many claims, those on defences and why first.
_SUMMARY_LINES = 25
_RANK = {"5.2": 0, "why": 1, "3.2,": 2, "3.2": 2, "5.3,": 3, "B.4": 4}
_ROWS = "*/rows.jsonl"
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
    """Writes what is done of a study, if anything is: rows, measures, plan and figures."""
    done = read_units(study, units)
    rows = [row for found in done.values() for row in found["rows"]]
    if not rows:
        return
    plan = {
        "settings": to_dict(study.settings),
        "plan": to_dict(study.plan),
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
    plan["settings"]["data"]["root"] = ""  # where the data lie is the machine's business
    for row in rows:
        if "trained_with" in row:
            row["trained_with"]["data"]["root"] = ""
            row["trained_with"]["pretrain"]["init_from"] = ""
    folder = results / study.name
    folder.mkdir(parents=True, exist_ok=True)
    store.write_text(folder / "rows.jsonl", format_rows(rows))
    store.write_text(folder / "measures.csv", format_measures(rows))
    store.write_json(folder / "plan.json", plan)
    draw(Results(study.name, plan, rows), folder)


def draw(results: Results, folder: pathlib.Path) -> list[str]:
    """Draws the figures of all artefacts that have rows; returns their file names."""
    return [
        name
        for artefact, rows in _by_artefact(results)
        for name in ARTEFACTS[artefact].draw(rows, folder)
    ]


def write_report(results: pathlib.Path) -> None:
    """Writes REPORT.md from what is in the folder, if anything is."""
    if any(results.glob(_ROWS)):
        store.write_text(results / REPORT_FILE, format_report(read_results(results), results))


def read_results(results: pathlib.Path) -> list[Results]:
    """All studies in the folder, by name.

    Raises:
      InputError: there is none, or a file's rows are not as `row_files.read_rows` wants them.
    """
    found = []
    for file in sorted(results.glob(_ROWS)):
        rows = read_rows(file, _FIELDS)
        plan = json.loads((file.parent / "plan.json").read_text(encoding="utf-8"))
        found.append(Results(file.parent.name, plan, rows))
    if not found:
        raise InputError(
            f"{results}: no STUDY/rows.jsonl there. Run python -m experiments.reproduce first."
        )
    return found


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


def format_report(studies: Sequence[Results], folder: pathlib.Path | None = None) -> str:
    """The report; a pure function of the rows, the plans and the figures there are.

    Args:
      studies: what was measured.
      folder: of the figures; None to leave them out.
    """
    lines = [
        "# UAT-MC, reproduced",
        "",
        "Made by `python -m experiments.reproduce`, rebuilt by `python -m experiments.report`; "
        "every number is in a row of STUDY/rows.jsonl, with its settings, seeds, code and data.",
        "",
        "The paper's numbers were got with 4096-d and 384-d features. Where ours were got with "
        "other features, only comparisons between rows can be compared, never a number of ours "
        "with one of theirs. [Fidelity](../../docs/fidelity.md) says what is exact and what not.",
        "",
        "## In one page",
        "",
        *_summary(studies),
        "",
        "## On what",
        "",
        *_conditions(studies),
        "",
        "## The paper's claims",
        "",
        "A claim about an effect holds if its 95 % bootstrap interval over targets (in brackets) "
        "lies above none, does not hold if it lies at or below it, and is not decided otherwise; "
        "claims with a threshold name it and go by point values. In braces the interval over "
        "target seeds, which with three seeds is their range. A claim about a defence needs more: "
        "an interval over training seeds and targets together, and every training seed on the "
        "same side; of one training seed it is not decided.",
        "",
        *_claims(studies),
    ]
    for study in studies:
        lines += ["", f"## {study.name}"]
        for name, rows in _by_artefact(study):
            artefact = ARTEFACTS[name]
            lines += ["", f"### {artefact.title}", "", *artefact.section(rows)]
            if folder is not None:
                for figure in _figures(folder / study.name, name):
                    lines += ["", f"![{artefact.title}]({study.name}/{figure})"]
    lines += ["", "## The plan", "", *_plan(studies)]
    return "\n".join(lines) + "\n"


# Figures are named after the paper's, artefacts after the first of what they make.
_FIGURES = {"table2": "table2.png", "table4": "figure5.png"}


def _figures(folder: pathlib.Path, artefact: str) -> list[str]:
    name = _FIGURES.get(artefact, f"{artefact}.png")
    return [name] if (folder / name).exists() else []


def _conditions(studies: Sequence[Results]) -> list[str]:
    body = []
    for study in studies:
        first, settings = study.rows[0], study.plan["settings"]
        devices = sorted({row["device"]["kind"] for row in study.rows})
        sources = sorted({row["code"]["sources"] for row in study.rows})
        stages = [settings[s]["epochs"] for s in ("pretrain", "adversarial")]
        body.append(
            [
                study.name,
                f"{first['dataset']['name']} {first['dataset']['fingerprint']}",
                ", ".join(map(str, _training_seeds(study))),
                f"{stages[0]} + {stages[1]}",
                str(settings["pretrain"]["nce_items"] or "all"),
                ", ".join(map(str, study.plan["plan"]["target_seeds"])),
                str(study.plan["plan"]["targets"]),
                ", ".join(devices),
                ", ".join(study.plan["overrides"]) or "none",
                ", ".join(sources),
            ]
        )
    header = ["study", "data, fingerprint", "training seeds", "epochs at most", "InfoNCE items"]
    header += ["target seeds (Table 2)", "targets a seed", "device"]
    header += ["other settings than the config file's", "sources"]
    return table(header, body, left=2)


def _training_seeds(study: Results) -> list[int]:
    """Of the trainings that are done, the settings' own first."""
    own = study.plan["settings"]["seed"]
    trained = [row for row in study.rows if row["artefact"] == "training"]
    return list(dict.fromkeys([own, *(r["seed"] for r in trained if "seed" in r)]))


def _all_claims(studies: Sequence[Results]) -> list[tuple[str, Claim]]:
    """(study, claim) of every artefact whose units are all done."""
    return [
        (study.name, claim)
        for study in studies
        for name, rows in _by_artefact(study)
        for claim in ARTEFACTS[name].claims(rows)
    ]


def _summary(studies: Sequence[Results]) -> list[str]:
    """The verdicts alone, a line a claim; where they differ by setting, each of them."""
    verdicts: dict[tuple[str, str], dict[str, list[str]]] = {}
    for study, claim in _all_claims(studies):
        # What stands in parentheses says under which setting.
        text = re.sub(r" \([^()]*\)(?=\.$)", "", claim.text)
        found = verdicts.setdefault((claim.where, text), {}).setdefault(study, [])
        found += [claim.verdict] if claim.verdict not in found else []
    names = [study.name for study in studies]
    order = sorted(verdicts, key=lambda key: _RANK.get(key[0].partition(" ")[0], len(_RANK)))
    body = [
        [where, text, *(" / ".join(verdicts[where, text].get(name, [])) for name in names)]
        for where, text in order[:_SUMMARY_LINES]
    ]
    more = len(order) - len(body)
    return [
        *table(["section", "claim", *names], body, left=2 + len(names)),
        *(["", f"{more} more claims are below, with all evidence."] if more > 0 else []),
    ]


def _claims(studies: Sequence[Results]) -> list[str]:
    found = _all_claims(studies)
    body = [
        [c.where, c.text, name, f"**{c.verdict}**", c.evidence + (f" ({c.why})" if c.why else "")]
        for name, c in found
    ]
    order = {text: n for n, text in reversed(list(enumerate(row[1] for row in body)))}
    body.sort(key=lambda row: order[row[1]])
    if not any(study.rows[0]["dataset"]["name"] == "clothing" for study in studies):
        why = "its features are not at hand; configs/clothing_*.py are ready for them"
        body.append(["5.2, B", "All of the above on Clothing.", "", f"**{UNTESTED}**", why])
    return table(["section", "claim", "study", "verdict", "evidence"], body, left=5)


def _plan(studies: Sequence[Results]) -> list[str]:
    lines = []
    for study in studies:
        units = study.plan["units"]
        took = sum(unit["seconds"] or 0 for unit in units)
        left = sum(unit["expected_seconds"] for unit in units if unit["seconds"] is None)
        lines += [
            f"{study.name}: {took / 60:,.1f} minutes measured"
            + (f", about {left / 60:,.0f} minutes not run yet." if left else ", all run."),
            "",
        ]
        body = [
            [
                unit["unit"],
                f"{unit['expected_seconds']:,}",
                "not run" if unit["seconds"] is None else f"{unit['seconds']:,.1f}",
            ]
            for unit in units
        ]
        lines += [*table(["unit", "expected s", "measured s"], body), ""]
    return lines[:-1]


def _by_artefact(study: Results) -> Iterator[tuple[str, Rows]]:
    """(artefact, its rows) for the artefacts whose units are all done."""
    units = [unit for unit in study.plan["units"]]
    for name in ARTEFACTS:
        mine = [unit for unit in units if unit["unit"].partition("/")[0] == name]
        rows = [row for row in study.rows if row["artefact"] == name]
        if mine and rows and all(unit["seconds"] is not None for unit in mine):
            yield name, rows


def main(arguments: Sequence[str]) -> int:
    """Rebuilds measures, figures and report of the folder named."""
    try:
        if len(arguments) != 1:
            raise InputError("name the folder of the results, for example experiments/results.")
        folder = pathlib.Path(arguments[0])
        for study in read_results(folder):
            store.write_text(folder / study.name / "measures.csv", format_measures(study.rows))
            draw(study, folder / study.name)
        write_report(folder)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
