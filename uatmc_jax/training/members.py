"""What one of several trainings under a `vmap` leaves on disk: a run as of its own.

WORKDIR/NAME/{config.json, summary.json, metrics.jsonl, checkpoints/}
"""

import pathlib
import shutil
from collections.abc import Mapping
from typing import NamedTuple

import jax

from uatmc_jax import checkpoint, logs, store
from uatmc_jax.data import CSR, Dataset
from uatmc_jax.data.dataset import DeviceData
from uatmc_jax.environment import peak_memory_mib
from uatmc_jax.evaluation.metrics import Measure
from uatmc_jax.models import Modal, Model, Params
from uatmc_jax.settings import Settings, to_dict
from uatmc_jax.training.epoch import TrainState
from uatmc_jax.training.folder import CONFIG_FILE, SUMMARY_FILE
from uatmc_jax.training.run import summary_head
from uatmc_jax.training.stages import AdversarialParts


class Shared(NamedTuple):
    """What all members have in common."""

    workdir: pathlib.Path
    dataset: Dataset
    data: DeviceData
    model: Model
    params: Params
    z: Modal
    held_out: dict[str, CSR]
    measure: Measure


class Trained(NamedTuple):
    """One member at its end."""

    name: str
    settings: Settings
    params: Params
    z: Modal
    state: TrainState


def finish(
    shared: Shared, trained: Trained, records: list[dict], seconds: float, chunk: list[str]
) -> None:
    """One member's run as files; its summary last, which marks it as complete.

    Args:
      shared: what all members have in common.
      trained: the member.
      records: its losses by term, of every epoch.
      seconds: its share of the time.
      chunk: names of all that were trained with it.
    """
    name, settings, params, z, state = trained
    workdir = shared.workdir / name
    # All but the epochs that were kept on the way: left by a call that was cut off here.
    for path in (workdir / CONFIG_FILE, workdir / logs.METRICS_FILE):
        path.unlink(missing_ok=True)
    shutil.rmtree(checkpoint.folder(workdir, "adversarial", "latest"), ignore_errors=True)
    workdir.mkdir(parents=True, exist_ok=True)
    store.write_json(workdir / CONFIG_FILE, to_dict(settings))
    for epoch, losses in enumerate(records, start=1):
        logs.append_record(workdir, {"stage": "adversarial", "epoch": epoch, "losses": losses})
    measured = shared.measure(params, z, list(shared.held_out.values()))
    at_last = {
        split: {metric: float(value) for metric, value in metrics.items()}
        for split, metrics in zip(shared.held_out, measured, strict=True)
    }
    meta = checkpoint.describe(settings, shared.dataset) | {
        "stage": "adversarial",
        "epoch": len(records),
        "best_epoch": len(records),
        "best_metric": at_last["valid"]["recall@20"],
        "seconds": seconds,
    }
    training = {"optimizer": state.optimizer, "epoch": state.epoch, "key": state.key}
    checkpoint.save(workdir, "adversarial", "latest", params, training, meta)
    summary = summary_head(settings, shared.dataset)
    summary["stages"] = {
        "pretrain": {"init_from": settings.pretrain.init_from},
        "adversarial": {
            "epochs": len(records),
            "seconds": seconds,
            "trained_together_with": chunk,
            "at_last_epoch": at_last,
        },
    }
    summary["peak_memory_mib"] = peak_memory_mib()
    store.write_json(workdir / SUMMARY_FILE, summary)


def keep(
    chunk: Mapping[str, Settings],
    shared: Shared,
    parts: AdversarialParts,
    state: TrainState,
    epoch: int,
) -> None:
    """Writes the members' checkpoints of an epoch, where it is one to be kept.

    Args:
      chunk: {name: settings}, in the state's order.
      shared: what all members have in common.
      parts: of the stage.
      state: of all members, with a leading axis.
      epoch: that was just done.
    """
    for n, (name, settings) in enumerate(chunk.items()):
        every, which = settings.checkpoint.keep_every, f"epoch_{epoch}"
        workdir = shared.workdir / name
        if not every or epoch % every or checkpoint.saved_epoch(workdir, "adversarial", which):
            continue
        member = member_of(state, n)
        meta = checkpoint.describe(settings, shared.dataset)
        meta |= {"stage": "adversarial", "epoch": epoch}
        training = {"epoch": member.epoch}
        params = parts.assemble(member.trained)
        checkpoint.save(workdir, "adversarial", which, params, training, meta)


def member_of(state: TrainState, n: int) -> TrainState:
    """The n-th member's part of a state of several."""
    return jax.tree.map(lambda x: x[n], state)
