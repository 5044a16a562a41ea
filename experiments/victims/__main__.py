"""The recommenders people run, side by side: how good, how costly, how far they are promoted.

    python -m experiments.victims --quick                       # two minutes, synthetic data
    python -m experiments.victims --list                        # Baby: what it takes, nothing run
    python -m experiments.victims --only freedom,bm3
    python -m experiments.victims --only freedom --runs freedom=runs/baby_freedom
    python -m experiments.victims --rebuild --results experiments/results/victims

    RESULTS/DATA.jsonl         one row per victim, defence, training seed and policy
    RESULTS/DATA.png           hit rates before and after, and what bounds them
    RESULTS/VICTIMS.md         the tables

Runs and measurements stay in OUT; the same command goes on with what is there.
"""

import pathlib

from absl import flags
from ml_collections import config_flags

from configs import victims as plans
from experiments import plots, runner
from experiments.victims.board import PAGE, rebuild, run_board
from experiments.victims.measure import units_of
from experiments.victims.plan import Comparison, data_settings, given_runs, studies_of
from uatmc_jax.cli import start
from uatmc_jax.data import open_dataset
from uatmc_jax.errors import InputError
from uatmc_jax.settings import from_config_flag, from_values

_PLAN = config_flags.DEFINE_config_file("plan", None, "What is compared.")
_QUICK = flags.DEFINE_bool("quick", False, "The quick plan.")
_OUT = flags.DEFINE_string("out", "runs/victims", "Where runs and measurements go.")
_RESULTS = flags.DEFINE_string("results", None, "Where the page goes; by default OUT/results.")
_ONLY = flags.DEFINE_list("only", [], "Victims to train and measure; all.")
_RUNS = flags.DEFINE_list("runs", [], "VICTIM=FOLDER: trained runs to take as they are.")
_MINUTES = flags.DEFINE_float("minutes", None, "Begin nothing that would not end in this time.")
_WORKERS = flags.DEFINE_integer("workers", 1, runner.WORKERS, lower_bound=0)
_LIST = flags.DEFINE_bool("list", False, "Print the plan and stop.")
_REBUILD = flags.DEFINE_bool("rebuild", False, "Only write page and figures from the rows.")


def _chosen() -> Comparison:
    board, _ = from_config_flag(Comparison, _PLAN)
    if _QUICK.value:
        if board != from_values(Comparison, plans.get_config()):
            raise InputError(
                "--quick has a plan of its own. Instead: --plan configs/victims.py:quick "
                "--plan.FIELD=VALUE."
            )
        board = from_values(Comparison, plans.get_config("quick"))
    return runner.restricted(board, "victims", _ONLY.value)


def main(argv: list[str]) -> int:
    """Flags in, a page out."""
    if len(argv) > 1:
        raise InputError(f"unexpected arguments: {' '.join(argv[1:])}. Flags start with --.")
    plots.pyplot()  # before any long work
    results = pathlib.Path(_RESULTS.value or pathlib.Path(_OUT.value) / "results")
    if _REBUILD.value:
        rebuild(results)
        print(f"written to {results / PAGE}")
        return 0
    board = _chosen()
    given = given_runs(board, _RUNS.value)
    dataset = open_dataset(data_settings(board))
    studies = studies_of(board, pathlib.Path(_OUT.value), dataset, given)
    plan = [(study, unit) for study in studies for unit in units_of(study)]
    if _LIST.value:
        print(runner.format_units(plan))
        return 0
    mine = results if _WORKERS.value else None
    return runner.run_and_tell(
        lambda: run_board(plan, mine, _MINUTES.value), _WORKERS.value, results / PAGE
    )


if __name__ == "__main__":
    start(main, "the same command goes on with what is there", {"plan": "victims"})
