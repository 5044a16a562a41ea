"""Trains a recommender, hardens it, and evaluates both.

python -m uatmc_jax.train --data data/shop                    # a folder of your own
python -m uatmc_jax.train --data data/shop --model mmgcn
python -m uatmc_jax.train --config configs/baby_vbpr.py       # an experiment
python -m uatmc_jax.train --config configs/baby_vbpr.py --config.adversarial.eps=0.05
python -m uatmc_jax.train --config configs/baby_vbpr.py --resume
"""

import dataclasses
import pathlib
import sys
from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from uatmc_jax.cli import data_at, start
from uatmc_jax.configs import own
from uatmc_jax.data import Dataset, open_dataset
from uatmc_jax.errors import InputError
from uatmc_jax.host_flags import join_as_flagged
from uatmc_jax.hosts import writes
from uatmc_jax.overrides import value_of
from uatmc_jax.report import format_summary, remarks
from uatmc_jax.settings import Settings, from_config, from_flag, to_dict
from uatmc_jax.training import train_and_evaluate
from uatmc_jax.training.fitting import fit_settings

_DATA = flags.DEFINE_string("data", None, "Folder of the data set: an .inter file and features.")
_MODEL = flags.DEFINE_string(
    "model", None, "The model, as mmgcn or module:function, in place of the config's."
)
_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "The experiment, e.g. configs/baby_vbpr.py, FILE:paper for that preset; with --data by "
    "default own, which is fitted to the data.",
    # A field that the config lacks may be its model's; reading the settings refuses the rest.
    lock_config=False,
    accept_new_attributes=True,
)
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Where to write; by default runs/<name of the config file>, with --data runs/DATA_MODEL.",
)
_RESUME = flags.DEFINE_bool("resume", False, "Go on with the run in the workdir.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace the run in the workdir.")


def main(argv: list[str]) -> None:
    """Flags in, one library call, files out."""
    if len(argv) > 1:
        raise InputError(f"unexpected arguments: {' '.join(argv[1:])}. Flags start with --.")
    settings, file = from_flag(_CONFIG)
    is_own = file.resolve() == pathlib.Path(own.__file__).resolve()
    given = config_flags.get_override_values(flags.FLAGS[_CONFIG.name])
    settings = _chosen(settings, is_own and "adversarial.defense" not in given)
    if settings.data.source == "mmrec" and not settings.data.name:
        raise InputError(
            "no data named. Give --data DIR for a folder of your own, or --config NAME for an "
            "experiment, as in --config synthetic_vbpr."
        )
    dataset: Dataset | None = None
    if is_own:
        dataset = open_dataset(settings.data)
        settings, notes = fit_settings(settings, dataset, own.STEPS, given)
        for note in notes if writes() else ():
            print(f"fitted to the data: {note}", file=sys.stderr)
    name = file.stem
    if _DATA.value:
        name = f"{settings.data.name}_{settings.model.name.rpartition(':')[2]}"
    workdir = pathlib.Path(_WORKDIR.value or pathlib.Path("runs") / name)
    summary = train_and_evaluate(
        settings, workdir, dataset=dataset, resume=_RESUME.value, overwrite=_OVERWRITE.value
    )
    if not writes():
        return
    print(format_summary(summary))
    for remark in remarks(summary):
        print(f"note: {remark}")
    print(f"written to {workdir}", file=sys.stderr)


def _chosen(settings: Settings, any_defense: bool) -> Settings:
    """The settings with the data and the model that flags name.

    Args:
      settings: the config's.
      any_defense: one modality alone may be hardened by another defence than the config's.
    """
    data, model, adversarial = settings.data, settings.model, settings.adversarial
    if _DATA.value:
        data = data_at(data, _DATA.value)
    if _MODEL.value:
        named = to_dict(settings)["model"] | {"name": _MODEL.value}
        model = from_config(to_dict(settings) | {"model": named}).model
    if any_defense and len(data.modalities) < 2 and adversarial.defense == "uat_mc":
        if writes():
            said = "fitted to the data: defence uat, as uat_mc needs two modalities"
            print(said, file=sys.stderr)
        adversarial = dataclasses.replace(adversarial, defense="uat")
    return dataclasses.replace(settings, data=data, model=model, adversarial=adversarial)


def _own_config(argv: Sequence[str]) -> str:
    """The config of a folder of one's own, for the model that the command line names."""
    model = value_of(argv, "model")
    return f"own:{model[1]}" if model else "own"


if __name__ == "__main__":
    start(main, defaults={"config": _own_config(sys.argv)}, join=join_as_flagged)
