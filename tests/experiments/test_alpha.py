"""What is said of the paper's mismatch over the weight of InfoNCE."""

import pytest

from experiments.paper.alpha import ARTEFACT
from experiments.paper.artefact import FAILS, HOLDS, UNDECIDED, UNTESTED


def row(label, cosine, overlap, difference=None):
    """A weight's row; `difference` is that of UAT-MC's gain from UAT's, the same in each seed."""
    defence = None
    if difference is not None:
        interval = [difference - 0.1, difference + 0.1]
        by_training = [difference] * 3
        gain = {"value": difference, "over_targets": interval, "over_trainings": interval}
        defence = {"gain": gain | {"by_training": by_training}}
    mismatch = {"cos(z^v, z^t)": cosine, "Jaccard fgsm": overlap}
    return {
        "label": label,
        "mismatch": mismatch,
        "by_training_mismatch": [mismatch] * 3,
        "coordinated_defence": defence,
    }


@pytest.mark.parametrize(
    "lowest,verdicts",
    [
        (row("alpha 0", 0.0, 0.7, 3.5), [FAILS, UNTESTED, FAILS]),  # as on Baby
        (row("alpha 0", 0.0, 0.2, 3.5), [HOLDS, FAILS, FAILS]),
        (row("alpha 0", 0.0, 0.2, -3.5), [HOLDS, HOLDS, UNDECIDED]),
        (row("alpha 0", 0.0, 0.2, 0.0), [HOLDS, UNDECIDED, UNDECIDED]),
    ],
)
def test_verdicts(lowest, verdicts):
    rows = [lowest, row("alpha 1", 0.99, 0.7, 0.0), row("features as they are", 0.01, 0.7)]
    claims = ARTEFACT.claims(rows)
    assert [one.verdict for one in claims] == verdicts
    assert "alpha 0" in claims[2].evidence and "features as they are" not in claims[2].evidence


def test_a_mismatch_without_a_coordinated_defence_tests_none():
    claims = ARTEFACT.claims([row("alpha 1", 0.99, 0.7), row("features as they are", 0.01, 0.2)])
    assert [one.verdict for one in claims] == [HOLDS, UNTESTED, UNTESTED]
    assert all(one.evidence for one in claims)
