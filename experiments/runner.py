"""The plan of a reproduction, and its execution: one bar, nothing twice, safe to interrupt."""

import contextlib
import dataclasses
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from tqdm import tqdm

from experiments import report
from experiments.paper.artefact import Artefact
from experiments.paper.registry import ARTEFACTS
from experiments.study import (
    TRAINING,
    Rows,
    Study,
    Unit,
    artefact_of,
    do_unit,
    of_seed,
    read_unit,
    unit_file,
)
from experiments.study_files import write_study
from experiments.variants import training_units
from uatmc_jax.cli import EXIT_INTERRUPTED
from uatmc_jax.errors import InputError, Interrupted, InUseError
from uatmc_jax.owner import owned

WORKERS = "Processes that share the work, as on a GPU with many cores; 0 helps another command."
_DONE, _TAKEN, _EARLY = "done", "taken", "early"
_WAIT_SECONDS = 1.0


def units_of(study: Study, artefacts: Sequence[Artefact]) -> list[Unit]:
    """Everything the artefacts need on one study, trainings first."""
    wanted = [variant for artefact in artefacts for variant in artefact.trainings(study)]
    seeded = [variant for artefact in artefacts for variant in artefact.seeded(study)]
    trainings = training_units(study, wanted + seeded) if wanted or seeded else []
    for seed in study.seeds[1:] if seeded else ():
        trainings += training_units(of_seed(study, seed), seeded)
    return trainings + [unit for artefact in artefacts for unit in artefact.units(study)]


def run_studies(
    studies: Sequence[Study],
    artefacts: Sequence[Artefact],
    results: pathlib.Path | None,
    minutes: float | None = None,
) -> bool:
    """Does what is not done yet and writes the results and the report.

    Args:
      studies: in order.
      artefacts: to compute.
      results: folder of the report; None where another process writes it.
      minutes: at most about this long; a unit expected to take longer than what
        is left is not begun, nor anything after it. None for no limit.

    Returns:
      Whether everything is done.

    Raises:
      InputError: anything the user can mend.
      Interrupted: Ctrl-C; the same call goes on.
    """
    plan = [(study, unit) for study in studies for unit in units_of(study, artefacts)]
    try:
        return run_units(plan, minutes)
    finally:
        # What is done is in the report even if the rest is not, and whatever was asked for.
        if results is not None:
            for study in studies:
                whole = units_of(study, list(ARTEFACTS.values()))
                # Fewer artefacts train fewer models together, in units of other names.
                asked = {unit.name: unit for unit in units_of(study, artefacts)}
                others = asked.keys() - {unit.name for unit in whole}
                units = [asked[name] for name in asked if name in others] + whole
                for note in write_study(study, units, results):
                    print(note, file=sys.stderr)
            report.write_report(results)


def run_units(plan: Sequence[tuple[Study, Unit]], minutes: float | None = None) -> bool:
    """Does what is not done yet, under one bar; `minutes` and what is raised as above.

    Several processes may be given one plan and folder: each takes what no other has taken,
    once the trainings it needs are there, and all end when everything is done.

    Returns:
      Whether everything is done.
    """
    left = [one for one in plan if read_unit(*one) is None]
    total = sum(unit.seconds for _, unit in left)
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    bar_format = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}, expected in all {total:.0f} s"
    with tqdm(total=total, bar_format=bar_format, disable=None, dynamic_ncols=True) as bar:
        while left:
            states = []
            for study, unit in left:
                if deadline is not None and time.monotonic() + unit.seconds > deadline:
                    return False
                states.append(_take(study, unit, plan, bar))
            if _DONE not in states:
                if _TAKEN not in states:  # what they need is in no plan: they say what it is
                    _run(*left[0], bar)
                time.sleep(_WAIT_SECONDS)
            left = [one for one in left if read_unit(*one) is None]
    return True


def run_and_write(
    plan: Sequence[tuple[Study, Unit]],
    minutes: float | None,
    measured: str,
    write: Callable[[Rows], None],
) -> bool:
    """`run_units`, and the rows of what is measured then written, also of a part of the plan.

    Args:
      plan: of `run_units`.
      minutes: the same.
      measured: how the names of units with rows begin.
      write: of their rows; not called without any.
    """
    try:
        return run_units(plan, minutes)
    finally:
        done = [read_unit(*one) for one in plan if one[1].name.startswith(measured)]
        rows = [row for found in done if found for row in found["rows"]]
        if rows:
            write(rows)


def restricted(plan: Any, field: str, only: Sequence[str]) -> Any:
    """The plan with no others of a field's named entries than these; all for none.

    Args:
      plan: a record whose `field` is {name: entry}.
      field: the field.
      only: names, as --only has them.

    Raises:
      InputError: a name that is not there.
    """
    entries = getattr(plan, field)
    for name in only:
        if name not in entries:
            raise InputError(f"--only {name}: the plan has {', '.join(entries)}.")
    kept = {name: entry for name, entry in entries.items() if not only or name in only}
    return dataclasses.replace(plan, **{field: kept})


def run_and_tell(run: Callable[[], bool], workers: int, page: pathlib.Path) -> int:
    """Runs a plan with others' help and says what came of it; the command's exit status.

    Args:
      run: to the end, or as far as it may: whether all is done.
      workers: as `WORKERS` says.
      page: what is written.
    """
    try:
        with helpers(workers - 1):
            complete = run()
    except Interrupted as stop:
        print(f"{stop}; saved. The same command goes on with it.", file=sys.stderr)
        return EXIT_INTERRUPTED
    if not complete:
        print("stopped for --minutes; the same command goes on", file=sys.stderr)
    if page.exists():
        print(f"written to {page}")
    return 0


@contextlib.contextmanager
def helpers(count: int) -> Iterator[None]:
    """So many more processes that run this process's own command, beside it, until it is done.

    They share its plan and folder and write no report. A GPU's memory is shared by those who
    ask for it as they go: XLA_PYTHON_CLIENT_PREALLOCATE=false.
    """
    command = [*_own_command(), "--workers=0"]
    processes = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(count)]
    try:
        yield
    except BaseException:
        for process in processes:
            process.send_signal(signal.SIGINT)
        raise
    finally:
        for process in processes:
            process.wait()


def _own_command() -> list[str]:
    module = sys.modules["__main__"].__spec__
    name = (module.name if module else "").removesuffix(".__main__")
    return [sys.executable, "-m", name, *sys.argv[1:]]


def _take(study: Study, unit: Unit, plan: Sequence[tuple[Study, Unit]], bar: tqdm) -> str:
    """Does a unit if it may: `_DONE`, `_TAKEN` by another process, or `_EARLY`."""
    if not all(file.exists() for file in unit.needs):
        return _EARLY
    file = unit_file(study, unit)
    try:
        with _compiling(study, unit, plan), owned(file.with_suffix(".lock")):
            if read_unit(study, unit) is None:
                _run(study, unit, bar)
        return _DONE
    except InUseError:  # the unit's lock, or that of a run whose attacks another unit makes
        return _TAKEN


@contextlib.contextmanager
def _compiling(study: Study, unit: Unit, plan: Sequence[tuple[Study, Unit]]) -> Iterator[None]:
    """Of measurements of one kind, whose programs are alike, the first is made alone.

    The others then find its programs in the compilation cache, if there is one; begun at once
    they would compile each of them side by side. Trainings are not held up: they run for longer
    than they compile.

    Raises:
      InUseError: another process makes the first of them.
    """
    kind = artefact_of(unit.name)
    alone = bool(jax.config.jax_compilation_cache_dir) and kind != TRAINING
    if alone and not any(
        unit_file(*one).exists()
        for one in plan
        if one[0].folder == study.folder and artefact_of(one[1].name) == kind
    ):
        with owned(study.folder / "units" / f"{kind}.compiling"):
            yield
    else:
        yield


def _run(study: Study, unit: Unit, bar: tqdm) -> None:
    bar.set_description(f"{study.name} {unit.name}")
    start = bar.n

    def tell(share: float) -> None:
        bar.n = start + min(share, 1.0) * unit.seconds
        bar.refresh()

    done = do_unit(study, unit, tell)
    tell(1.0)
    if bar.disable:
        print(f"{study.name} {unit.name}: {done['seconds']:,.0f} s", flush=True)


def format_units(plan: Sequence[tuple[Study, Unit]]) -> str:
    """The plan as text: what is done and how long it took, what is left and may take."""
    lines, left = [], 0.0
    for study, unit in plan:
        done = read_unit(study, unit)
        took = f"done in {done['seconds']:,.0f} s" if done else "to do"
        left += 0.0 if done else unit.seconds
        lines.append(f"{study.name:<16} {unit.name:<28} expected {unit.seconds:>6,.0f} s  {took}")
    return "\n".join([*lines, f"left: about {left / 60:,.0f} minutes on two CPU cores"])
