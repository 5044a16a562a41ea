"""From rows to the report: RESULTS/REPORT.md, of each study's files (`experiments.study_files`).

python -m experiments.report experiments/results     # rebuild from the rows
"""

import pathlib
import re
import sys
from collections.abc import Sequence

from experiments.paper.artefact import UNTESTED, Claim, figure_of
from experiments.paper.registry import ARTEFACTS
from experiments.study_files import (
    Results,
    by_artefact,
    left_out,
    read_results,
    write_results,
)
from uatmc_jax import store
from uatmc_jax.errors import InputError
from uatmc_jax.report.text import table

REPORT_FILE = "REPORT.md"
# Of the page before the details: at most so many claims, those on defences and why first.
_SUMMARY_LINES = 25
_RANK = {"5.2": 0, "why": 1, "3.2,": 2, "3.2": 2, "5.3,": 3, "B.4": 4}


def write_report(results: pathlib.Path) -> None:
    """Writes REPORT.md from what is in the folder, if anything is."""
    if studies := read_results(results):
        store.write_text(results / REPORT_FILE, format_report(studies, results))


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
        "every number is in a row of STUDY/rows, with its settings, seeds, code and data.",
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
        "same side; of one training seed it is not decided. Where an end of that interval or a "
        "training's own gain is undefined, nobody having the target before, the hit rate won, in "
        "points, decides on the defence, unless the gain goes the other way; shares and rankings "
        "of several gains, of which one is undefined, are of the hit rates won.",
        "",
        *_claims(studies),
    ]
    for study in studies:
        lines += ["", f"## {study.name}"]
        for name, rows in by_artefact(study):
            artefact = ARTEFACTS[name]
            lines += ["", f"### {artefact.title}", "", *artefact.section(rows)]
            if missing := left_out(study, name):
                lines += ["", f"Not measured yet, so not shown: {', '.join(missing)}."]
            if folder is not None:
                for figure in _figures(folder / study.name, name):
                    lines += ["", f"![{artefact.title}]({study.name}/{figure})"]
    lines += ["", "## The plan", "", *_plan(studies)]
    return "\n".join(lines) + "\n"


def _figures(folder: pathlib.Path, artefact: str) -> list[str]:
    name = figure_of(artefact)
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
    """(study, claim) of every artefact, by those of its parts that are done."""
    return [
        (study.name, claim)
        for study in studies
        for name, rows in by_artefact(study)
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


def main(arguments: Sequence[str]) -> int:
    """Rebuilds the files of every study in the folder named, and the report."""
    try:
        if len(arguments) != 1:
            raise InputError("name the folder of the results, for example experiments/results.")
        folder = pathlib.Path(arguments[0])
        studies = read_results(folder)
        if not studies:
            raise InputError(
                f"{folder}: no STUDY/rows/ARTEFACT.jsonl there. "
                "Run python -m experiments.reproduce first."
            )
        for study in studies:
            write_results(study, folder)
        write_report(folder)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
