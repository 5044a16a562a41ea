"""What is seen step by step is what the attack itself does."""

import jax
import numpy as np
import pytest

from tests.attacks.cases import KS, attack, case, strength
from uatmc_jax.analysis.mismatch import measure_mismatch
from uatmc_jax.analysis.trajectory import follow
from uatmc_jax.attacks import Options, attack_batches, join

ITEMS = np.array([3, 17, 8], np.int32)


@pytest.mark.parametrize(
    "utility,aligned",
    [
        ("elu", True),
        ("hinge", False),
        pytest.param("elu", False, marks=pytest.mark.long),
        pytest.param("hinge", True, marks=pytest.mark.long),
    ],
)
def test_the_steps_are_the_attacks_own(utility, aligned):
    c = case("vbpr", masked=True)
    power = strength(0.3, 0.3, beta=2.0 if aligned else 0.0)
    chosen = attack(utility=utility, steps=4, **power)
    seen = follow(chosen, c.victim, ITEMS, Options(KS))
    key = jax.random.key(0)
    outcome = join(attack_batches(chosen, c.victim, ITEMS, key, options=Options(KS)))
    assert seen.utility.shape == seen.cosine.shape == (3, 5)
    assert seen.hit_rates.shape == (3, 5, len(KS))
    np.testing.assert_allclose(seen.utility, outcome.values, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(seen.hit_rates[:, 0], outcome.hr_before, atol=1e-6)
    np.testing.assert_allclose(seen.hit_rates[:, -1], outcome.hr_after, atol=1e-6)
    before = measure_mismatch(chosen, c.victim, ITEMS)
    np.testing.assert_allclose(seen.cosine[:, 0], before.cosine, atol=1e-5)


def test_alignment_raises_the_cosine_where_it_acts():
    c = case("vbpr")

    def last_cosine(beta):
        chosen = attack(utility="elu", steps=8, norm="l2", **strength(0.5, 0.3, beta=beta))
        return follow(chosen, c.victim, ITEMS, Options(KS)).cosine[:, -1].mean()

    assert last_cosine(50.0) > last_cosine(0.0) + 0.01
