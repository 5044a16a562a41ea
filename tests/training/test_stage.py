"""The loop over epochs, with epochs that do as they are told."""

import jax.numpy as jnp
import numpy as np
import pytest

from uatmc_jax.errors import CollapsedError, DivergedError, Interrupted
from uatmc_jax.training.stage import Hooks, Progress, Stage, run_stage


class State(int):
    """Stands for a TrainState: the number of its epoch, and its own trained parameters."""

    trained = property(lambda self: self)


def losses(bpr, reg):
    return {"bpr": jnp.full(4, bpr), "reg": jnp.full(4, reg), "loss": jnp.ones(4)}


def drive(
    recalls,
    terms=None,
    finite=True,
    patience=100,
    eval_every=1,
    stop_at=None,
    done=None,
    save_seconds=0.0,
    saved=None,
    keep_every=0,
):
    """Runs a stage whose n-th epoch validates to recalls[n-1]; returns what was written."""
    saved, reports = [] if saved is None else saved, []
    fine = {"bpr": jnp.ones(4), "loss": jnp.ones(4)}

    def run_epoch(state, fixed, data):
        epoch = State(state + 1)
        return epoch, (terms or {}).get(epoch, fine), jnp.asarray(finite)

    stage = Stage(
        name="pretrain",
        run_epoch=run_epoch,
        fixed=None,
        assemble=lambda trained: trained,
        disassemble=lambda params: params,
        validate=lambda epoch: {"recall@20": recalls[epoch - 1]},
        epochs=len(recalls),
        patience=patience,
        eval_every=eval_every,
        keep_every=keep_every,
    )
    done = done or Progress()
    try:
        hooks = Hooks(
            save=lambda which, state, progress: saved.append((which, int(state), progress)),
            report=reports.append,
            stop_requested=lambda: len(reports) == stop_at,
            last_checkpoint=lambda: "THE LAST ONE",
        )
        progress = run_stage(stage, State(done.epoch), done, None, hooks, save_seconds=save_seconds)
    except Interrupted as stop:
        progress = stop
    return progress, saved, reports


def test_best_and_latest_are_written_together():
    progress, saved, _ = drive([0.1, 0.3, 0.2])
    assert (progress.epoch, progress.best_epoch, progress.best_metric) == (3, 2, 0.3)
    assert [(which, state) for which, state, _ in saved] == [
        ("best", 1), ("latest", 1), ("best", 2), ("latest", 2), ("latest", 3),
    ]  # fmt: skip


def test_a_tie_keeps_the_earlier_epoch():
    assert drive([0.3, 0.3])[0].best_epoch == 1


def test_patience_counts_epochs_without_a_better_one():
    assert drive([0.3, 0.1, 0.1, 0.1, 0.9], patience=3)[0].epoch == 4


def test_sparse_evaluation_still_evaluates_the_last_epoch():
    _, _, reports = drive([0.1, 0.2, 0.3, 0.4, 0.5], eval_every=2)
    assert ["valid" in r for r in reports] == [False, True, False, True, True]


def test_interruption_writes_first():
    stop, saved, _ = drive([0.1, 0.2, 0.3], stop_at=2)
    assert isinstance(stop, Interrupted) and stop.epoch == 2
    assert [(which, state) for which, state, _ in saved][-2:] == [("best", 2), ("latest", 2)]


def test_resumption_remembers_the_best():
    done = Progress(2, 1, 0.9, 5.0)
    progress, saved, _ = drive([0.9, 0.1, 0.5], done=done)
    assert (progress.epoch, progress.best_epoch, progress.best_metric) == (3, 1, 0.9)
    assert [which for which, *_ in saved] == ["latest"] and progress.seconds >= 5.0


def test_divergence_names_step_term_and_last_checkpoint():
    bad = {"bpr": jnp.array([1, 1, np.nan, np.nan]), "loss": jnp.array([1, 1, np.nan, np.nan])}
    with pytest.raises(DivergedError) as caught:
        drive([0.1, 0.2, 0.3], terms={2: bad})
    message = str(caught.value)
    assert "epoch 2, step 3 of 4: loss term 'bpr' is nan" in message and "THE LAST ONE" in message


def test_divergence_writes_the_best_epoch_that_was_only_in_memory():
    saved = []
    bad = {"bpr": jnp.full(4, np.nan), "loss": jnp.full(4, np.nan)}
    with pytest.raises(DivergedError):
        drive([0.1, 0.2, 0.3], terms={3: bad}, save_seconds=1e9, saved=saved)
    assert [(which, state) for which, state, _ in saved] == [("best", 2)]


def test_not_finite_parameters_or_metrics_stop_before_anything_is_written():
    with pytest.raises(DivergedError, match="parameters are not"):
        drive([0.1], finite=False)
    with pytest.raises(DivergedError, match="recall@20 is nan"):
        drive([float("nan")])


SHRINKING = [losses(0.693, 1.0), losses(0.6925, 0.19), losses(0.6931, 0.1), losses(0.6931, 0.05)]


def test_a_collapse_stops_the_stage_and_names_the_remedy():
    """Three epochs at ln 2 with an L_reg under a fifth of the first one's: the fourth epoch."""
    terms, saved = dict(enumerate(SHRINKING, start=1)), []
    with pytest.raises(CollapsedError) as error:
        drive([0.1] * 9, terms=terms, saved=saved, save_seconds=99.0)
    text = str(error.value)
    assert "epoch 4: collapsed" in text and "config.pretrain.mu_warmup_epochs = 6" in text
    assert "THE LAST ONE" in text
    assert saved == [("best", 1, Progress(1, 1, 0.1, saved[0][2].seconds, 1.0, 0))]


@pytest.mark.parametrize(
    "change",
    [
        {3: losses(0.68, 0.1)},  # it has begun to learn
        {4: losses(0.6931, 0.3)},  # its embeddings grow again
        {1: losses(0.693, 0.2)},  # they were small from the start
    ],
)
def test_what_looks_like_a_collapse_and_is_none(change):
    terms = dict(enumerate(SHRINKING, start=1)) | change
    progress, _, _ = drive([0.1] * 5, terms=terms)
    assert progress.epoch == 5


def test_a_collapse_is_noticed_across_a_resumption():
    terms = dict(enumerate(SHRINKING, start=1))
    with pytest.raises(CollapsedError, match="epoch 4"):
        drive([0.1] * 9, terms=terms, done=Progress(3, 1, 0.1, 0.0, 1.0, 2))


def test_every_so_many_epochs_a_checkpoint_is_kept():
    _, saved, _ = drive([0.1, 0.3, 0.2, 0.1, 0.2], keep_every=2, save_seconds=99.0)
    assert [(which, epoch) for which, epoch, _ in saved if which.startswith("epoch")] == [
        ("epoch_2", 2),
        ("epoch_4", 4),
    ]
