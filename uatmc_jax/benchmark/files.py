"""Where the results of an evaluation are: beside the checkpoint, named by all that moves them."""

import pathlib

import jax

from uatmc_jax import __version__, store
from uatmc_jax.opened import OpenedRun

FOLDER = "attacks"


def result_file(run: OpenedRun, name: str, identity: dict) -> pathlib.Path:
    """RUN/attacks/STAGE-WHICH-NAME-DIGEST.json.

    Args:
      run: the checkpoint.
      name: of the attack, or "content".
      identity: what the numbers depend on, beside the software.
    """
    # The software may move the last digits, so that one file is the work of one version.
    software = (__version__, jax.__version__, jax.default_backend())
    digest = store.digest({"software": software} | identity)
    return run.folder / FOLDER / f"{run.where['stage']}-{run.where['which']}-{name}-{digest}.json"
