"""Checkpoints on disk (orbax), and their restoration for training and for analysis.

    WORKDIR/checkpoints/STAGE/WHICH/EPOCH/{params,training,meta,files.json}

STAGE is "pretrain" or "adversarial"; WHICH is "best" (by validation recall@20),
"latest" or, where the config keeps every so many epochs, "epoch_10" and so on. A
new epoch is written beside the old one and renamed, so a kill leaves one or the
other. "best" keeps its previous epoch too: a kill between writing "best" and
"latest" must be able to fall back on both as they were. `params` is always the
whole model; `training` holds the optimiser's state, the epoch and the key; `meta`
is JSON: settings, sizes, the data's fingerprint and the stage's progress;
`files.json` has the digests of all files.
"""

import hashlib
import pathlib
import re
import shutil
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp

from uatmc_jax import store
from uatmc_jax.data import Dataset, Sizes
from uatmc_jax.errors import InputError
from uatmc_jax.models import Model, Params, build_model
from uatmc_jax.settings import Settings, from_config, to_dict

STAGES = ("pretrain", "adversarial")
WHICH = ("best", "latest")
_DIGESTS = "digests"
_FILES = "files.json"
_DAMAGED = "Restore it from a copy, or train anew"
# What orbax writes beside the numbers, at most.
_ROOM_OF_A_LEAF, _ROOM_OF_ALL = 1 << 13, 1 << 18
PyTree = Any
T = TypeVar("T")


class Restored(NamedTuple):
    """A trained model, ready for analysis.

    Attributes:
      model: its functions.
      params: its parameters.
      settings: of the run that trained it.
      meta: the checkpoint's JSON: stage, epoch, data set, progress.
    """

    model: Model
    params: Params
    settings: Settings
    meta: dict


def parse(name: str, flag: str = "checkpoint") -> tuple[str, str]:
    """(stage, which) of "STAGE/WHICH".

    Args:
      name: as in "adversarial/latest".
      flag: what to name in an error.

    Raises:
      InputError: not such a pair.
    """
    stage, slash, which = name.partition("/")
    if not slash:
        raise InputError(f"{flag} {name}: wanted STAGE/WHICH, as in adversarial/best.")
    return stage, which


def describe(settings: Settings, dataset: Dataset) -> dict:
    """The part of `meta` that says which model on which data this is."""
    return {
        "settings": to_dict(settings),
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "sizes": dataset.sizes._asdict(),
    }


def folder(workdir: pathlib.Path, stage: str, which: str) -> pathlib.Path:
    """Where the checkpoints of this kind are."""
    return pathlib.Path(workdir).resolve() / "checkpoints" / stage / which


def saved_epoch(workdir: pathlib.Path, stage: str, which: str) -> int | None:
    """The epoch on disk; None if there is none."""
    path = folder(workdir, stage, which)
    if not path.is_dir():
        return None
    with _manager(path) as manager:
        return manager.latest_step()


def save(
    workdir: pathlib.Path, stage: str, which: str, params: PyTree, training: PyTree, meta: dict
) -> None:
    """Writes one checkpoint; the previous one goes once this one is complete.

    Args:
      workdir: the run's folder.
      stage: one of `STAGES`.
      which: one of `WHICH`, or "epoch_N".
      params: the whole model.
      training: pytree of arrays that training needs to go on.
      meta: JSON values; meta["epoch"] names the checkpoint.

    Raises:
      InputError: no room for it.
    """
    path = folder(workdir, stage, which)
    _require_room(workdir, (params, training))
    digests = {"params": digest(params), "training": digest(training)}
    with _manager(path, create=True) as manager:
        written = manager.save(
            meta["epoch"],
            args=ocp.args.Composite(
                params=ocp.args.StandardSave(params),
                training=ocp.args.StandardSave(training),
                meta=ocp.args.JsonSave(store.seal(meta | {_DIGESTS: digests})),
            ),
        )
    if not written:
        raise RuntimeError(f"{path}: epoch {meta['epoch']} is not newer than what is there")
    whole = path / str(meta["epoch"])
    files = {str(f.relative_to(whole)): f for f in sorted(whole.rglob("*")) if f.is_file()}
    store.write_json(whole / _FILES, {name: store.hash_file(f) for name, f in files.items()})


def _require_room(workdir: pathlib.Path, arrays: PyTree) -> None:
    """Refuses what the disk cannot hold, before orbax's threads each find it out."""
    leaves = jax.tree.leaves(arrays)
    needed = sum(leaf.nbytes for leaf in leaves) + len(leaves) * _ROOM_OF_A_LEAF + _ROOM_OF_ALL
    there = next(path for path in (workdir, *workdir.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise InputError(
            f"{workdir}: a checkpoint takes {needed / 2**20:.1f} MiB, and its disk has no more "
            f"room than {free / 2**20:.1f}. Make room and give the same command again (train: with "
            "--resume)."
        )


def drop_later(workdir: pathlib.Path, stage: str, epoch: int) -> None:
    """Deletes "best" checkpoints past `epoch`, which a resumed run writes again."""
    path = folder(workdir, stage, "best")
    if path.is_dir():
        with _manager(path) as manager:
            for later in [step for step in manager.all_steps() if step > epoch]:
                manager.delete(later)


def load_meta(workdir: pathlib.Path, stage: str, which: str) -> dict:
    """The JSON of a checkpoint.

    Raises:
      InputError: there is none, or it cannot be read.
    """
    return _load(workdir, stage, which)["meta"]


def load_settings(workdir: str | pathlib.Path, stage: str, which: str) -> Settings:
    """The settings that a checkpoint was trained with; nothing else of it is read.

    Raises:
      InputError: there is none, or it cannot be read.
    """
    _require_known(stage, which)
    return from_config(load_meta(pathlib.Path(workdir), stage, which)["settings"])


def load_params(workdir: pathlib.Path, stage: str, which: str, like: T) -> T:
    """Reads `params` back into the structure of `like`, arrays or their shapes.

    Raises:
      InputError: no or unreadable checkpoint, or one of another structure.
    """
    return _load(workdir, stage, which, params=ocp.args.StandardRestore(shapes(like)))["params"]


def load_state(
    workdir: pathlib.Path, stage: str, which: str, params: Params, training: PyTree
) -> tuple[Params, PyTree]:
    """Reads `params` and `training` back into the structure of those given; see `load_params`."""
    loaded = _load(
        workdir,
        stage,
        which,
        params=ocp.args.StandardRestore(shapes(params)),
        training=ocp.args.StandardRestore(shapes(training)),
    )
    return loaded["params"], loaded["training"]


def restore(
    workdir: str | pathlib.Path,
    stage: str = "adversarial",
    which: str = "best",
    dataset: Dataset | None = None,
    model: str | None = None,
) -> Restored:
    """Reads a trained model for analysis.

    >>> restored = restore("runs/baby_vbpr", dataset=dataset)           # doctest: +SKIP
    >>> z = restored.model.project(restored.params.projectors, features)  # doctest: +SKIP

    Args:
      workdir: folder of the run.
      stage: "pretrain" or "adversarial".
      which: "best" by validation recall@20, "latest", or "epoch_N" if that was kept.
      dataset: if given, must be the data the model was trained on.
      model: if given, must be the model's name.

    Raises:
      InputError: no such checkpoint, unreadable, of another model or other data.
    """
    workdir = pathlib.Path(workdir)
    _require_known(stage, which)
    meta = load_meta(workdir, stage, which)
    settings = from_config(meta["settings"])
    if model is not None and settings.model.name != model:
        raise InputError(
            f"{workdir}: the checkpoint is of model '{settings.model.name}', not '{model}'. "
            "Name the folder of the right run."
        )
    if dataset is not None:
        check_data(meta, dataset, workdir)
    sizes = meta["sizes"]
    built = build_model(settings.model, Sizes(**sizes))
    params = load_params(workdir, stage, which, jax.eval_shape(built.init, jax.random.key(0)))
    return Restored(built, params, settings, meta)


def digest(params: PyTree) -> str:
    """SHA-256 over the arrays' values, in the tree's order (16 hex digits)."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(params):
        found.update(np.ascontiguousarray(leaf))  # type: ignore[arg-type]
    return found.hexdigest()[:16]


def check_data(meta: dict, dataset: Dataset, workdir: pathlib.Path) -> None:
    """Raises InputError unless the checkpoint was trained on this very data."""
    trained_on = meta["dataset"]
    if trained_on["fingerprint"] != dataset.fingerprint:
        raise InputError(
            f"{workdir}: trained on data '{trained_on['name']}' with fingerprint "
            f"{trained_on['fingerprint']}, but the data given is '{dataset.name}' with fingerprint "
            f"{dataset.fingerprint}. Point config.data at the data of that run, or train anew."
        )


def _require_known(stage: str, which: str) -> None:
    if stage not in STAGES:
        raise InputError(f"stage = {stage!r}: wanted {' or '.join(map(repr, STAGES))}.")
    if which not in WHICH and not re.fullmatch(r"epoch_[1-9]\d*", which):
        raise InputError(f"which = {which!r}: wanted 'best', 'latest', or 'epoch_10' if kept.")


def _what_else(workdir: pathlib.Path) -> str:
    """What to do where a checkpoint is missing: name one that is there, or train."""
    kept = {s: sorted(folder(workdir, s, "").glob("epoch_*"), key=_epoch_of) for s in STAGES}
    named = [(s, w) for s in STAGES for w in (*WHICH, *(path.name for path in kept[s]))]
    pairs = [(s, w) for s, w in named if saved_epoch(workdir, s, w) is not None]
    if pairs:
        return f"The run has {', '.join(map('/'.join, pairs))}."
    below = sorted(p.parent for p in pathlib.Path(workdir).glob("*/*/checkpoints"))
    if below:
        return f"Name one of the runs below it: {', '.join(map(str, below[:8]))}."
    return f"Train first: python -m uatmc_jax.train --config FILE --workdir {workdir}"


def _epoch_of(kept: pathlib.Path) -> int:
    return int(kept.name.removeprefix("epoch_"))


def _manager(path: pathlib.Path, create: bool = False) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(
        max_to_keep=2 if path.name == "best" else 1,
        create=create,  # who reads makes no folder that another process is just removing
        enable_async_checkpointing=False,
    )
    return ocp.CheckpointManager(path, options=options)


def shapes(tree: PyTree) -> PyTree:
    """The tree with every array replaced by its shape and type, to be put on this device.

    Without a device orbax would want the one the checkpoint was written on.
    """
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), tree)


def _load(workdir: pathlib.Path, stage: str, which: str, **items: Any) -> Any:
    path = folder(workdir, stage, which)
    epoch = saved_epoch(workdir, stage, which)
    if epoch is None:
        raise InputError(f"{path}: no checkpoint. {_what_else(workdir)}")
    _check_files(path / str(epoch))
    try:
        with _manager(path) as manager:
            given = ocp.args.Composite(**items, meta=ocp.args.JsonRestore())
            found = dict(manager.restore(epoch, args=given))
        found["meta"] = store.unseal(found["meta"], str(path / str(epoch)), _DAMAGED)
        for name, expected in found["meta"].get(_DIGESTS, {}).items():
            if name in items and digest(found[name]) != expected:
                raise ValueError(f"{name} are not those that were written")
        return found
    except Exception as error:  # orbax and tensorstore raise many kinds for a damaged file
        raise InputError(
            f"{path / str(epoch)}: the checkpoint cannot be read; it is damaged or of another "
            f"model ({type(error).__name__}: {str(error).splitlines()[0][:300]}). "
            f"{_DAMAGED}."
        ) from error


def _check_files(path: pathlib.Path) -> None:
    """Refuses a damaged file before orbax's threads stumble over it.

    A checkpoint without digests is older, or was written by a call that was killed right then.
    """
    if not (path / _FILES).is_file():
        return
    for name, digest_of in store.read_json(path / _FILES, remedy=_DAMAGED).items():
        file = path / name
        if not file.is_file() or store.hash_file(file) != digest_of:
            raise InputError(f"{file}: was damaged since it was written. {_DAMAGED}.")
