"""Every table and figure of the paper, on the data it is given, with a verdict beside each claim.

    python -m experiments.reproduce --quick                       # minutes, synthetic data
    python -m experiments.reproduce --config configs/baby_vbpr.py # one data set and victim
    python -m experiments.reproduce --all --list                  # the plan, nothing run
    python -m experiments.reproduce --config configs/baby_vbpr.py --only table2,figure3
    XLA_PYTHON_CLIENT_PREALLOCATE=false python -m experiments.reproduce --all --workers 12

The report is RESULTS/REPORT.md. Runs and measurements stay in OUT; the same
command goes on with what is there, and computes nothing twice.
"""

import functools
import importlib
import pathlib
from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from configs import reproduce as plans
from experiments import plots, runner
from experiments.paper.artefact import Artefact
from experiments.paper.registry import ARTEFACTS
from experiments.paper.trainings import paper_study
from experiments.report import REPORT_FILE
from experiments.study import Plan, Study
from experiments.study_files import read_results, require_same
from uatmc_jax.cli import start
from uatmc_jax.data import open_dataset
from uatmc_jax.errors import InputError
from uatmc_jax.settings import (
    Settings,
    from_config,
    from_config_flag,
    from_flag,
    from_values,
    to_dict,
)
from uatmc_jax.training.folder import differences

# What --all runs: the paper's data sets and victims, as far as they have features, and the plan
# of each unless --plan names one.
ALL = {
    "baby_vbpr": "cpu",
    "sports_vbpr": "cpu",
    "baby_mmgcn": "cpu_mmgcn",
    "sports_mmgcn": "cpu_mmgcn",
}

GO_ON = "the same command goes on with what is there"

_CONFIG = config_flags.DEFINE_config_file("config", None, "The training experiment.")
_PLAN = config_flags.DEFINE_config_file(
    "plan", None, "How much is computed, by default reproduce; FILE:published for that preset."
)
_QUICK = flags.DEFINE_bool("quick", False, "The quick plan on configs/synthetic_vbpr.py.")
_ALL = flags.DEFINE_bool("all", False, f"All of {', '.join(ALL)}.")
_OUT = flags.DEFINE_string("out", "runs/reproduce", "Where runs and measurements go.")
_RESULTS = flags.DEFINE_string("results", None, "Where the report goes; by default OUT/results.")
_ONLY = flags.DEFINE_list("only", [], f"Artefacts: {', '.join(ARTEFACTS)}; default all.")
_MINUTES = flags.DEFINE_float("minutes", None, "Begin nothing that would not end in this time.")
_WORKERS = flags.DEFINE_integer("workers", 1, runner.WORKERS, lower_bound=0)
_LIST = flags.DEFINE_bool("list", False, "Print the plan and stop.")


def _studies() -> list[Study]:
    if _QUICK.value + _ALL.value + (_CONFIG.value is not None) != 1:
        raise InputError("give one of --config FILE, --all and --quick.")
    given, _ = from_config_flag(Plan, _PLAN)
    is_default = given == from_values(Plan, plans.get_config())
    if _QUICK.value and not is_default:
        raise InputError(
            "--quick has a plan of its own. Instead: --config configs/synthetic_vbpr.py "
            "--plan configs/reproduce.py:quick --plan.FIELD=VALUE."
        )
    presets = ALL if _ALL.value else {"synthetic_vbpr": "quick"}
    named: dict[str, tuple[Settings, Plan]] = {}
    if _CONFIG.value is not None:
        settings, file = from_flag(_CONFIG)
        named[file.stem] = settings, given
    else:
        for name, preset in presets.items():
            plan = from_values(Plan, plans.get_config(preset)) if is_default else given
            named[name] = _own_settings(name), plan
    out = pathlib.Path(_OUT.value)
    return [
        paper_study(
            name, settings, plan, out, open_dataset(settings.data), _overrides(name, settings)
        )
        for name, (settings, plan) in named.items()
    ]


def _own_settings(name: str) -> Settings:
    return from_config(importlib.import_module(f"configs.{name}").get_config())


def _overrides(name: str, settings: Settings) -> list[str]:
    """ "field=value" of the settings in which a run departs from its config file."""
    try:
        own = to_dict(_own_settings(name))
    except ImportError:
        return [f"config file {name}.py, not of this repository"]
    chosen, found = to_dict(settings), []
    for path in differences(own, chosen):
        value = functools.reduce(lambda section, key: section[key], path.split("."), chosen)
        if path != "data.root":
            found.append(f"{path}={value}")
    return found


def _artefacts(only: Sequence[str]) -> list[Artefact]:
    for name in only:
        if name not in ARTEFACTS:
            raise InputError(f"--only {name}: wanted some of {', '.join(ARTEFACTS)}.")
    return [artefact for name, artefact in ARTEFACTS.items() if not only or name in only]


def main(argv: list[str]) -> int:
    """Flags in, a report out."""
    if len(argv) > 1:
        raise InputError(f"unexpected arguments: {' '.join(argv[1:])}. Flags start with --.")
    artefacts = _artefacts(_ONLY.value)
    plots.pyplot()  # before any long work
    studies = _studies()
    if _LIST.value:
        plan = [(study, unit) for study in studies for unit in runner.units_of(study, artefacts)]
        print(runner.format_units(plan))
        return 0
    results = pathlib.Path(_RESULTS.value or pathlib.Path(_OUT.value) / "results")
    mine = results if _WORKERS.value else None
    if mine:
        read_results(mine)  # what is damaged is said before any long work
    if _RESULTS.value and mine:
        for study in studies:
            require_same(study, mine)
    return runner.run_and_tell(
        lambda: runner.run_studies(studies, artefacts, mine, _MINUTES.value),
        _WORKERS.value,
        results / REPORT_FILE,
    )


if __name__ == "__main__":
    start(main, GO_ON, {"plan": "reproduce"})
