"""Weights from elsewhere as a run, so that whatever takes a run's folder takes them."""

import hashlib
import os
import pathlib
import shutil
import tempfile
from typing import NamedTuple

import jax
import jax.numpy as jnp

from uatmc_jax import checkpoint, logs
from uatmc_jax.build import build_model
from uatmc_jax.data import Dataset
from uatmc_jax.errors import InputError
from uatmc_jax.models import Params
from uatmc_jax.settings import Settings, to_dict
from uatmc_jax.training.stage import Progress
from uatmc_jax.training.workdir import CONFIG_FILE

STAGE, WHICH = "pretrain", "best"  # where imported weights go


class Imported(NamedTuple):
    """What an import made.

    Attributes:
      settings: of the run.
      changed: {field: (value in the config, value here)} of the settings that the
        weights decide; empty where they brought their own.
      meta: of the checkpoint.
    """

    settings: Settings
    changed: dict[str, tuple]
    meta: dict


def require_new(workdir: pathlib.Path) -> None:
    """Raises InputError unless the folder is absent or empty."""
    if workdir.is_dir() and not any(workdir.iterdir()):
        return
    if workdir.exists():
        raise InputError(f"{workdir}: not empty, or not a folder. Name another --workdir.")


def write_run(
    workdir: pathlib.Path,
    settings: Settings,
    dataset: Dataset,
    params: Params,
    progress: Progress,
    source: dict,
) -> dict:
    """Writes config.json and the checkpoint pretrain/best; the folder is whole or absent.

    Args:
      workdir: absent or empty.
      settings: of the run.
      dataset: that the weights belong to.
      params: the weights, float32.
      progress: of the training they come from, as far as known.
      source: where they come from.

    Returns:
      The checkpoint's meta.
    """
    like = _shapes_of(settings, dataset)
    if jax.tree.map(lambda x: (x.shape, x.dtype), params) != like:
        raise RuntimeError(f"the weights do not have the structure of a {settings.model.name}")
    meta = checkpoint.describe(settings, dataset)
    meta |= {"stage": STAGE, **progress._asdict(), "imported_from": source}
    parent = workdir.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    partial = pathlib.Path(tempfile.mkdtemp(prefix=f"{workdir.name}.partial-", dir=parent))
    try:
        training = {"epoch": jnp.int32(progress.epoch)}
        checkpoint.save(partial, STAGE, WHICH, params, training, meta)
        logs.write_json(partial / CONFIG_FILE, to_dict(settings))
        partial.chmod(0o777 & ~_umask())
        if workdir.is_dir():
            workdir.rmdir()
        partial.rename(workdir)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return meta


def _shapes_of(settings: Settings, dataset: Dataset) -> Params:
    model = build_model(settings.model, dataset.n_users, dataset.n_items, dataset.raw_dims)
    like = jax.eval_shape(model.init, jax.random.key(0))
    return jax.tree.map(lambda x: (x.shape, x.dtype), like)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read_digest(file: pathlib.Path) -> str:
    """SHA-256 of a file, in hex.

    Raises:
      InputError: no such file.
    """
    if not file.is_file():
        raise InputError(f"{file}: no such file. Check the path.")
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
