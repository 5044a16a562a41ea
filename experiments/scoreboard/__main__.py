"""Defences side by side on three axes: accuracy, robustness, use of the content.

    python -m experiments.scoreboard --quick                            # minutes, synthetic data
    python -m experiments.scoreboard --config configs/baby_vbpr.py
    python -m experiments.scoreboard --config configs/baby_vbpr.py --list
    python -m experiments.scoreboard --rebuild --results experiments/results/scoreboard

    RESULTS/STUDY.jsonl        one row per defence and training seed; others' may be added
    RESULTS/STUDY.png          the front
    RESULTS/SCOREBOARD.md      the tables

Runs and measurements stay in OUT; the same command goes on with what is there.
"""

import pathlib

from absl import flags
from ml_collections import config_flags

from configs import scoreboard as boards
from configs import synthetic_vbpr
from experiments import plots, runner
from experiments.scoreboard.board import PAGE, Board, rebuild, run_board, studies_of, units_of
from uatmc_jax.cli import start
from uatmc_jax.data import open_dataset
from uatmc_jax.errors import InputError
from uatmc_jax.settings import Settings, from_config, from_config_flag, from_flag, from_values

_CONFIG = config_flags.DEFINE_config_file("config", None, "The training experiment.")
_BOARD = config_flags.DEFINE_config_file("board", None, "What is compared.")
_QUICK = flags.DEFINE_bool("quick", False, "The quick board on configs/synthetic_vbpr.py.")
_OUT = flags.DEFINE_string("out", "runs/scoreboard", "Where runs and measurements go.")
_RESULTS = flags.DEFINE_string("results", None, "Where the page goes; by default OUT/results.")
_ONLY = flags.DEFINE_list("only", [], "Entries to train and measure, beside the control; all.")
_MINUTES = flags.DEFINE_float("minutes", None, "Begin nothing that would not end in this time.")
_WORKERS = flags.DEFINE_integer("workers", 1, runner.WORKERS, lower_bound=0)
_LIST = flags.DEFINE_bool("list", False, "Print the plan and stop.")
_REBUILD = flags.DEFINE_bool("rebuild", False, "Only write page and figures from the rows.")


def _chosen() -> tuple[str, Settings, Board]:
    if _QUICK.value == (_CONFIG.value is not None):
        raise InputError("give one of --config FILE, --quick and --rebuild.")
    board, _ = from_config_flag(Board, _BOARD)
    if _QUICK.value:
        if board != from_values(Board, boards.get_config()):
            raise InputError(
                "--quick has a board of its own. Instead: --config configs/synthetic_vbpr.py "
                "--board configs/scoreboard.py:quick --board.FIELD=VALUE."
            )
        board = runner.restricted(
            from_values(Board, boards.get_config("quick")), "entries", _ONLY.value
        )
        return "synthetic_vbpr", from_config(synthetic_vbpr.get_config()), board
    settings, file = from_flag(_CONFIG)
    return file.stem, settings, runner.restricted(board, "entries", _ONLY.value)


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
    name, settings, board = _chosen()
    dataset = open_dataset(settings.data)
    studies = studies_of(name, settings, board, pathlib.Path(_OUT.value), dataset)
    plan = [(study, unit) for study in studies for unit in units_of(study)]
    if _LIST.value:
        print(runner.format_units(plan))
        return 0
    mine = results if _WORKERS.value else None
    return runner.run_and_tell(
        lambda: run_board(name, plan, mine, _MINUTES.value), _WORKERS.value, results / PAGE
    )


if __name__ == "__main__":
    start(main, "the same command goes on with what is there", {"board": "scoreboard"})
