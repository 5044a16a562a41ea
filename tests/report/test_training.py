"""What a training's last lines say of it."""

import copy
import math

import pytest

from uatmc_jax.report import remarks

POPULAR = 0.04
GOOD = {"recall@20": 0.06}
SUMMARY = {
    "popularity": {"valid": {"recall@20": POPULAR}, "test": {"recall@20": POPULAR}},
    "settings": {
        "pretrain": {"epochs": 60, "mu": 1.0},
        "adversarial": {"epochs": 10, "mu": 0.1},
    },
    "stages": {
        "pretrain": {
            "epochs": 30, "best_epoch": 20, "losses": {"bpr": 0.2}, "valid": GOOD, "test": GOOD,
        },
        "adversarial": {
            "epochs": 10, "best_epoch": 3, "losses": {"bpr": 0.2}, "valid": GOOD, "test": GOOD,
            "at_last_epoch": {"valid": GOOD, "test": GOOD},
        },
    },
}  # fmt: skip


def changed(stage, **fields):
    """The good summary with fields of one of its stages replaced."""
    summary = copy.deepcopy(SUMMARY)
    summary["stages"][stage] |= fields
    return summary


def test_nothing_is_said_of_a_good_training():
    assert remarks(SUMMARY) == []


@pytest.mark.parametrize(("test", "said"), [(0.039, True), (POPULAR, True), (0.041, False)])
def test_no_better_than_popularity(test, said):
    found = remarks(changed("pretrain", test={"recall@20": test}))
    expected = f"pretrain: test recall@20 {test:.4f} is no better than recommending"
    assert [one.startswith(expected) for one in found] == [True] * said


@pytest.mark.parametrize(
    ("best", "epochs", "said"), [(60, 60, True), (59, 60, False), (30, 30, False)]
)
def test_still_improving(best, epochs, said):
    found = remarks(changed("pretrain", best_epoch=best, epochs=epochs))
    assert [("config.pretrain.epochs" in one and "improving" in one) for one in found] == [
        True
    ] * said


@pytest.mark.parametrize(
    ("recall", "bpr", "said"),
    [
        (0.001, math.log(2), True),
        (0.001, 0.6931 * 0.992, True),
        (0.001, 0.6931 * 0.988, False),  # it has learnt something
        (0.021, math.log(2), False),  # not far below popularity
    ],
)
def test_a_collapse_names_mu_and_what_to_do(recall, bpr, said):
    poor = {"recall@20": recall}
    found = remarks(changed("pretrain", valid=poor, losses={"bpr": bpr}))
    assert [one.startswith("pretrain collapsed") for one in found] == [True] * said
    assert all("smaller config.pretrain.mu (now 1), a tenth of it say" in one for one in found)
    # Stage 2 is judged as it ends, not at its best epoch.
    ends = {"valid": poor, "test": GOOD}
    found = remarks(changed("adversarial", at_last_epoch=ends, losses={"bpr": bpr}))
    assert [one.startswith("adversarial collapsed") for one in found] == [True] * said


def test_a_collapse_says_that_it_is_no_better_too():
    poor = {"recall@20": 0.0}
    (found,) = remarks(changed("pretrain", valid=poor, test=poor, losses={"bpr": math.log(2)}))
    assert found.startswith("pretrain collapsed")


def test_a_model_that_has_just_begun_has_not_collapsed():
    poor = {"recall@20": 0.001}
    losses = {"bpr": math.log(2)}
    begun = changed("pretrain", best_epoch=60, epochs=60, valid=poor, test=poor, losses=losses)
    popularity, improving = remarks(begun)
    assert "no better than" in popularity and "still improving" in improving


def test_summaries_of_before_and_of_another_runs_first_stage():
    summary = changed("adversarial", valid={"recall@20": 0.0})
    del summary["popularity"]["valid"]
    for stage in summary["stages"].values():
        del stage["losses"]
    summary["stages"]["pretrain"] = {"init_from": "runs/a", "valid": GOOD, "test": GOOD}
    assert remarks(summary) == []
