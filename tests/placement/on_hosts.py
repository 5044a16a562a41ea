"""One of several processes, of two simulated devices each, that work as one.

python -m tests.placement.on_hosts HOST:PORT PROCESS PROCESSES compare OUT ONE
python -m tests.placement.on_hosts HOST:PORT PROCESS PROCESSES train WORKDIR [resume]

The first leaves what `on_devices` does in OUT, and what it reads of ONE, a checkpoint that one
process has written. The second is a training in chunks; with 0 PROCESSES of this one alone.
"""

import dataclasses
import pathlib
import sys

import jax
import numpy as np

from tests.placement import on_devices
from uatmc_jax import checkpoint, hosts
from uatmc_jax.errors import Interrupted
from uatmc_jax.models import build_model
from uatmc_jax.training import train_and_evaluate

DEVICES, STAGES, SILENCE = 4, ("pretrain", "adversarial"), 10
STOPPED = 7


def compare(out, one):
    """Everything on all devices, and the parameters of another's checkpoint."""
    on_devices.main(pathlib.Path(out), [DEVICES], STAGES, "vbpr")
    model = build_model(on_devices.settings_for(1).model, on_devices.dataset().sizes)
    like = jax.eval_shape(model.init, jax.random.key(0))
    params = checkpoint.load_params(pathlib.Path(one), "adversarial", "best", like)
    if hosts.writes():
        leaves = {str(n): np.asarray(x) for n, x in enumerate(jax.tree.leaves(params))}
        np.savez(pathlib.Path(out) / "read.npz", **leaves)


def chunked():
    """A training with a checkpoint after every few steps."""
    settings = on_devices.settings_for(DEVICES)
    written = dataclasses.replace(settings.checkpoint, chunk_steps=10, every_seconds=0.0)
    return dataclasses.replace(settings, checkpoint=written)


def main(coordinator, process, processes, what, folder, *more):
    """Joins the others and does it."""
    if int(processes):
        joined = hosts.Processes(coordinator, int(process), int(processes))
        hosts.join(joined, silence=SILENCE)
    if what == "compare":
        compare(folder, *more)
        return
    try:
        data, resume = on_devices.dataset(), bool(more)
        train_and_evaluate(chunked(), folder, dataset=data, resume=resume)
    except Interrupted:
        sys.exit(STOPPED)


if __name__ == "__main__":
    main(*sys.argv[1:])
