"""Adversarial trainings that differ in scalars and seed only, run together under `vmap`.

They share the data, the pre-trained state, z and one compiled epoch. Each ends as
a run of its own, with the files that `train_and_evaluate` writes:

    WORKDIR/NAME/{config.json, summary.json, metrics.jsonl, checkpoints/}
    WORKDIR/.unfinished-DIGEST/   several members' state while they train
"""

import contextlib
import functools
import json
import pathlib
import shutil
import time
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax import checkpoint, store
from uatmc_jax.data import open_dataset
from uatmc_jax.defenses import SCALARS, Defense, check_model, coefficients, static_defense
from uatmc_jax.errors import CollapsedError, DivergedError, InputError, Interrupted
from uatmc_jax.evaluation.metrics import make_measure
from uatmc_jax.evaluation.ranking import make_plan
from uatmc_jax.interrupts import stop_on_interrupt
from uatmc_jax.models import build_model, device_data, project_catalogue
from uatmc_jax.opened import OpenedRun
from uatmc_jax.owner import owned
from uatmc_jax.settings import Settings, as_recorded, to_dict
from uatmc_jax.training.epoch import Epoch, TrainState, compile_epochs
from uatmc_jax.training.folder import (
    CONFIG_FILE,
    SUMMARY_FILE,
    differences,
    other_values,
    read_settings,
    read_summary,
    remove_outputs,
    without_free_fields,
)
from uatmc_jax.training.members import Shared, Trained, finish, keep, member_of
from uatmc_jax.training.run import check_ranking_depth, first_params, require_same_model
from uatmc_jax.training.stage import Progress, collapse_text, collapsed, watch_collapse
from uatmc_jax.training.stages import AdversarialParts, adversarial_parts

_UNFINISHED = ".unfinished-"
_MAY_DIFFER = ("seed", *(f"adversarial.{name}" for name in SCALARS))


def train_vmapped(
    members: Mapping[str, Settings],
    workdir: str | pathlib.Path,
    *,
    vmapped: int,
    source: OpenedRun | None = None,
    on_epochs: Callable[[int], None] = lambda count: None,
) -> dict[str, dict]:
    """Trains stage 2 of every member for all its epochs, those already there excepted.

    Nobody stops early and only the last epoch is kept and measured: members of
    one `vmap` go in step.

    Args:
      members: {name: settings}, with the same `pretrain.init_from`, differing in
        the seed and the adversarial scalars (`defenses.SCALARS`) only.
      workdir: each member's run goes to its folder below.
      vmapped: members trained at a time; as many as fit into the memory.
      source: the pre-trained state that `pretrain.init_from` names, if already open.
      on_epochs: told of every epoch done, times the members that did it.

    Returns:
      {name: summary}, as in the members' summary.json.

    Raises:
      InputError: before any long work, for anything the user can mend.
      DivergedError: a loss or parameter that is not finite, or all embeddings have shrunk
        to nothing; names the member.
      Interrupted: Ctrl-C; the state is on disk, and the same call goes on with it.
    """
    workdir = pathlib.Path(workdir)
    _check(members, workdir, vmapped)
    with contextlib.ExitStack() as stack:
        for name in members:
            stack.enter_context(owned(workdir / name))
        _train_left(members, workdir, vmapped, source, on_epochs)
        return {name: read_summary(workdir / name) for name in members}


def _train_left(
    members: Mapping[str, Settings],
    workdir: pathlib.Path,
    vmapped: int,
    source: OpenedRun | None,
    on_epochs: Callable[[int], None],
) -> None:
    first = next(iter(members.values()))
    unfinished = [name for name in members if not (workdir / name / SUMMARY_FILE).exists()]
    if not unfinished:
        return
    shared = _share(first, workdir, source)
    parts = adversarial_parts(first, shared.model, shared.params, shared.data, shared.z)
    run_epochs = compile_epochs(parts.epoch, (None, 0))
    begun = _begun_chunks(members, workdir)
    left = [name for name in unfinished if not any(name in chunk for chunk in begun)]
    size = -(-len(left) // max(1, -(-len(left) // vmapped)))  # as even as can be
    fresh = [left[start : start + size] for start in range(0, len(left), size or 1)]
    with stop_on_interrupt() as stop_requested:
        for names in begun + fresh:
            chunk = {name: members[name] for name in names}
            _train_chunk(chunk, shared, parts, run_epochs, on_epochs, stop_requested)


def compatible(members: Mapping[str, Settings]) -> list[dict[str, Settings]]:
    """The members in groups that `train_vmapped` takes, in their order.

    Args:
      members: {name: settings}, with the same `pretrain.init_from`.

    Returns:
      Groups of those that differ in the adversarial scalars alone.
    """
    groups: dict[str, dict[str, Settings]] = {}
    for name, settings in members.items():
        plain = to_dict(settings)
        del plain["seed"]
        static = static_defense(settings.adversarial, ())
        plain["static"] = static.keep_content, static.by_popularity
        for scalar in SCALARS:
            del plain["adversarial"][scalar]
        groups.setdefault(json.dumps(plain, sort_keys=True), {})[name] = settings
    return list(groups.values())


def _check(members: Mapping[str, Settings], workdir: pathlib.Path, vmapped: int) -> None:
    if not members or vmapped < 1:
        raise InputError("train_vmapped: give at least one member, and vmapped >= 1.")
    named = {name: to_dict(settings) for name, settings in members.items()}
    (first_name, first), *others = named.items()
    if not first["pretrain"]["init_from"] or not first["adversarial"]["epochs"]:
        raise InputError(
            f"member '{first_name}': config.pretrain.init_from and config.adversarial.epochs must "
            "be set; trainings run together begin with a pre-trained state."
        )
    apart = first["checkpoint"]["chunk_steps"] or first["eval"]["sample"]
    if first["mesh"]["devices"] != 1 or apart:
        raise InputError(
            f"member '{first_name}': trainings run together run on one device, in whole epochs, "
            "and measure all users. Set config.mesh.devices to 1, and config.eval.sample and "
            "config.checkpoint.chunk_steps to 0."
        )
    for name, other in others:
        wrong = [f for f in differences(first, other) if f not in _MAY_DIFFER]
        if wrong:
            raise InputError(
                f"members '{first_name}' and '{name}' differ in config.{wrong[0]}; trainings run "
                f"together may differ in {', '.join(_MAY_DIFFER)} only. Train them apart."
            )
    for name, settings in members.items():
        if _static(settings) != _static(members[first_name]):
            raise InputError(
                f"members '{first_name}' and '{name}': config.adversarial.content_weight is 0 in "
                "one of them only, and with it L_content is left out altogether. Train them apart."
            )
        file = workdir / name / CONFIG_FILE
        if file.exists():
            there = without_free_fields(read_settings(file, "Use another workdir"))
            changed = differences(there, without_free_fields(settings))
            if changed:
                raise InputError(f"{file}: {other_values(there, changed)}. Use another workdir.")


def _static(settings: Settings) -> Defense:
    return static_defense(settings.adversarial, settings.data.modality_names)


def _share(settings: Settings, workdir: pathlib.Path, source: OpenedRun | None) -> Shared:
    dataset = open_dataset(settings.data) if source is None else source.data
    check_ranking_depth(settings.eval, dataset)
    if source is None:
        model = build_model(settings.model, dataset.sizes)
        params, _ = first_params(settings, workdir, model, dataset, resume=False)
        z = project_catalogue(model, params, dataset.on_device.features)
    else:
        named = pathlib.Path(settings.pretrain.init_from)
        if source.name != "pretrain/best" or source.folder.resolve() != named.resolve():
            raise InputError(
                f"source is {source.name} of {source.folder}, but config.pretrain.init_from = "
                f"'{named}', whose pretrain/best is wanted."
            )
        require_same_model(settings, source.settings)
        model, params, z = source.model, source.params, source.z
    check_model(settings.adversarial, model, dataset.raw_dims)
    data = device_data(model, dataset)
    blocks = settings.eval.block_users, settings.eval.block_items
    plan = make_plan(dataset.train, dataset.n_users, dataset.n_items, *blocks)
    held_out = {split: dataset.held_out(split) for split in ("valid", "test")}
    measure = make_measure(model, data, plan, settings.eval.ks)
    return Shared(workdir, dataset, data, model, params, z, held_out, measure)


def _begun_chunks(members: Mapping[str, Settings], workdir: pathlib.Path) -> list[list[str]]:
    """Members whose state together an interrupted call has left, in the order it had them."""
    chunks = []
    for folder in sorted(workdir.glob(f"{_UNFINISHED}*")):
        try:
            if not checkpoint.saved_epoch(folder, "adversarial", "latest"):
                continue
            names = checkpoint.load_meta(folder, "adversarial", "latest")["members"]
        except (InputError, OSError):
            if folder.exists():
                raise
            continue  # others' trainings, finished just now
        chunk = {name: members[name] for name in names if name in members}
        if len(chunk) < len(names) or folder.name != _UNFINISHED + _digest(chunk):
            continue
        if any(not (workdir / name / SUMMARY_FILE).exists() for name in names):
            chunks.append(names)
        else:
            shutil.rmtree(folder)  # all were trained in other company since
    return chunks


def _train_chunk(
    chunk: Mapping[str, Settings],
    shared: Shared,
    parts: AdversarialParts,
    run_epochs: Epoch,
    on_epochs: Callable[[int], None],
    stop_requested: Callable[[], bool],
) -> None:
    settings = list(chunk.values())
    epochs, every = settings[0].adversarial.epochs, settings[0].checkpoint.every_seconds
    state = _stack([parts.first_state(one.seed) for one in settings])
    fixed = (parts.frozen, _stack([coefficients(one.adversarial) for one in settings]))
    folder = shared.workdir / (_UNFINISHED + _digest(chunk))
    records, seconds, done = [], 0.0, 0
    if checkpoint.saved_epoch(folder, "adversarial", "latest"):
        meta = checkpoint.load_meta(folder, "adversarial", "latest")
        records, seconds, done = meta["records"], meta["seconds"], meta["epoch"]
        # TrainState is what a checkpoint calls params; the members have no other.
        state = checkpoint.load_params(folder, "adversarial", "latest", state)
        on_epochs(done * len(chunk))
    else:
        for name in chunk:
            remove_outputs(shared.workdir / name)
    watched = [_watched(records, n) for n in range(len(chunk))]
    written = time.monotonic()
    while done < epochs:
        start = time.monotonic()
        state, found, finite = run_epochs(state, fixed, shared.data)
        terms = {name: np.asarray(values) for name, values in found.items()}
        done += 1
        _check_finite(list(chunk), done, terms, np.asarray(finite))
        seconds += time.monotonic() - start
        records.append({name: values.mean(axis=1).tolist() for name, values in terms.items()})
        on_epochs(len(chunk))
        watched = [_watch(records[-1], n, progress) for n, progress in enumerate(watched)]
        _check_collapse(list(chunk), watched)
        keep(chunk, shared, parts, state, done)
        stop = stop_requested() and done < epochs
        if stop or time.monotonic() - written >= every:
            meta = {"members": list(chunk), "epoch": done, "seconds": seconds, "records": records}
            checkpoint.save(
                folder, "adversarial", "latest", state, {"epoch": jnp.int32(done)}, meta
            )
            written = time.monotonic()
        if stop:
            raise Interrupted("adversarial", done)
    for n, (name, one) in enumerate(chunk.items()):
        if (shared.workdir / name / SUMMARY_FILE).exists():
            continue  # finished by this call before it was cut off, or by another one
        mine = [{term: values[n] for term, values in record.items()} for record in records]
        member = member_of(state, n)
        params, z = parts.assemble(member.trained), parts.content(member.trained)
        trained = Trained(name, one, params, z, member)
        finish(shared, trained, mine, seconds / len(chunk), list(chunk))
    shutil.rmtree(folder, ignore_errors=True)


def _check_finite(
    names: list[str], epoch: int, terms: dict[str, np.ndarray], finite: np.ndarray
) -> None:
    fine = finite & np.isfinite(np.stack(list(terms.values()))).all(axis=(0, 2))
    if not fine.all():
        raise DivergedError(
            f"member '{names[int(np.argmin(fine))]}', stage adversarial, epoch {epoch}: a loss or "
            "parameter is not finite. Leave the member out, lower its lambda, beta or eps, or set "
            "config.adversarial.optimizer.clip_norm."
        )


def _watch(record: dict, n: int, before: Progress) -> Progress:
    """Member n's progress after an epoch, as far as it tells of a collapse."""
    losses = {term: values[n] for term, values in record.items()}
    first_reg, flat_epochs = watch_collapse(losses, before)
    return Progress(epoch=before.epoch + 1, first_reg=first_reg, flat_epochs=flat_epochs)


def _watched(records: list[dict], n: int) -> Progress:
    return functools.reduce(lambda before, record: _watch(record, n, before), records, Progress())


def _check_collapse(names: list[str], watched: list[Progress]) -> None:
    for name, progress in zip(names, watched, strict=True):
        if collapsed(progress):
            what = f"member '{name}', stage adversarial"
            text = collapse_text(what, "adversarial", progress.epoch, "none of this member")
            raise CollapsedError(text, member=name)


def _stack(trees: list) -> TrainState:
    return jax.tree.map(lambda *x: jnp.stack(x), *trees)


def _digest(chunk: Mapping[str, Settings]) -> str:
    # Of the names that settings had when the first digests were made.
    plain = {
        name: as_recorded(Settings, without_free_fields(settings))
        for name, settings in chunk.items()
    }
    return store.digest(plain, 12)
