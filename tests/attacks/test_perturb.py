"""What every attack must hold to: its ball, its order of strength, its seed, its batches."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import oracles
from tests.attacks.cases import (
    DATASET,
    ITEMS,
    KS,
    MMGCN_SLOW,
    MODALITIES,
    PLAIN,
    RESTARTED,
    K,
    attack,
    case,
    run,
    strength,
)
from uatmc_jax.attacks.perturb import Aim, perturb
from uatmc_jax.attacks.record import as_compiled
from uatmc_jax.attacks.scoring.direct import DIRECT
from uatmc_jax.attacks.scoring.protocol import Target


def rows(c, level):
    """The clean rows that an attack at this level moves."""
    return c.victim.z if level == "projected" else c.victim.features


BALLS = [
    ("projected", "l2", (), "best", 1),
    ("projected", "linf", ("visual",), "last", 0),
    ("feature", "l2", ("textual",), "last", 0),
    ("feature", "linf", ("textual", "visual"), "best", 1),
]


@pytest.mark.parametrize("level,norm,modalities,keep,restarts", BALLS)
@settings(max_examples=8, deadline=None)
@given(st.floats(0.0, 2.0), st.floats(0.05, 3.0))
def test_every_perturbation_stays_in_its_ball(level, norm, modalities, keep, restarts, eps, step):
    c = case("vbpr")
    chosen = attack(norm=norm, level=level, modalities=modalities, keep=keep, restarts=restarts,
                    steps=3)  # fmt: skip
    outcome = run(c, chosen, strength(eps, step))
    order = np.inf if norm == "linf" else 2
    moved = [m for m, name in enumerate(MODALITIES) if name in (modalities or MODALITIES)]
    for m, delta in zip(moved, outcome.delta, strict=True):
        clean = np.asarray(rows(c, level)[m])[ITEMS]
        radius = eps * np.linalg.norm(clean, axis=1)
        size = np.linalg.norm(delta, ord=order, axis=1)
        assert np.all(size <= radius * (1 + 1e-5) + 1e-7)
        if level == "projected":
            np.testing.assert_allclose(outcome.z[m], clean + delta, rtol=1e-5, atol=1e-6)
    for m in set(range(2)) - set(moved):
        np.testing.assert_array_equal(outcome.z[m], np.asarray(c.victim.z[m])[ITEMS])
    if level == "feature":
        for m in moved:
            np.testing.assert_allclose(np.linalg.norm(outcome.z[m], axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("level,utility", [("projected", "hinge"), ("feature", "elu")])
@settings(max_examples=8, deadline=None)
@given(st.integers(0, 20), st.floats(0.01, 1.0), st.floats(0.02, 2.0))
def test_best_kept_pgd_is_never_below_fgsm_nor_the_start(level, utility, seed, eps, step):
    c = case("vbpr", seed=seed % 3)
    items = np.random.default_rng(seed).choice(DATASET.n_items, 5, replace=False).astype(np.int32)
    shared = {"utility": utility, "level": level}
    fgsm = run(c, attack(steps=1, **shared), strength(eps, 1.0), items)
    pgd = run(c, attack(steps=6, keep="best", **shared), strength(eps, step), items)
    slack = 1e-5 * (1 + np.abs(pgd.utility_after))
    assert np.all(pgd.utility_after >= fgsm.utility_after - slack)
    assert np.all(pgd.utility_after >= pgd.values.max(axis=1) - slack)
    more = run(c, attack(steps=6, keep="best", restarts=2, **shared), strength(eps, step), items)
    # Not below `pgd`'s: restarts are another program, and one that rounds otherwise may part from
    # it where a gradient changes its sign.
    assert np.all(more.utility_after >= fgsm.utility_after - slack)
    assert np.all(more.utility_after >= more.values.max(axis=1) - slack)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 5), st.floats(0.01, 1.0))
def test_apgd_is_never_below_fgsm_nor_the_start(seed, eps):
    """Its first step ends at FGSM's point; hits are those of the content it returns."""
    c = case("vbpr", seed=seed % 3)
    fgsm = run(c, attack(steps=1, utility="elu"), strength(eps, 1.0))
    apgd = run(c, attack(steps=6, utility="elu", search="apgd", restarts=1), strength(eps))
    slack = 1e-5 * (1 + np.abs(apgd.utility_after))
    assert np.all(apgd.utility_after >= np.maximum(fgsm.utility_after, apgd.utility_before) - slack)
    for n, item in enumerate(ITEMS):
        hits = c.hits(item, [x[n] for x in apgd.z]).mean(axis=0)
        np.testing.assert_allclose(apgd.hr_after[n], hits, atol=1e-6)


def test_the_random_attack_differentiates_nothing():
    c = case("vbpr")

    @jax.custom_jvp
    def forbidden(x):
        return x

    @forbidden.defjvp
    def _(primals, tangents):
        raise AssertionError("differentiated")

    rows = c.model.encode_rows
    model = c.model._replace(encode_rows=lambda e, z: rows(e, tuple(map(forbidden, z))))
    victim = dataclasses.replace(c.victim, model=model)
    state = DIRECT.prepare(victim, Target(jnp.int32(3)), K, KS)
    aim = Aim(DIRECT, state, jnp.ones(len(c.users)))

    def trace(chosen):
        chosen = as_compiled(chosen)
        return jax.eval_shape(lambda key: perturb(chosen, victim, aim, key), jax.random.key(0))

    for level in ("projected", "feature"):
        found = trace(attack(search="random", restarts=1, steps=9, level=level))
        assert found.values.shape == (10,)
    with pytest.raises(AssertionError, match="differentiated"):
        trace(attack(search="apgd"))


@pytest.mark.parametrize(
    "name,utility,steps",
    [("vbpr", "elu", 3), pytest.param("mmgcn", "hinge", 2, marks=pytest.mark.slow)],
)
def test_fgsm_and_pgd_equal_the_formula(name, utility, steps):
    """delta <- clip(delta + step * sign(grad Phi), -r, r) with gradients by finite differences."""
    c, item, eps, step = case(name), int(ITEMS[0]), 0.3, 0.4
    outcome = run(c, attack(utility=utility, steps=steps), strength(eps, step), ranks=True)
    z = [np.asarray(x, np.float64)[[item]] for x in c.victim.z]
    radius = [eps * np.linalg.norm(x) for x in z]
    delta = [np.zeros_like(x) for x in z]

    def phi(d):
        return c.utility(item, [a + b for a, b in zip(z, d, strict=True)], utility, 1.0)

    for n in range(steps):
        np.testing.assert_allclose(outcome.values[0, n], phi(delta), rtol=1e-4, atol=1e-5)
        gradient = oracles.numeric_gradient(phi, delta, 1e-6)
        delta = [
            np.clip(d + step * r * np.sign(g), -r, r)
            for d, g, r in zip(delta, gradient, radius, strict=True)
        ]
    for got, wanted in zip(outcome.delta, delta, strict=True):
        np.testing.assert_allclose(got[:1], wanted, atol=1e-5)
    np.testing.assert_allclose(outcome.utility_after[0], phi(delta), rtol=1e-4, atol=1e-5)
    after = [a + d for a, d in zip(z, delta, strict=True)]
    np.testing.assert_allclose(outcome.hr_after[0], c.hits(item, after).mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(outcome.hr_before[0], c.hits(item, z).mean(axis=0), atol=1e-6)


@pytest.mark.parametrize(
    "name,masked",
    [("vbpr", False), ("vbpr", True), pytest.param("mmgcn", False, marks=pytest.mark.long)],
)
def test_hit_rates_and_ranks_equal_counting(name, masked):
    c = case(name, masked=masked)
    outcome = run(c, PLAIN, strength(0.5, 1.0), ranks=True)
    for n, item in enumerate(ITEMS):
        clean = [np.asarray(x)[item] for x in c.victim.z]
        attacked = [x[n] for x in outcome.z]
        seen_by = c.recommendable(item)
        for z, rates, rank in (
            (clean, outcome.hr_before[n], outcome.rank_before[n]),
            (attacked, outcome.hr_after[n], outcome.rank_after[n]),
        ):
            np.testing.assert_allclose(rates, c.hits(item, z).mean(axis=0), atol=1e-6)
            np.testing.assert_allclose(rank, c.ranks(item, z)[seen_by].mean(), rtol=1e-6)


@pytest.mark.parametrize(
    "name,level",
    [
        ("vbpr", "projected"),
        ("vbpr", "feature"),
        pytest.param("mmgcn", "projected", marks=pytest.mark.long),
    ],
)
def test_no_budget_changes_nothing(name, level):
    outcome = run(case(name), PLAIN.replace(level=level), strength(eps=0.0), ranks=True)
    np.testing.assert_array_equal(outcome.hr_after, outcome.hr_before)
    np.testing.assert_array_equal(outcome.rank_after, outcome.rank_before)
    assert not any(d.any() for d in outcome.delta)
    np.testing.assert_allclose(outcome.values, outcome.utility_before[:, None].repeat(3, 1),
                               rtol=1e-5)  # fmt: skip


@pytest.mark.parametrize("name", MMGCN_SLOW)
def test_a_seed_repeats_bit_for_bit_and_another_differs(name):
    # With hardly a step, what is kept is a start, and most of three random ones beat zero.
    first, again, other = (
        run(case(name), RESTARTED, strength(0.3, 1e-9), seed=s) for s in (1, 1, 2)
    )
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert not any(np.array_equal(a, b) for a, b in zip(first.delta, other.delta, strict=True))


@pytest.mark.parametrize("name", ["vbpr", pytest.param("mmgcn", marks=pytest.mark.long)])
def test_dense_path_gives_the_same_attack(name):
    c = case(name)
    exact = run(c, PLAIN, strength(0.2), ranks=True)
    dense = run(c, PLAIN, strength(0.2), ranks=True, scorer="dense")
    assert set(dense.scorers) == {"dense"} and "dense" not in exact.scorers
    np.testing.assert_allclose(exact.utility_after, dense.utility_after, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(exact.hr_after, dense.hr_after)
    np.testing.assert_allclose(exact.rank_after, dense.rank_after, rtol=1e-5)


def test_alignment_is_inert_under_hinge_on_a_linear_model_and_not_under_elu():
    """With hinge the gradients of VBPR are piecewise constant, so their cosine has none."""
    c = case("vbpr")
    for utility, same in (("hinge", True), ("elu", False)):
        without, aligned = (
            run(c, attack(utility=utility, norm="l2"), strength(0.3, 0.3, beta=beta))
            for beta in (0.0, 50.0)
        )
        equal = all(np.array_equal(a, b) for a, b in zip(without.delta, aligned.delta, strict=True))
        assert equal == same


@pytest.mark.slow
def test_alignment_acts_under_hinge_on_a_model_that_is_not_linear():
    c = case("mmgcn")
    without, aligned = (
        run(c, PLAIN, strength(0.3, 0.3, beta=beta), ranks=True) for beta in (0.0, 50.0)
    )
    assert not np.array_equal(without.delta[0], aligned.delta[0])


def test_weights_choose_whom_the_attack_is_for():
    """Phi is the mean over the chosen users alone; hits are still counted over all."""
    c, item = case("vbpr"), 17
    weights = np.zeros((1, len(c.users)))
    weights[0, :4] = 1
    outcome = run(c, attack(utility="elu"), strength(), np.array([item]), weights=weights)
    after = [x[0] for x in outcome.z]
    expected = c.utility(item, after, "elu", 0.0, weights[0])
    np.testing.assert_allclose(outcome.utility_after[0], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(outcome.hr_after[0], c.hits(item, after).mean(axis=0), atol=1e-6)
