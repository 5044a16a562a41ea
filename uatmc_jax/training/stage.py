"""The host's loop over one stage's epochs: evaluate, remember the best, log, write, stop."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.data.dataset import DeviceData
from uatmc_jax.errors import CollapsedError, DivergedError, Interrupted
from uatmc_jax.hosts import agreed
from uatmc_jax.models import Params
from uatmc_jax.training.epoch import TrainState

SELECTED_BY = "recall@20"
PyTree = Any
# Collapsed: L_BPR this near to ln 2, which it is where all scores are 0, and L_reg below this
# share of its mean over the first epoch, so many epochs in a row.
_FLAT, _SHRUNK, _FLAT_EPOCHS = 1e-3, 0.2, 3


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
      keep_every: epochs between checkpoints that are kept; 0 for none but the usual ones.
      n_steps: of an epoch.
      chunk_steps: steps at a time, between which a checkpoint may be written; 0 for an epoch.
      rows: of the state, as `placement.Layout` has them; None on one device.
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
    keep_every: int = 0
    n_steps: int = 0
    chunk_steps: int = 0
    rows: PyTree = None


class Progress(NamedTuple):
    """How far a stage is; plain numbers, kept in its checkpoints.

    Attributes:
      epoch: epochs done.
      best_epoch: the best so far; 0 before the first evaluation.
      best_metric: its validation recall@20.
      seconds: spent on epochs and evaluations, over all resumptions.
      first_reg: L_reg, the mean over the first epoch.
      flat_epochs: in a row until now that looked collapsed.
      step: steps done of the epoch after `epoch`.
      sums: of the loss terms over these; None before the first.
    """

    epoch: int = 0
    best_epoch: int = 0
    best_metric: float = -1.0
    seconds: float = 0.0
    first_reg: float = 0.0
    flat_epochs: int = 0
    step: int = 0
    sums: Mapping[str, float] | None = None


def finished(stage: Stage, progress: Progress) -> bool:
    """Whether the stage has no epoch left to run."""
    waited = progress.epoch - progress.best_epoch
    return progress.epoch >= stage.epochs or waited >= stage.patience


# (which, state, progress of that state) -> writes a checkpoint
Save = Callable[[str, TrainState, Progress], None]


class Hooks(NamedTuple):
    """What a stage's loop asks and tells on its way.

    Attributes:
      save: writes a checkpoint; called for "best" and "latest" together, for "epoch_N", and
        for "within" an epoch.
      report: takes one epoch's record.
      stop_requested: asked after every epoch, and after every chunk of one.
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
      CollapsedError: all embeddings have shrunk to nothing.
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
        start, earlier, epoch = time.monotonic(), progress.seconds, progress.epoch + 1
        for first, count in _chunks(stage, progress.step):
            part = {} if count is None else {"first": first, "count": count}
            state, found, finite = stage.run_epoch(state, stage.fixed, data, **part)
            terms = {name: np.asarray(values) for name, values in found.items()}
            where = f"stage {stage.name}, epoch {epoch}", first, stage.n_steps
            _check_finite(where, terms, bool(finite), name_last)
            losses = {name: float(values.mean()) for name, values in terms.items()}
            if count is None:
                break
            now = time.monotonic()
            progress, start = _after_chunk(progress, terms, now - start), now
            losses = {name: x / stage.n_steps for name, x in (progress.sums or {}).items()}
            if progress.step == stage.n_steps:
                break
            stop = agreed(hooks.stop_requested())
            if stop or agreed(now - written >= save_seconds):
                if best is not None:
                    hooks.save("best", *best)
                    best = None
                hooks.save("within", state, progress)
                written = time.monotonic()
            if stop:
                raise Interrupted(stage.name, progress.epoch)
        record: dict[str, Any] = {"stage": stage.name, "epoch": epoch, "losses": losses}
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
        first_reg, flat_epochs = watch_collapse(record["losses"], progress)
        total = progress.seconds + time.monotonic() - start
        progress = Progress(epoch, best_epoch, best_metric, total, first_reg, flat_epochs)
        if best_epoch == epoch:
            # The next epoch consumes the state, so the best one is copied until it is written.
            best = jax.tree.map(jnp.copy, state), progress
        record |= {"best_recall@20": best_metric, "best_epoch": best_epoch}
        record["seconds"] = total - earlier
        hooks.report(record)
        if collapsed(progress):
            what = f"stage {stage.name}"
            raise CollapsedError(collapse_text(what, stage.name, epoch, name_last()))
        if stage.keep_every and epoch % stage.keep_every == 0:
            hooks.save(f"epoch_{epoch}", state, progress)
        stop = agreed(hooks.stop_requested())
        due = stop or finished(stage, progress)
        if due or agreed(time.monotonic() - written >= save_seconds):
            if best is not None:
                hooks.save("best", *best)
                best = None
            hooks.save("latest", state, progress)
            written = time.monotonic()
        if stop and not finished(stage, progress):
            raise Interrupted(stage.name, epoch)
    return progress


def _chunks(stage: Stage, first: int) -> Iterator[tuple[int, int | None]]:
    """First step and number of steps of what is left of an epoch; (0, None) for all at once."""
    if not stage.chunk_steps:
        yield 0, None
        return
    for start in range(first, stage.n_steps, stage.chunk_steps):
        yield start, min(stage.chunk_steps, stage.n_steps - start)


def _after_chunk(progress: Progress, terms: Mapping[str, np.ndarray], seconds: float) -> Progress:
    before = progress.sums or {}
    sums = {name: before.get(name, 0.0) + float(x.sum(dtype=float)) for name, x in terms.items()}
    step = progress.step + len(terms["loss"])
    return progress._replace(step=step, sums=sums, seconds=progress.seconds + seconds)


def watch_collapse(losses: Mapping[str, float], progress: Progress) -> tuple[float, int]:
    """Whether an epoch looks collapsed: L_BPR is that of no score at all, and L_reg has shrunk.

    Args:
      losses: the epoch's means by term; without "bpr" and "reg" there is nothing to watch.
      progress: before the epoch.

    Returns:
      `first_reg` and `flat_epochs` of the progress after it.
    """
    if not {"bpr", "reg"} <= losses.keys():
        return 0.0, 0
    first = progress.first_reg if progress.epoch else losses["reg"]
    flat = abs(losses["bpr"] - math.log(2)) < _FLAT and losses["reg"] < _SHRUNK * first
    return first, progress.flat_epochs + 1 if flat else 0


def collapsed(progress: Progress) -> bool:
    """Whether the stage has nothing left to train."""
    return progress.flat_epochs >= _FLAT_EPOCHS


def collapse_text(what: str, stage: str, epoch: int, last_checkpoint: str) -> str:
    """The message of a collapse.

    Args:
      what: has collapsed, for example "stage pretrain".
      stage: "pretrain" or "adversarial".
      epoch: at which it was noticed.
      last_checkpoint: the newest one on disk.
    """
    remedy = f"Lower config.{stage}.mu"
    if stage == "pretrain":
        remedy = "Set config.pretrain.mu_warmup_epochs = 6, or more, or lower config.pretrain.mu"
    return (
        f"{what}, epoch {epoch}: collapsed. L_BPR has been ln 2 for {_FLAT_EPOCHS} epochs, as if "
        f"there were no scores, and L_reg has shrunk to under {_SHRUNK:.0%} of what it was: "
        f"config.{stage}.mu draws all embeddings to zero before L_BPR has shaped any. {remedy}, "
        f"and start again in another --workdir. Last checkpoint: {last_checkpoint}."
    )


def _check_finite(
    where: tuple[str, int, int],
    terms: dict[str, np.ndarray],
    parameters_finite: bool,
    last_checkpoint: Callable[[], str],
) -> None:
    """Raises DivergedError; `where` is the stage and epoch, the terms' first step, the steps."""
    (what, first, n_steps), steps = where, len(terms["loss"])
    bad = {name: int(np.argmax(~np.isfinite(v))) for name, v in terms.items() if not _ok(v)}
    if bad:
        # Of the terms that fail first, the sum "loss" says least.
        step, _, term = min((step, name == "loss", name) for name, step in bad.items())
        raise DivergedError(
            f"{what}, step {first + step + 1} of {n_steps or steps}: loss term "
            f"'{term}' is {terms[term][step]}. {_remedy(last_checkpoint)}"
        )
    if not parameters_finite:
        raise DivergedError(
            f"{what}, {'step ' + str(first + steps) if first + steps < n_steps else 'last step'}: "
            f"the losses are finite, the updated parameters are not. {_remedy(last_checkpoint)}"
        )


def _ok(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).all())


def _remedy(last_checkpoint: Callable[[], str]) -> str:
    return (
        f"Last good checkpoint: {last_checkpoint()}. Start again in another --workdir with a lower "
        "optimizer.learning_rate of this stage, or with its optimizer.clip_norm set."
    )
