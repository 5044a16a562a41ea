"""What is seen step by step is what the attack itself does."""

import jax
import numpy as np
import pytest

from tests.attacks.cases import KS, attack, case, strength
from uatmc_jax.analysis.mismatch import measure_mismatch
from uatmc_jax.analysis.trajectory import follow
from uatmc_jax.attacks import attack_targets, join

ITEMS = np.array([3, 17, 8], np.int32)


@pytest.mark.parametrize("utility", ["elu", "hinge"])
@pytest.mark.parametrize("aligned", [False, True])
def test_the_steps_are_the_attacks_own(utility, aligned):
    c = case("vbpr", masked=True)
    chosen = attack(utility=utility, aligned=aligned, steps=4)
    power = strength(0.3, 0.3, beta=2.0)
    given = (c.model, chosen, power, c.victim, ITEMS, KS)
    seen = follow(*given, adjacency=c.adjacency)
    outcome = join(attack_targets(*given, jax.random.key(0), adjacency=c.adjacency))
    assert seen.utility.shape == seen.cosine.shape == (3, 5)
    assert seen.hit_rates.shape == (3, 5, len(KS))
    np.testing.assert_allclose(seen.utility, outcome.values, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(seen.hit_rates[:, 0], outcome.hr_before, atol=1e-6)
    np.testing.assert_allclose(seen.hit_rates[:, -1], outcome.hr_after, atol=1e-6)
    before = measure_mismatch(c.model, chosen, power, c.victim, ITEMS, adjacency=c.adjacency)
    np.testing.assert_allclose(seen.cosine[:, 0], before.cosine, atol=1e-5)


def test_alignment_raises_the_cosine_where_it_acts():
    c = case("vbpr")

    def last_cosine(aligned, beta):
        chosen = attack(utility="elu", aligned=aligned, steps=8, norm="l2")
        given = (c.model, chosen, strength(0.5, 0.3, beta=beta), c.victim, ITEMS, KS)
        return follow(*given, adjacency=c.adjacency).cosine[:, -1].mean()

    assert last_cosine(True, 50.0) > last_cosine(False, 0.0) + 0.01
