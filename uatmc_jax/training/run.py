"""A whole experiment: pre-train, harden, evaluate, write; the body of `uatmc_jax.train`."""

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from uatmc_jax import checkpoint, hosts, logs, store
from uatmc_jax.data import Dataset, open_dataset
from uatmc_jax.defenses import check_model
from uatmc_jax.environment import environment, peak_memory_mib
from uatmc_jax.errors import InputError
from uatmc_jax.interrupts import stop_on_interrupt
from uatmc_jax.models import Modal, Model, Params, build_model
from uatmc_jax.owner import owned
from uatmc_jax.placement import Layout, put, replicate
from uatmc_jax.settings import EvalSettings, Settings, to_dict
from uatmc_jax.training.devices import Devices, on_devices
from uatmc_jax.training.epoch import TrainState
from uatmc_jax.training.folder import (
    CONFIG_FILE,
    SUMMARY_FILE,
    check_workdir,
    differences,
    read_summary,
    remove_outputs,
    without_free_fields,
)
from uatmc_jax.training.harmless import read_harmless
from uatmc_jax.training.stage import Hooks, Progress, Stage, run_stage
from uatmc_jax.training.stages import (
    adversarial_stage,
    check_steps,
    init_params,
    pretrain_stage,
)


class _Watch(NamedTuple):
    """Who watches a training.

    Attributes:
      stop_requested: asked after every epoch.
      on_epoch: told (epochs done, epochs at most) of a stage, in place of a bar.
    """

    stop_requested: Callable[[], bool]
    on_epoch: Callable[[int, int], None] | None


class _Run(NamedTuple):
    """What both stages of one run share."""

    settings: Settings
    workdir: pathlib.Path
    dataset: Dataset
    devices: Devices
    watch: _Watch


def train_and_evaluate(
    settings: Settings,
    workdir: str | pathlib.Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    dataset: Dataset | None = None,
    on_epoch: Callable[[int, int], None] | None = None,
) -> dict:
    """Runs the experiment and writes everything below `workdir`.

    Of several processes each calls it, with the same arguments and one shared folder.

    Args:
      settings: the experiment.
      workdir: created if absent.
      resume: go on with the run that is there; a complete one is left as it is.
      overwrite: remove the run that is there first.
      dataset: the data that the settings name, if already open.
      on_epoch: told (epochs done, epochs at most) of a stage, in place of a bar.

    Returns:
      The summary, as in summary.json.

    Raises:
      InputError: before any long work, for anything the user can mend.
      DivergedError: a value that is not finite, or all embeddings have shrunk to nothing.
      Interrupted: Ctrl-C; the state is on disk and `resume` goes on with it.
    """
    workdir = pathlib.Path(workdir)
    with contextlib.ExitStack() as stack:

        def begin() -> None:
            stack.enter_context(owned(workdir))
            check_workdir(settings, workdir, resume=resume, overwrite=overwrite)

        hosts.by_writer(begin)
        if resume and (workdir / SUMMARY_FILE).exists():  # written last: the run is complete
            return read_summary(workdir)
        with stop_on_interrupt() as stop_requested:
            watch = _Watch(stop_requested, on_epoch)
            return _train_and_evaluate(settings, workdir, resume, overwrite, dataset, watch)


def _train_and_evaluate(
    settings: Settings,
    workdir: pathlib.Path,
    resume: bool,
    overwrite: bool,
    dataset: Dataset | None,
    watch: _Watch,
) -> dict:
    started = time.monotonic()
    dataset = open_dataset(settings.data) if dataset is None else dataset
    if hosts.several():
        hosts.require_same("settings", store.digest(without_free_fields(settings)))
        hosts.require_same("data", dataset.fingerprint)
    check_ranking_depth(settings.eval, dataset)
    model = build_model(settings.model, dataset.sizes)
    if settings.adversarial.epochs:
        check_model(settings.adversarial, model, dataset.raw_dims)
        if settings.adversarial.defense == "shaped":
            read_harmless(settings.adversarial, settings.data.modality_names)
    devices = on_devices(settings, model, dataset)
    layout, data = devices.layout, devices.data
    params, source = first_params(settings, workdir, model, dataset, resume, layout)
    stages_ahead = [] if settings.pretrain.init_from else ["pretrain"]
    stages_ahead += ["adversarial"] if settings.adversarial.epochs else []
    check_steps(settings, model, params, data, *stages_ahead)
    done = {stage: Progress() for stage in checkpoint.STAGES}
    if resume:
        done = {stage: _progress_on_disk(workdir, stage, dataset) for stage in done}
        for name, progress in done.items():
            if name == "adversarial" or not settings.pretrain.init_from:
                checkpoint.drop_later(workdir, name, progress.epoch)

    def begin() -> None:
        if overwrite:
            remove_outputs(workdir)
        workdir.mkdir(parents=True, exist_ok=True)
        store.write_json(workdir / CONFIG_FILE, to_dict(settings))
        logs.keep_records(workdir, {stage: progress.epoch for stage, progress in done.items()})

    hosts.by_writer(begin)
    if source:
        # The run keeps what it starts from: the source may change or go before it is resumed.
        training = {"epoch": jnp.int32(source["epoch"])}
        rows = None if layout is None else (layout.rows, {"epoch": 0})
        training = training if layout is None else replicate(layout.placement, training)
        checkpoint.save(workdir, "pretrain", "best", params, training, source, rows)

    def validate(params: Params, z: Modal | None) -> dict[str, jax.Array]:
        return devices.measure(params, z, [devices.held_out["valid"]])[0]

    summary = summary_head(settings, dataset)
    summary["popularity"] = {split: devices.popularity(split) for split in devices.held_out}
    stages = summary["stages"] = {}
    run = _Run(settings, workdir, dataset, devices, watch)
    if settings.pretrain.init_from:
        stages["pretrain"] = {"init_from": settings.pretrain.init_from}
    else:
        stage, state = pretrain_stage(settings, model, params, data, validate, layout)
        params, stages["pretrain"] = _run_stage(run, stage, state, done["pretrain"])
    stages["pretrain"] |= _measure(run, params)
    if settings.adversarial.epochs:
        stage, state = adversarial_stage(settings, model, params, data, validate, layout)
        params, entry = _run_stage(run, stage, state, done["adversarial"])
        stages["adversarial"] = entry | _measure(run, params)
        # The best epoch by recall tends to be an early, little hardened one: report both.
        of_params = None if layout is None else layout.rows
        latest = checkpoint.load_params(workdir, "adversarial", "latest", params, of_params)
        stages["adversarial"]["at_last_epoch"] = _measure(run, latest)
    # Loading, compiling and writing included; of interrupted attempts, their finished epochs.
    earlier = sum(progress.seconds for progress in done.values())
    summary["wall_seconds"] = earlier + time.monotonic() - started
    summary["peak_memory_mib"] = peak_memory_mib()
    hosts.by_writer(lambda: store.write_json(workdir / SUMMARY_FILE, summary))
    return summary


def _run_stage(
    run: _Run, stage: Stage, state: TrainState, done: Progress
) -> tuple[Params, dict[str, Any]]:
    """Runs or resumes a stage; returns its best parameters and its part of the summary."""
    workdir, name, layout = run.workdir, stage.name, run.devices.layout
    like = checkpoint.shapes(stage.assemble(state.trained))
    rows = None if layout is None else (layout.rows, _training_part(stage.rows))
    if done.epoch or done.step:
        state = _resume_state(workdir, stage, state, "within" if done.step else "latest", rows)

    def save(which: str, state: TrainState, progress: Progress) -> None:
        meta = checkpoint.describe(run.settings, run.dataset)
        meta |= {"stage": name, **progress._asdict()}
        if which == checkpoint.WITHIN:
            meta["number"] = progress.epoch * stage.n_steps + progress.step
        elif which not in checkpoint.WHICH and checkpoint.saved_epoch(workdir, name, which):
            return  # by an attempt that was cut off later
        params = stage.assemble(state.trained)
        checkpoint.save(workdir, name, which, params, _training_part(state), meta, rows)
        if which == "latest":
            checkpoint.remove(workdir, name, checkpoint.WITHIN)

    def last_checkpoint() -> str:
        epochs = {w: checkpoint.saved_epoch(workdir, name, w) or 0 for w in checkpoint.WHICH}
        which = max(epochs, key=epochs.__getitem__)
        if not epochs[which]:
            return "none yet in this stage"
        return str(checkpoint.folder(workdir, name, which) / str(epochs[which]))

    with _reporting(run, stage, done) as report:
        hooks = Hooks(save, report, run.watch.stop_requested, last_checkpoint)
        every = run.settings.checkpoint.every_seconds
        progress = run_stage(stage, state, done, run.devices.data, hooks, save_seconds=every)
    entry = {
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
        "seconds": progress.seconds,
    }
    for record in logs.read_records(workdir):
        if (record["stage"], record["epoch"]) == (name, progress.epoch):
            entry["losses"] = record["losses"]  # means over the last epoch
    return checkpoint.load_params(workdir, name, "best", like, rows and rows[0]), entry


@contextlib.contextmanager
def _reporting(run: _Run, stage: Stage, done: Progress) -> Iterator[Callable[[dict], None]]:
    """What takes an epoch's record: journal, TensorBoard and terminal, of one process."""
    if not hosts.writes():
        yield lambda record: None
        return
    with (
        logs.tensorboard(run.workdir, stage.name, done.epoch) as writer,
        logs.progress(stage.name, stage.epochs, done.epoch, run.watch.on_epoch is None) as bar,
    ):

        def report(record: dict) -> None:
            logs.append_record(run.workdir, record)
            logs.add_scalars(writer, record)
            if run.watch.on_epoch is None:
                bar.show(record)
            else:
                run.watch.on_epoch(record["epoch"], stage.epochs)

        yield report


def _training_part(state: TrainState) -> dict[str, Any]:
    return {"optimizer": state.optimizer, "epoch": state.epoch, "key": state.key}


def _resume_state(
    workdir: pathlib.Path, stage: Stage, fresh: TrainState, which: str, rows: tuple | None
) -> TrainState:
    like = stage.assemble(fresh.trained), _training_part(fresh)
    params, training = checkpoint.load_state(workdir, stage.name, which, *like, rows)
    return TrainState(trained=stage.disassemble(params), **training)


def _measure(run: _Run, params: Params) -> dict[str, dict[str, float]]:
    held_out = run.devices.held_out
    measured = run.devices.measure(params, None, list(held_out.values()))
    return {
        split: {name: float(value) for name, value in metrics.items()}
        for split, metrics in zip(held_out, measured, strict=True)
    }


def first_params(
    settings: Settings,
    workdir: pathlib.Path,
    model: Model,
    dataset: Dataset,
    resume: bool,
    layout: Layout | None = None,
) -> tuple[Params, dict | None]:
    """Where stage 1, or stage 2 of an `init_from` run, starts; filled up on several devices.

    Returns:
      The parameters; and if they come from another run and are not kept in this
      one yet, the meta to keep them with.
    """
    source = settings.pretrain.init_from
    if not source:
        return init_params(settings, model, layout), None
    kept = resume and checkpoint.saved_epoch(workdir, "pretrain", "best") is not None
    restored = checkpoint.restore(
        workdir if kept else source, "pretrain", "best", dataset, settings.model.name
    )
    require_same_model(settings, restored.settings)
    params = restored.params if layout is None else put(*layout, restored.params)
    return params, None if kept else restored.meta | {"copied_from": source}


def require_same_model(settings: Settings, source: Settings) -> None:
    """Raises InputError unless both settings have the same model."""
    difference = differences(to_dict(source)["model"], to_dict(settings)["model"])
    if difference:
        raise InputError(
            f"config.pretrain.init_from = {settings.pretrain.init_from!r}: that run's model "
            f"differs in {', '.join(difference)}. Use the same config.model."
        )


def _progress_on_disk(workdir: pathlib.Path, stage: str, dataset: Dataset) -> Progress:
    found = [Progress()]
    for which in ("latest", checkpoint.WITHIN):
        if checkpoint.saved_epoch(workdir, stage, which) is not None:
            meta = checkpoint.load_meta(workdir, stage, which)
            checkpoint.check_data(meta, dataset, workdir)
            # The first versions' checkpoints lack the later fields.
            fields = {field: meta[field] for field in Progress._fields if field in meta}
            found.append(Progress(**fields))
    # What was begun before "latest" was written has not been removed by a kill.
    return max(found, key=lambda progress: (progress.epoch, progress.step))


def check_ranking_depth(settings: EvalSettings, dataset: Dataset) -> None:
    """Raises InputError for a K beyond the catalogue."""
    if max(settings.ks) > dataset.n_items:
        raise InputError(
            f"config.eval.ks = {settings.ks}: K = {max(settings.ks)} exceeds the {dataset.n_items} "
            f"items of data set '{dataset.name}'. Use smaller K."
        )


def summary_head(settings: Settings, dataset: Dataset) -> dict:
    """What a summary.json says of the run itself."""
    return {
        "dataset": {
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "users": dataset.n_users,
            "items": dataset.n_items,
        },
        "model": settings.model.name,
        "defense": settings.adversarial.defense if settings.adversarial.epochs else None,
        "seed": settings.seed,
        "settings": to_dict(settings),
        **environment(),
    }
