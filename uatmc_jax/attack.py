"""Attacks a trained model and says how far each item could be promoted, and how far it cannot.

python -m uatmc_jax.attack --workdir runs/baby_vbpr
python -m uatmc_jax.attack --workdir runs/baby_vbpr --config configs/attack.py:paper
python -m uatmc_jax.attack --workdir runs/baby_vbpr --checkpoints adversarial/best --attacks pgd
python -m uatmc_jax.attack --workdir runs/baby_vbpr --config configs/attack.py:suite --verdict
python -m uatmc_jax.attack --workdir runs/baby_vbpr --items B004203QQ4 --items "A title, in full"
"""

import dataclasses
import pathlib
import sys
from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from uatmc_jax import checkpoint
from uatmc_jax.benchmark.files import FOLDER
from uatmc_jax.benchmark.run import run_attacks
from uatmc_jax.benchmark.suite import transfers
from uatmc_jax.benchmark.verdict import run_verdicts
from uatmc_jax.cli import start
from uatmc_jax.errors import InputError
from uatmc_jax.host_flags import join_as_flagged
from uatmc_jax.hosts import writes
from uatmc_jax.opened import open_run, open_runs
from uatmc_jax.report import format_attacks
from uatmc_jax.report.attack import format_items, format_verdicts
from uatmc_jax.settings import AttackRunSettings, from_config_flag

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the training run to attack.")
_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "The evaluation, by default configs/attack.py; attack:paper or attack:suite for that preset.",
)
_CHECKPOINTS = flags.DEFINE_list(
    "checkpoints", [], "STAGE/WHICH of those to attack; by default those the run reports."
)
_ATTACKS = flags.DEFINE_list("attacks", [], "Names of the config's attacks to run; default all.")
_ITEMS = flags.DEFINE_multi_string(
    "items",
    [],
    "What to attack: shop ids, titles or '#908' for item number 908, with commas between.",
)
_DATA_ROOT = flags.DEFINE_string(
    "data_root", None, "Folder of the data sets, if not where the training run found them."
)
_VERDICT = flags.DEFINE_boolean(
    "verdict",
    False,
    "Judge the attacks together, as configs/attack.py:suite has them: how far the strongest gets, "
    "and whether the model masks its gradients.",
)
_SURROGATES = flags.DEFINE_list(
    "surrogates",
    [],
    "WORKDIR/STAGE/WHICH of models to craft the config's apgd_elu on and transfer it from.",
)


def main(argv: list[str]) -> None:
    """Flags in, one library call, files out."""
    if len(argv) > 1:
        raise InputError(f"unexpected arguments: {' '.join(argv[1:])}. Flags start with --.")
    settings, _ = from_config_flag(AttackRunSettings, _CONFIG)
    if _ITEMS.value:
        settings = _aimed_at(settings, _ITEMS.value)
    named = list(map(_surrogate, _SURROGATES.value))
    surrogates = dict(named)
    if len(surrogates) < len(named):
        raise InputError(
            f"--surrogates {','.join(_SURROGATES.value)}: two of them would have one name, which "
            "is the workdir's last part with stage and which. Rename a workdir."
        )
    if surrogates and "apgd_elu" not in settings.attacks:
        raise InputError(
            "--surrogates: the config has no attack apgd_elu to transfer. Take "
            "--config configs/attack.py:suite."
        )
    if surrogates:
        carried = transfers(settings.attacks["apgd_elu"], tuple(surrogates))
        settings = dataclasses.replace(settings, attacks={**settings.attacks, **carried})
    pairs = [checkpoint.parse(name, "--checkpoints") for name in _CHECKPOINTS.value]
    runs = open_runs(_WORKDIR.value, pairs, data_root=_DATA_ROOT.value)
    options = {
        "only": _ATTACKS.value,
        "surrogates": {
            name: open_run(folder, at, data=runs[0].data)
            for name, (folder, at) in surrogates.items()
        },
    }
    folder, verdicts = f"{_WORKDIR.value}/{FOLDER}", None
    if _VERDICT.value:
        results, contents, verdicts = run_verdicts(settings, runs, **options)
    else:
        results, contents = run_attacks(settings, runs, **options)
    if not writes():
        return
    print(format_attacks(results, contents))
    if verdicts is not None:
        print(format_verdicts(verdicts))
    print(format_items(results, folder))
    print(f"written to {folder}", file=sys.stderr)


def _aimed_at(settings: AttackRunSettings, items: Sequence[str]) -> AttackRunSettings:
    """The evaluation of the items named."""
    if settings.targets.ids:
        raise InputError("--items and config.targets.ids both name items. Give one of them.")
    targets = dataclasses.replace(settings.targets, rule="ids", ids=tuple(items))
    return dataclasses.replace(settings, targets=targets)


def _surrogate(path: str) -> tuple[str, tuple[str, str]]:
    """A surrogate's name, and its run's folder and STAGE/WHICH."""
    parts = pathlib.PurePath(path).parts
    if len(parts) < 3:
        raise InputError(
            f"--surrogates {path}: wanted WORKDIR/STAGE/WHICH, as in runs/other/adversarial/latest."
        )
    folder, stage, which = str(pathlib.PurePath(*parts[:-2])), *parts[-2:]
    return f"{pathlib.PurePath(folder).name}-{stage}-{which}", (folder, f"{stage}/{which}")


if __name__ == "__main__":
    flags.mark_flag_as_required("workdir")
    go_on = "the same command goes on with what is written"
    start(main, go_on, {"config": "attack"}, join=join_as_flagged)
