"""A whole experiment: pre-train, harden, evaluate, write; the body of `uatmc_jax.train`."""

import contextlib
import json
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from uatmc_jax import checkpoint, logs
from uatmc_jax.build import build_model, open_dataset
from uatmc_jax.data import CSR, Dataset, make_csr, warm
from uatmc_jax.data.device import DeviceData, put_on_device
from uatmc_jax.environment import environment, peak_memory_mib
from uatmc_jax.errors import InputError
from uatmc_jax.evaluation.metrics import Measure, make_measure, popularity_metrics
from uatmc_jax.evaluation.ranking import make_plan
from uatmc_jax.models import Modal, Model, Params
from uatmc_jax.settings import EvalSettings, Settings, to_dict
from uatmc_jax.training.epoch import TrainState
from uatmc_jax.training.stage import Progress, Stage, run_stage
from uatmc_jax.training.stages import adversarial_stage, init_params, pretrain_stage
from uatmc_jax.training.workdir import (
    CONFIG_FILE,
    SUMMARY_FILE,
    check_workdir,
    differences,
    remove_outputs,
)


class _Run(NamedTuple):
    """What both stages of one run share."""

    settings: Settings
    workdir: pathlib.Path
    dataset: Dataset
    data: DeviceData
    held_out: dict[str, CSR]
    measure: Measure
    stop_requested: Callable[[], bool]
    on_epoch: Callable[[int, int], None] | None


def train_and_evaluate(
    settings: Settings,
    workdir: str | pathlib.Path,
    *,
    dataset: Dataset | None = None,
    resume: bool = False,
    overwrite: bool = False,
    on_epoch: Callable[[int, int], None] | None = None,
) -> dict:
    """Runs the experiment and writes everything below `workdir`.

    Args:
      settings: the experiment.
      workdir: created if absent.
      dataset: the data, if already open.
      resume: go on with the run that is there; a complete one is left as it is.
      overwrite: remove the run that is there first.
      on_epoch: told (epochs done, epochs at most) of a stage, in place of a bar.

    Returns:
      The summary, as in summary.json.

    Raises:
      InputError: before any long work, for anything the user can mend.
      DivergedError: a value that is not finite.
      Interrupted: Ctrl-C; the state is on disk and `resume` goes on with it.
    """
    workdir = pathlib.Path(workdir)
    check_workdir(settings, workdir, resume=resume, overwrite=overwrite)
    if resume and (workdir / SUMMARY_FILE).exists():  # written last: the run is complete
        return json.loads((workdir / SUMMARY_FILE).read_text(encoding="utf-8"))
    with stop_on_interrupt() as stop_requested:
        return _train_and_evaluate(
            settings, workdir, dataset, resume, overwrite, stop_requested, on_epoch
        )


def _train_and_evaluate(
    settings: Settings,
    workdir: pathlib.Path,
    dataset: Dataset | None,
    resume: bool,
    overwrite: bool,
    stop_requested: Callable[[], bool],
    on_epoch: Callable[[int, int], None] | None,
) -> dict:
    started = time.monotonic()
    dataset = open_dataset(settings.data) if dataset is None else dataset
    check_ranking_depth(settings.eval, dataset)
    held_out = {
        split: make_csr(warm(dataset.split(split), dataset), dataset.n_users)
        for split in ("valid", "test")
    }
    model = build_model(settings.model, dataset.n_users, dataset.n_items, dataset.raw_dims)
    params, source = first_params(settings, workdir, model, dataset, resume)
    done = {stage: Progress() for stage in checkpoint.STAGES}
    if resume:
        done = {stage: _progress_on_disk(workdir, stage, dataset) for stage in done}
        for stage, progress in done.items():
            if stage == "adversarial" or not settings.pretrain.init_from:
                checkpoint.drop_later(workdir, stage, progress.epoch)
    elif overwrite:
        remove_outputs(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    logs.write_json(workdir / CONFIG_FILE, to_dict(settings))
    if source:
        # The run keeps what it starts from: the source may change or go before it is resumed.
        training = {"epoch": jnp.int32(source["epoch"])}
        checkpoint.save(workdir, "pretrain", "best", params, training, source)
    logs.keep_records(workdir, {stage: progress.epoch for stage, progress in done.items()})

    data = put_on_device(dataset)
    blocks = settings.eval.block_users, settings.eval.block_items
    plan = make_plan(dataset.train, dataset.n_users, dataset.n_items, *blocks)
    measure = make_measure(model, data, plan, settings.eval.ks)

    def validate(params: Params, z: Modal | None) -> dict[str, jax.Array]:
        return measure(params, z, [held_out["valid"]])[0]

    summary = summary_head(settings, dataset)
    summary["popularity"] = {
        split: popularity_metrics(dataset, plan, split, settings.eval.ks) for split in held_out
    }
    stages = summary["stages"] = {}
    run = _Run(settings, workdir, dataset, data, held_out, measure, stop_requested, on_epoch)
    if settings.pretrain.init_from:
        stages["pretrain"] = {"init_from": settings.pretrain.init_from}
    else:
        stage, state = pretrain_stage(settings, model, params, data, validate)
        params, stages["pretrain"] = _run_stage(run, stage, state, done["pretrain"])
    stages["pretrain"] |= _measure(run, params)
    if settings.adversarial.epochs:
        stage, state = adversarial_stage(settings, model, params, data, validate)
        params, entry = _run_stage(run, stage, state, done["adversarial"])
        stages["adversarial"] = entry | _measure(run, params)
        # The best epoch by recall tends to be an early, little hardened one: report both.
        latest = checkpoint.load_params(workdir, "adversarial", "latest", params)
        stages["adversarial"]["at_last_epoch"] = _measure(run, latest)
    # Loading, compiling and writing included; of interrupted attempts, their finished epochs.
    earlier = sum(progress.seconds for progress in done.values())
    summary["wall_seconds"] = earlier + time.monotonic() - started
    summary["peak_memory_mib"] = peak_memory_mib()
    logs.write_json(workdir / SUMMARY_FILE, summary)
    return summary


def _run_stage(
    run: _Run, stage: Stage, state: TrainState, done: Progress
) -> tuple[Params, dict[str, Any]]:
    """Runs or resumes a stage; returns its best parameters and its part of the summary."""
    workdir, name = run.workdir, stage.name
    like = checkpoint.shapes(stage.assemble(state.trained))
    if done.epoch:
        state = _resume_state(workdir, stage, state)

    def save(which: str, state: TrainState, progress: Progress) -> None:
        meta = checkpoint.describe(run.settings, run.dataset)
        meta |= {"stage": name, **progress._asdict()}
        checkpoint.save(
            workdir, name, which, stage.assemble(state.trained), _training_part(state), meta
        )

    def last_checkpoint() -> str:
        epochs = {w: checkpoint.saved_epoch(workdir, name, w) or 0 for w in checkpoint.WHICH}
        which = max(epochs, key=epochs.get)
        if not epochs[which]:
            return "none yet in this stage"
        return str(checkpoint.folder(workdir, name, which) / str(epochs[which]))

    with (
        logs.tensorboard(workdir, name, done.epoch) as writer,
        logs.progress(name, stage.epochs, done.epoch, run.on_epoch is None) as bar,
    ):

        def report(record: dict) -> None:
            logs.append_record(workdir, record)
            logs.add_scalars(writer, record)
            if run.on_epoch is None:
                bar.show(record)
            else:
                run.on_epoch(record["epoch"], stage.epochs)

        progress = run_stage(
            stage,
            state,
            done,
            run.data,
            save=save,
            save_seconds=run.settings.checkpoint.every_seconds,
            report=report,
            stop_requested=run.stop_requested,
            last_checkpoint=last_checkpoint,
        )
    entry = {
        "epochs": progress.epoch,
        "best_epoch": progress.best_epoch,
        "seconds": progress.seconds,
    }
    records = [record for record in logs.read_records(workdir) if record["stage"] == name]
    if records:
        entry["losses"] = records[-1]["losses"]  # means over the last epoch
    return checkpoint.load_params(workdir, name, "best", like), entry


def _training_part(state: TrainState) -> dict[str, Any]:
    return {"optimizer": state.optimizer, "epoch": state.epoch, "key": state.key}


def _resume_state(workdir: pathlib.Path, stage: Stage, fresh: TrainState) -> TrainState:
    like = stage.assemble(fresh.trained), _training_part(fresh)
    params, training = checkpoint.load_state(workdir, stage.name, "latest", *like)
    return TrainState(trained=stage.disassemble(params), **training)


def _measure(run: _Run, params: Params) -> dict[str, dict[str, float]]:
    measured = run.measure(params, None, list(run.held_out.values()))
    return {
        split: {name: float(value) for name, value in metrics.items()}
        for split, metrics in zip(run.held_out, measured, strict=True)
    }


def first_params(
    settings: Settings, workdir: pathlib.Path, model: Model, dataset: Dataset, resume: bool
) -> tuple[Params, dict | None]:
    """Where stage 1, or stage 2 of an `init_from` run, starts.

    Returns:
      The parameters; and if they come from another run and are not kept in this
      one yet, the meta to keep them with.
    """
    source = settings.pretrain.init_from
    if not source:
        return init_params(settings, model), None
    kept = resume and checkpoint.saved_epoch(workdir, "pretrain", "best") is not None
    restored = checkpoint.restore(
        workdir if kept else source, "pretrain", "best", dataset, settings.model.name
    )
    difference = differences(to_dict(restored.settings)["model"], to_dict(settings)["model"])
    if difference:
        raise InputError(
            f"config.pretrain.init_from = {source!r}: that run's model differs in "
            f"{', '.join(difference)}. Use the same config.model."
        )
    return restored.params, None if kept else restored.meta | {"copied_from": source}


def _progress_on_disk(workdir: pathlib.Path, stage: str, dataset: Dataset) -> Progress:
    if checkpoint.saved_epoch(workdir, stage, "latest") is None:
        return Progress()
    meta = checkpoint.load_meta(workdir, stage, "latest")
    checkpoint.check_data(meta, dataset, workdir)
    return Progress(**{field: meta[field] for field in Progress._fields})


def check_ranking_depth(settings: EvalSettings, dataset: Dataset) -> None:
    """Raises InputError for a K beyond the catalogue."""
    if max(settings.ks) > dataset.n_items:
        raise InputError(
            f"config.eval.ks = {settings.ks}: K = {max(settings.ks)} exceeds the {dataset.n_items} "
            f"items of data set '{dataset.name}'. Use smaller K."
        )


@contextlib.contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Turns the first Ctrl-C into a request to stop after the epoch; the second acts as usual."""
    requested = []

    def note(*_: Any) -> None:
        requested.append(True)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print(
            "\nstopping: finishing this epoch and saving (Ctrl-C again to stop at once)",
            file=sys.stderr,
            flush=True,
        )

    try:
        previous = signal.signal(signal.SIGINT, note)
    except ValueError:  # not in the main thread: signals are the caller's business
        yield lambda: False
        return
    try:
        yield lambda: bool(requested)
    finally:
        signal.signal(signal.SIGINT, previous)


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
