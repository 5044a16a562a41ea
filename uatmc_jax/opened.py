"""A trained run, opened once and handed on: model, parameters, data, z, and what it is."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from uatmc_jax import checkpoint
from uatmc_jax.data import Dataset, open_dataset
from uatmc_jax.models import Modal, Model, Params, project_catalogue
from uatmc_jax.settings import Settings

# What a training run reports, hence what is attacked unless said otherwise.
REPORTED = (("pretrain", "best"), ("adversarial", "best"), ("adversarial", "latest"))


class OpenedRun(NamedTuple):
    """One checkpoint of a run with the data it was trained on.

    Attributes:
      folder: of the run.
      model: its functions.
      params: its parameters.
      data: what it was trained on.
      z: modal, (|I|, d), the clean projected features of all items.
      settings: that it was trained with.
      where: {"stage", "which", "epoch", "parameters": a digest of them}.
    """

    folder: pathlib.Path
    model: Model
    params: Params
    data: Dataset
    z: Modal
    settings: Settings
    where: dict

    @property
    def name(self) -> str:
        """STAGE/WHICH."""
        return f"{self.where['stage']}/{self.where['which']}"


def open_run(
    folder: str | pathlib.Path,
    checkpoint_name: str = "",
    *,
    data: Dataset | None = None,
    data_root: str | None = None,
) -> OpenedRun:
    """Opens one checkpoint of a run.

    Args:
      folder: of the run.
      checkpoint_name: STAGE/WHICH, as in "adversarial/latest"; by default the last of
        those that the run reports.
      data: the data, if already open.
      data_root: folder of the data sets, if not where the run found them.

    Raises:
      InputError: a checkpoint is missing or unreadable, or the data are others.
    """
    pairs = [checkpoint.parse(checkpoint_name)] if checkpoint_name else reported(folder)[-1:]
    (run,) = open_runs(folder, pairs, data=data, data_root=data_root)
    return run


def open_runs(
    folder: str | pathlib.Path,
    checkpoints: Sequence[tuple[str, str]] = (),
    *,
    data: Dataset | None = None,
    data_root: str | None = None,
) -> list[OpenedRun]:
    """Opens checkpoints of a run, which share the data.

    Args:
      folder: of the run.
      checkpoints: (stage, which) pairs; by default those that the run's summary
        reports, as far as they exist.
      data: the data, if already open.
      data_root: folder of the data sets, if not where the run found them.

    Raises:
      InputError: a checkpoint is missing or unreadable, or the data are others.
    """
    folder = pathlib.Path(folder)
    pairs = checkpoints or reported(folder)
    restored = [checkpoint.restore(folder, *pair) for pair in pairs]
    if data is None:
        chosen = restored[0].settings.data
        if data_root is not None:
            chosen = dataclasses.replace(chosen, root=data_root)
        data = open_dataset(chosen)
    opened = []
    for (stage, which), one in zip(pairs, restored, strict=True):
        checkpoint.check_data(one.meta, data, folder)
        where = {
            "stage": stage,
            "which": which,
            "epoch": one.meta["epoch"],
            "parameters": checkpoint.digest(one.params),
        }
        z = project_catalogue(one.model, one.params, data.on_device.features)
        opened.append(OpenedRun(folder, one.model, one.params, data, z, one.settings, where))
    return opened


def reported(folder: str | pathlib.Path) -> list[tuple[str, str]]:
    """The checkpoints of a run that its summary reports; one epoch not under two names."""
    folder = pathlib.Path(folder)
    epochs = {pair: checkpoint.saved_epoch(folder, *pair) for pair in REPORTED}
    if epochs["adversarial", "latest"] == epochs["adversarial", "best"]:
        del epochs["adversarial", "latest"]
    # With none there, restoring the first says so.
    return [pair for pair, epoch in epochs.items() if epoch is not None] or [REPORTED[0]]
