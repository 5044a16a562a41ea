"""UAT-MC against UAT at the ends of the beta grid: what decides, and what is trained for it."""

import pytest

from experiments import runner
from experiments.paper.artefact import FAILS, HOLDS, UNDECIDED
from experiments.paper.coordination import ARTEFACT, _coordinated
from experiments.paper.registry import ARTEFACTS
from tests.experiments.test_effects import entry, row_of
from tests.experiments.test_reproduce import small_study


def rows(of_gain, points, gain=3.0):
    """UAT's and UAT-MC's at two weights; the differences from UAT alike in both."""
    uat = row_of("uat", 0.002, 6.0)
    against = {"gain": of_gain, "points": points}
    return [uat] + [row_of("v", 0.001, gain, beta=b, against_uat=against) for b in (1.0, 10.0)]


@pytest.mark.parametrize(
    "of_gain,points,verdict",
    [
        (entry(-3.0), entry(-0.001), HOLDS),
        (entry(3.0), entry(0.001), FAILS),
        (entry(-3.0, by_training=[-3.0, 1.0, -7.0]), entry(-0.001), UNDECIDED),
        (entry(None), entry(0.001), FAILS),  # by the hit rate won
        ({"value": -3.0, "over_targets": [-4.0, -2.0]}, entry(-0.001), UNDECIDED),
    ],
)
def test_verdicts(of_gain, points, verdict):
    claims = ARTEFACT.claims(rows(of_gain, points))
    assert [claim.verdict for claim in claims] == [verdict] * 2
    assert [claim.text.partition("(")[2] for claim in claims] == ["beta 1).", "beta 10)."]
    for claim in claims:
        assert (claim.why == "one training seed") == ("over_trainings" not in of_gain)
        assert ("of HR@50" in claim.evidence) == (of_gain["value"] is None)


def test_what_is_trained_for_it_renames_no_other_training(tmp_path):
    """A unit's name is where its seconds and rows are found again."""
    study = small_study(tmp_path)
    every = {unit.name for unit in runner.units_of(study, list(ARTEFACTS.values()))}
    others = [one for one in ARTEFACTS.values() if one is not ARTEFACT]
    own = every - {unit.name for unit in runner.units_of(study, others)}
    assert own == {"coordination/pgd"} | {
        f"training/{name}, coordination ({seed})"
        for name in ["uat_mc_beta_1"]
        for seed in study.seeds[1:]
    }
    assert list(_coordinated(study)) == [1.0, 4.0]
    alone = small_study(tmp_path, betas=(2.0,))
    assert list(_coordinated(alone)) == [2.0]
