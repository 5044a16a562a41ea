"""Trains and evaluates the experiment of a config file.

python -m uatmc_jax.train --config configs/baby_vbpr.py
python -m uatmc_jax.train --config configs/baby_vbpr.py --config.adversarial.eps=0.05
python -m uatmc_jax.train --config configs/baby_vbpr.py --resume
"""

import pathlib
import sys

from absl import flags
from ml_collections import config_flags

from uatmc_jax.cli import start
from uatmc_jax.errors import InputError
from uatmc_jax.report import format_summary
from uatmc_jax.settings import from_flag
from uatmc_jax.training import train_and_evaluate

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "The experiment, e.g. configs/baby_vbpr.py; FILE:paper for that preset.",
    # A field that the config lacks may be its model's; reading the settings refuses the rest.
    lock_config=False,
    accept_new_attributes=True,
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Where to write; by default runs/<name of the config file>."
)
_RESUME = flags.DEFINE_bool("resume", False, "Go on with the run in the workdir.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace the run in the workdir.")


def main(argv: list[str]) -> None:
    """Flags in, one library call, files out."""
    if len(argv) > 1:
        raise InputError(f"unexpected arguments: {' '.join(argv[1:])}. Flags start with --.")
    settings, file = from_flag(_CONFIG)
    workdir = pathlib.Path(_WORKDIR.value or pathlib.Path("runs") / file.stem)
    summary = train_and_evaluate(
        settings, workdir, resume=_RESUME.value, overwrite=_OVERWRITE.value
    )
    print(format_summary(summary))
    print(f"written to {workdir}", file=sys.stderr)


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    start(main)
