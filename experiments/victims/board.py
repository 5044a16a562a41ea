"""The comparison's rows, page and figures on disk; `experiments.victims` is its command line."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from experiments import row_files, runner
from experiments.study import Rows, Study, Unit
from experiments.victims import figure, page
from experiments.victims.measure import evaluation_of
from uatmc_jax import store
from uatmc_jax.errors import InputError

PAGE = "VICTIMS.md"


def read_rows(file: pathlib.Path) -> list[dict]:
    """A data set's rows; errors as of `row_files.read_rows`."""
    return row_files.read_rows(file, page.FIELDS, page.NULLABLE)


def key(row: Mapping[str, Any]) -> tuple:
    """What a row is known by."""
    return row["victim"], row["variant"], row["seed"], row["serving"]


def rebuild(results: pathlib.Path) -> None:
    """Page and figures from the rows that are there.

    Raises:
      InputError: no rows, one that lacks a field, or rows that cannot stand beside each other.
    """
    files = sorted(results.glob("*.jsonl"))
    if not files:
        raise InputError(f"{results}: no DATA.jsonl. Run the comparison first, or name --results.")
    found = {file.stem: read_rows(file) for file in files}
    text = page.page(found)  # raises before anything is written
    for name, rows in found.items():
        figure.draw(results / f"{name}.png", name, rows)
    store.write_text(results / PAGE, text)


def check_rows(study: Study, results: pathlib.Path) -> None:
    """Raises InputError if the results hold rows that the plan's could not stand beside."""
    file = results / f"{study.dataset.name}.jsonl"
    if not file.exists():
        return
    ours = evaluation_of(study.plan.board)
    for number, row in enumerate(read_rows(file), start=1):
        theirs = row["evaluation"]
        wrong = [f"evaluation ({name})" for name in ours if theirs.get(name) != ours[name]]
        if row["dataset"]["fingerprint"] != study.dataset.fingerprint:
            wrong.append("dataset")
        if wrong:
            raise InputError(
                f"{file}, line {number}: victim '{row['victim']}' has another {wrong[0]} than this "
                "plan. Name another --results."
            )


def run_board(
    plan: Sequence[tuple[Study, Unit]], results: pathlib.Path | None, minutes: float | None = None
) -> bool:
    """Does what is not done yet and writes rows, page and figure, also of a part.

    Args:
      plan: of one data set; see `runner.run_units`.
      results: where to; None where another process writes.
      minutes: begin nothing that would not end in this time.

    Returns:
      Whether everything is done.
    """
    if results is None:
        return runner.run_units(plan, minutes)
    check_rows(plan[0][0], results)

    def write(rows: Rows) -> None:
        file = results / f"{plan[0][0].dataset.name}.jsonl"
        there = read_rows(file) if file.exists() else []
        row_files.write_rows(file, rows, there, key)
        rebuild(results)

    return runner.run_and_write(plan, minutes, "measured/", write)
