"""The host's loop over one stage's epochs: evaluate, remember the best, log, write, stop."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.data.dataset import DeviceData
from uatmc_jax.errors import DivergedError, Interrupted
from uatmc_jax.models import Params
from uatmc_jax.training.epoch import TrainState

SELECTED_BY = "recall@20"
PyTree = Any


class Stage(NamedTuple):
    """What makes a stage.

    Attributes:
      name: "pretrain" or "adversarial".
      run_epoch: compiled epoch, from `make_epoch`.
      fixed: what its objective reads and does not train.
      assemble: trained parameters -> the whole model's Params.
      disassemble: the way back.
      validate: Params -> {metric: scalar} on the validation split.
      epochs: at most this many.
      patience: stop after this many epochs without a better validation recall@20.
      eval_every: epochs between evaluations.
    """

    name: str
    run_epoch: Callable[..., tuple[TrainState, dict[str, jax.Array], jax.Array]]
    fixed: PyTree
    assemble: Callable[[PyTree], Params]
    disassemble: Callable[[Params], PyTree]
    validate: Callable[[Params], dict[str, jax.Array]]
    epochs: int
    patience: int
    eval_every: int


class Progress(NamedTuple):
    """How far a stage is; plain numbers, kept in its checkpoints.

    Attributes:
      epoch: epochs done.
      best_epoch: the best so far; 0 before the first evaluation.
      best_metric: its validation recall@20.
      seconds: spent on epochs and evaluations, over all resumptions.
    """

    epoch: int = 0
    best_epoch: int = 0
    best_metric: float = -1.0
    seconds: float = 0.0


def finished(stage: Stage, progress: Progress) -> bool:
    """Whether the stage has no epoch left to run."""
    waited = progress.epoch - progress.best_epoch
    return progress.epoch >= stage.epochs or waited >= stage.patience


# (which, state, progress of that state) -> writes a checkpoint
Save = Callable[[str, TrainState, Progress], None]


class Hooks(NamedTuple):
    """What a stage's loop asks and tells on its way.

    Attributes:
      save: writes a checkpoint; called for "best" and "latest" together.
      report: takes one epoch's record.
      stop_requested: asked after every epoch.
      last_checkpoint: names the newest one on disk, for an error message.
    """

    save: Save
    report: Callable[[dict], None]
    stop_requested: Callable[[], bool]
    last_checkpoint: Callable[[], str]


def run_stage(
    stage: Stage,
    state: TrainState,
    progress: Progress,
    data: DeviceData,
    hooks: Hooks,
    *,
    save_seconds: float,
) -> Progress:
    """Runs the stage to its end from wherever `state` and `progress` are.

    Args:
      stage: what to run.
      state: consumed.
      progress: where `state` is.
      data: on the device.
      hooks: asked and told on the way.
      save_seconds: least time between writes.

    Returns:
      The final progress.

    Raises:
      DivergedError: a loss, parameter or metric is not finite; nothing bad was written.
      Interrupted: a stop was requested; everything up to this epoch is written.
    """
    best: tuple[TrainState, Progress] | None = None

    def name_last() -> str:
        # Before giving up, write the best epoch that is still only in memory.
        if best is not None:
            hooks.save("best", *best)
        return hooks.last_checkpoint()

    written = time.monotonic()
    while not finished(stage, progress):
        start = time.monotonic()
        state, found, finite = stage.run_epoch(state, stage.fixed, data)
        terms = {name: np.asarray(values) for name, values in found.items()}
        epoch = progress.epoch + 1
        _check_finite(stage.name, epoch, terms, bool(finite), name_last)
        record: dict[str, Any] = {
            "stage": stage.name,
            "epoch": epoch,
            "losses": {name: float(values.mean()) for name, values in terms.items()},
        }
        best_epoch, best_metric = progress.best_epoch, progress.best_metric
        if epoch % stage.eval_every == 0 or epoch == stage.epochs:
            metrics = stage.validate(stage.assemble(state.trained))
            record["valid"] = {name: float(value) for name, value in metrics.items()}
            metric = record["valid"][SELECTED_BY]
            if not np.isfinite(metric):
                raise DivergedError(
                    f"stage {stage.name}, epoch {epoch}: validation {SELECTED_BY} is {metric}, the "
                    f"embeddings are not finite. {_remedy(name_last)}"
                )
            if metric > best_metric:
                best_epoch, best_metric = epoch, metric
        seconds = time.monotonic() - start
        progress = Progress(epoch, best_epoch, best_metric, progress.seconds + seconds)
        if best_epoch == epoch:
            # The next epoch consumes the state, so the best one is copied until it is written.
            best = jax.tree.map(jnp.copy, state), progress
        record |= {"best_recall@20": best_metric, "best_epoch": best_epoch, "seconds": seconds}
        hooks.report(record)
        stop = hooks.stop_requested()
        if stop or finished(stage, progress) or time.monotonic() - written >= save_seconds:
            if best is not None:
                hooks.save("best", *best)
                best = None
            hooks.save("latest", state, progress)
            written = time.monotonic()
        if stop and not finished(stage, progress):
            raise Interrupted(stage.name, epoch)
    return progress


def _check_finite(
    stage: str,
    epoch: int,
    terms: dict[str, np.ndarray],
    parameters_finite: bool,
    last_checkpoint: Callable[[], str],
) -> None:
    bad = {name: int(np.argmax(~np.isfinite(v))) for name, v in terms.items() if not _ok(v)}
    if bad:
        # Of the terms that fail first, the sum "loss" says least.
        step, _, term = min((step, name == "loss", name) for name, step in bad.items())
        raise DivergedError(
            f"stage {stage}, epoch {epoch}, step {step + 1} of {len(terms['loss'])}: loss term "
            f"'{term}' is {terms[term][step]}. {_remedy(last_checkpoint)}"
        )
    if not parameters_finite:
        raise DivergedError(
            f"stage {stage}, epoch {epoch}, last step: the losses are finite, the updated "
            f"parameters are not. {_remedy(last_checkpoint)}"
        )


def _ok(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).all())


def _remedy(last_checkpoint: Callable[[], str]) -> str:
    return (
        f"Last good checkpoint: {last_checkpoint()}. Start again in another --workdir with a lower "
        "optimizer.learning_rate of this stage, or with its optimizer.clip_norm set."
    )
