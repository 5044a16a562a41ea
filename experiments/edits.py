"""Edits of real pictures and titles against several models: the table of docs/edits.md.

python -m experiments.edits --runs plain=RUN:pretrain/best,uat_mc=RUN:adversarial/latest \\
    --images photos --items items.csv --sample 50 --out edits_of_three

Every model's targets are the same, a few of each model's at a time, so that what is written
after any of them compares like with like. Interrupted, the same command goes on.

    OUT/rows.jsonl      a row for each model, target and edit
    OUT/EDITS.md        means with 95 % intervals over the targets that all models have
"""

import json
import pathlib
import sys
from collections.abc import Mapping

from absl import flags

from uatmc_jax.cli import start
from uatmc_jax.edits import EditSettings, open_sources, run_edits
from uatmc_jax.edits.judges import require_judge
from uatmc_jax.edits.summary import summarize
from uatmc_jax.errors import InputError
from uatmc_jax.opened import open_run
from uatmc_jax.report.text import table
from uatmc_jax.store import write_text

_RUNS = flags.DEFINE_list("runs", None, "NAME=RUN:STAGE/WHICH, with commas.", required=True)
_IMAGES = flags.DEFINE_string("images", None, "Folder of the pictures.", required=True)
_ITEMS = flags.DEFINE_string("items", None, "Table of the items.", required=True)
_OUT = flags.DEFINE_string("out", None, "Folder to write to.", required=True)
_SAMPLE = flags.DEFINE_integer("sample", 50, "Targets of the less popular half.", lower_bound=1)
_SERVING = flags.DEFINE_enum("serving", "full", ["own_row", "full"], "What is computed anew.")
_EVERY = flags.DEFINE_integer("every", 4, "Targets of a model in a turn.", lower_bound=1)
_YARDSTICK = flags.DEFINE_integer("yardstick", 20, "Items edited harmlessly.", lower_bound=1)


def main(argv: list[str]) -> None:
    """Flags in, rows and a table out."""
    if len(argv) > 1:
        raise InputError(f"unexpected arguments: {' '.join(argv[1:])}. Flags start with --.")
    opened = {}
    for given in _RUNS.value:
        name, folder, checkpoint = _parsed(given)
        opened[name] = open_run(folder, checkpoint)
    settings = EditSettings(
        images=pathlib.Path(_IMAGES.value),
        items=pathlib.Path(_ITEMS.value),
        sample=_SAMPLE.value,
        serving=_SERVING.value,
        yardstick=_YARDSTICK.value,
    )
    for run in opened.values():
        require_judge(run.model, _SERVING.value, run.data.n_items)
    first = next(iter(opened.values()))
    sources = open_sources(settings, first.data, first.settings.data)
    out = pathlib.Path(_OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    for limit in range(_EVERY.value, len(sources.items) + _EVERY.value, _EVERY.value):
        results = {
            name: run_edits(settings, run, sources=sources, limit=limit)
            for name, run in opened.items()
        }
        write_text(out / "rows.jsonl", rows_of(results))
        write_text(out / "EDITS.md", format_models(results))
        print(
            f"{min(limit, len(sources.items))} targets of {len(results)} models done",
            file=sys.stderr,
        )
    print((out / "EDITS.md").read_text(encoding="utf-8"))


def _parsed(given: str) -> tuple[str, str, str]:
    name, equals, place = given.partition("=")
    folder, colon, checkpoint = place.rpartition(":")
    if not (name and equals and folder and colon and checkpoint):
        raise InputError(f"--runs: {given!r} is not NAME=RUN:STAGE/WHICH.")
    return name, folder, checkpoint


def rows_of(results: Mapping[str, Mapping]) -> str:
    """A line of JSON for each model, target and edit, what was before among them."""
    lines = []
    for name, result in results.items():
        for row in result["rows"]:
            shared = {"model": name, "item": row["item"], "hr_before": row["hr_before"]}
            lines += [json.dumps(shared | edit) for edit in row["edits"]]
    return "".join(line + "\n" for line in lines)


def format_models(results: Mapping[str, Mapping]) -> str:
    """Edits by models: means over the targets that all have, with intervals over these."""
    shared = set.intersection(*({row["item"] for row in one["rows"]} for one in results.values()))
    summaries = {
        name: summarize([row for row in one["rows"] if row["item"] in shared])
        for name, one in results.items()
    }
    each = list(summaries.values())
    rows = [["before", *(_mean(one["before"]) for one in each)]]
    for edit in each[0]["edits"]:
        cells = [_mean(one["edits"][edit]["hr"]) for one in each]
        jpeg = [one["edits"][edit].get("afterwards") for one in each]
        kept = [f" ({one['JPEG 85']['value']:.3f})" if one else "" for one in jpeg]
        rows.append([edit, *(cell + more for cell, more in zip(cells, kept, strict=True))])
    for name in dict.fromkeys(name for one in each for name in one["against"]):
        cells = [one["against"].get(name) for one in each]
        rows.append([name, *("" if cell is None else _mean(cell) for cell in cells)])
    for edit in each[0]["edits"]:
        reach = [one["edits"][edit]["reach"] for one in each]
        rows.append([f"reach, {edit}", *("" if r is None else f"{r['value']:.2f}" for r in reach)])
    for edit in each[0]["edits"]:
        seconds = [one["edits"][edit]["seconds"]["value"] for one in each]
        rows.append([f"seconds, {edit}", *(f"{second:.1f}" for second in seconds)])
    serving = ", ".join(dict.fromkeys(one["serving"] for one in results.values()))
    first = f"{len(shared)} targets, serving {serving} (after JPEG 85)"
    return "\n".join(table([first, *results], rows)) + "\n"


def _mean(entry: Mapping) -> str:
    low, high = entry["over_targets"]
    return f"{entry['value']:.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    start(main, "the same command goes on with the next target")
