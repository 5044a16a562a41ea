"""Checkpoints on disk (orbax), and their restoration for training and for analysis.

    WORKDIR/checkpoints/STAGE/WHICH/EPOCH/{params,training,meta,files.json}

STAGE is "pretrain" or "adversarial"; WHICH is "best" (by validation recall@20), "latest" or,
where the config keeps every so many epochs, "epoch_10" and so on; "within", numbered by steps,
is of an epoch not done yet. A new epoch is written beside the old one and renamed, so a kill
leaves one or the other; "best" keeps its previous epoch too, for a kill between "best" and
"latest". `params` is the whole model; `training` the optimiser's state, the epoch and the key;
`meta` JSON: settings, sizes, the data's fingerprint, the stage's progress; `files.json` has
digests. Several devices write tables filled up with rows of zeros (placement/mesh.py); read on
any number of devices they have their true rows, of which the digests of arrays are.
"""

import hashlib
import pathlib
import re
import shutil
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp

from uatmc_jax import hosts, store
from uatmc_jax.checkpoint_files import DAMAGED, check_files, require_room, seal_files
from uatmc_jax.data import Dataset, Sizes
from uatmc_jax.errors import InputError
from uatmc_jax.models import Model, Params, build_model
from uatmc_jax.settings import Settings, from_config, to_dict

STAGES = ("pretrain", "adversarial")
WHICH = ("best", "latest")
WITHIN = "within"
_DIGESTS, _FILLED, _NUMBER = "digests", "filled", "number"
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
    workdir: pathlib.Path,
    stage: str,
    which: str,
    params: PyTree,
    training: PyTree,
    meta: dict,
    rows: tuple[PyTree, PyTree] | None = None,
) -> None:
    """Writes one checkpoint; the previous one goes once this one is complete.

    Args:
      workdir: the run's folder.
      stage: one of `STAGES`.
      which: one of `WHICH`, "epoch_N", or `WITHIN`.
      params: the whole model.
      training: pytree of arrays that training needs to go on.
      meta: JSON values; meta["epoch"] names the checkpoint, of `WITHIN` meta["number"].
      rows: of tables of both that are filled up, their true rows, and 0 of all else.

    Raises:
      InputError: no room for it.
    """
    path, (of_params, of_training) = folder(workdir, stage, which), rows or (None, None)
    hosts.by_writer(lambda: require_room(workdir, (params, training)))
    digests = {"params": digest(params, of_params), "training": digest(training, of_training)}
    number = meta.get(_NUMBER, meta["epoch"])
    with _manager(path, create=True) as manager:
        written = manager.save(
            number,
            args=ocp.args.Composite(
                params=ocp.args.StandardSave(params),
                training=ocp.args.StandardSave(training),
                meta=ocp.args.JsonSave(
                    store.seal(meta | {_DIGESTS: digests} | ({_FILLED: True} if rows else {}))
                ),
            ),
        )
    if not written:
        raise RuntimeError(f"{path}: epoch {number} is not newer than what is there")
    hosts.by_writer(lambda: seal_files(path / str(number)))


def drop_later(workdir: pathlib.Path, stage: str, epoch: int) -> None:
    """Deletes "best" checkpoints past `epoch`, which a resumed run writes again."""
    path = folder(workdir, stage, "best")
    if path.is_dir():
        with _manager(path) as manager:
            later = [step for step in manager.all_steps() if step > epoch]
            hosts.meet()  # before one of several deletes what the others have to see
            for step in later:
                manager.delete(step)


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


def load_params(
    workdir: pathlib.Path, stage: str, which: str, like: T, rows: PyTree | None = None
) -> T:
    """Reads `params` back into the structure of `like`, arrays or their shapes.

    Args:
      workdir, stage, which: which checkpoint.
      like: of the shapes wanted, to be put where these lie.
      rows: true rows of the tables of `like`, if it is filled up.

    Raises:
      InputError: no or unreadable checkpoint, or one of another structure.
    """
    return _load(workdir, stage, which, {"params": (like, rows)})["params"]


def load_state(
    workdir: pathlib.Path,
    stage: str,
    which: str,
    params: Params,
    training: PyTree,
    rows: tuple[PyTree, PyTree] | None = None,
) -> tuple[Params, PyTree]:
    """Reads `params` and `training` back into the structure of those given; see `load_params`."""
    of_params, of_training = rows or (None, None)
    wanted = {"params": (params, of_params), "training": (training, of_training)}
    loaded = _load(workdir, stage, which, wanted)
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


def digest(params: PyTree, rows: PyTree | None = None) -> str:
    """SHA-256 over the arrays' values, in the tree's order (16 hex digits).

    Args:
      params: arrays; of those on several devices one device's part is read at a time.
      rows: true rows of filled-up tables, which alone count, and 0 of all else.
    """
    found, leaves = hashlib.sha256(), jax.tree.leaves(params)
    counts = [0] * len(leaves) if rows is None else jax.tree.leaves(rows)
    for leaf, n in zip(leaves, counts, strict=True):
        if n and isinstance(leaf, jax.Array):
            for first, part in hosts.parts_by_rows(leaf):
                found.update(part[: max(n - first, 0)])  # type: ignore[arg-type]
        else:
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
    found = {s: folder(workdir, s, "").glob("epoch_*") for s in STAGES}
    kept = {s: sorted(x, key=lambda p: (len(p.name), p.name)) for s, x in found.items()}
    named = [(s, w) for s in STAGES for w in (*WHICH, *(path.name for path in kept[s]))]
    pairs = [(s, w) for s, w in named if saved_epoch(workdir, s, w) is not None]
    if pairs:
        return f"The run has {', '.join(map('/'.join, pairs))}."
    below = sorted(p.parent for p in pathlib.Path(workdir).glob("*/*/checkpoints"))
    if below:
        return f"Name one of the runs below it: {', '.join(map(str, below[:8]))}."
    return f"Train first: python -m uatmc_jax.train --config FILE --workdir {workdir}"


def _manager(path: pathlib.Path, create: bool = False) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(
        max_to_keep=2 if path.name == "best" else 1,
        create=create,  # who reads makes no folder that another process is just removing
        enable_async_checkpointing=False,
    )
    return ocp.CheckpointManager(path, options=options)


def shapes(tree: PyTree) -> PyTree:
    """The tree with every array replaced by its shape and type, to be put where it lies.

    What is not on several devices is put on this one: without a device orbax would want the
    one the checkpoint was written on.
    """
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

    def shape(x: Any) -> jax.ShapeDtypeStruct:
        where = getattr(x, "sharding", None)
        spread = isinstance(where, jax.sharding.NamedSharding)
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where if spread else here)

    return jax.tree.map(shape, tree)


def remove(workdir: pathlib.Path, stage: str, which: str) -> None:
    """Deletes the checkpoints of this kind, if there are any."""
    hosts.by_writer(lambda: shutil.rmtree(folder(workdir, stage, which), ignore_errors=True))


def _load(
    workdir: pathlib.Path, stage: str, which: str, items: dict[str, tuple] | None = None
) -> Any:
    """`meta`, and {item: arrays like these} of {item: (arrays or shapes, their true rows)}."""
    path, items = folder(workdir, stage, which), items or {}
    epoch = saved_epoch(workdir, stage, which)
    if epoch is None:
        raise InputError(f"{path}: no checkpoint. {_what_else(workdir)}")
    hosts.by_writer(lambda: check_files(path / str(epoch)))
    try:
        with _manager(path) as manager:
            kept = manager.restore(epoch, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))
            meta = store.unseal(kept["meta"], str(path / str(epoch)), DAMAGED)
            found = {"meta": meta}
            filled = bool(meta.get(_FILLED)) or any(rows is not None for _, rows in items.values())
            given = {
                name: ocp.args.StandardRestore(shapes(like), strict=not filled)
                for name, (like, _) in items.items()
            }
            if given:
                found |= dict(manager.restore(epoch, args=ocp.args.Composite(**given)))
        for name, expected in meta.get(_DIGESTS, {}).items():
            if name in items and digest(found[name], items[name][1]) != expected:
                raise ValueError(f"{name} are not those that were written")
        return found
    except Exception as error:  # orbax and tensorstore raise many kinds for a damaged file
        if hosts.lost(error):
            raise
        raise InputError(
            f"{path / str(epoch)}: the checkpoint cannot be read; it is damaged or of another "
            f"model ({type(error).__name__}: {str(error).splitlines()[0][:300]}). "
            f"{DAMAGED}."
        ) from error
