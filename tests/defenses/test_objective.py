"""The objective's values are tested against oracles in models/test_oracle.py; here, its traits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.test_oracle import CASES, N_ITEMS, case
from uatmc_jax.defenses import (
    Coefficients,
    Defense,
    Frozen,
    Trained,
    adversarial_objective,
    perturbed,
)
from uatmc_jax.defenses.step import distinct_items, make_step, occurs, select_rows
from uatmc_jax.models import Batch

objective = jax.jit(adversarial_objective, static_argnums=(0, 1))
item_lists = st.lists(st.integers(0, 7), min_size=5, max_size=5)


@settings(max_examples=40, deadline=None)
@given(item_lists, item_lists, st.integers(1, 5))
def test_each_item_of_a_batch_has_one_row(positives, negatives, n_valid):
    weights = (jnp.arange(5) < n_valid).astype(jnp.float32)
    batch = Batch(jnp.zeros(5, int), jnp.array(positives), jnp.array(negatives), weights)
    items, positive, negative = distinct_items(batch, 8)
    assert items[positive].tolist() == positives and items[negative].tolist() == negatives
    real = [i for i in items.tolist() if i < 8]
    assert sorted(real) == sorted(set(positives + negatives))
    marked = {int(i) for i in items[occurs(positive, weights, items.size)]}
    assert marked == set(positives[:n_valid])


def loss(c, kind="uat_mc", norm="l2", steps=1, random_start=False, level="projected", seed=0,
         more=None, **changes):  # fmt: skip
    scalars = {
        "lam": 2.0,
        "beta": 3.0,
        "eps": 0.3,
        "step_size": 1.0,
        "mu": 0.4,
        "content_weight": 0.0,
    }
    scalars |= changes
    frozen = Frozen(c.z, c.graph, c.params.projectors, c.features)
    value, terms = objective(
        c.model,
        Defense(kind, norm, steps, random_start, level, **(more or {})),
        Trained(c.params.encoder),
        frozen,
        Coefficients(**{name: jnp.float32(x) for name, x in scalars.items()}),
        c.batch,
        jax.random.key(seed),
    )
    return float(value), {name: float(x) for name, x in terms.items()}


@pytest.mark.parametrize(
    ("arguments", "norms"),
    [(CASES[1], ("l2", "linf")), pytest.param(CASES[4], ("l2",), marks=pytest.mark.long)],
)
def test_perturbation_hurts_more_than_none_and_more_steps_no_less(arguments, norms):
    c = case(*arguments)
    clean = loss(c, "none")[1]["bpr"]
    for norm in norms:
        one = loss(c, "uat", norm, eps=0.2)[1]
        many = loss(c, "uat", norm, steps=8, step_size=0.25, eps=0.2)[1]
        assert one["bpr"] == pytest.approx(clean)
        assert one["adv"] > clean
        # Equal where one full step is already the maximum, as on a linear model.
        assert many["adv"] >= one["adv"] * (1 - 1e-6)


@pytest.mark.parametrize("arguments", [CASES[1], pytest.param(CASES[4], marks=pytest.mark.long)])
def test_linf_ball_of_the_same_radius_hurts_more_than_l2(arguments):
    """It contains the l2 ball: the published defence trains in the smaller one."""
    c = case(*arguments)
    assert loss(c, "uat", "linf", eps=0.05)[1]["adv"] > loss(c, "uat", "l2", eps=0.05)[1]["adv"]


@pytest.mark.parametrize("arguments", [CASES[1], CASES[4]])
def test_alignment_changes_the_perturbation(arguments):
    """In MMGCN too, where the published code's alignment has no effect."""
    c = case(*arguments)
    uat = loss(c, "uat")[1]["adv"]
    assert loss(c, beta=0.0)[1]["adv"] == pytest.approx(uat, rel=1e-6)
    assert abs(loss(c, beta=100.0)[1]["adv"] - uat) > 1e-5


@pytest.mark.parametrize("level", ["projected", "feature"])
@pytest.mark.parametrize("kind", ["uat", "uat_mc"])
def test_no_budget_no_perturbation(kind, level):
    c = case(*CASES[1])
    terms = loss(c, kind, eps=0.0, level=level)[1]
    assert terms["adv"] == pytest.approx(terms["bpr"], rel=1e-5)


def test_perturbed_features_stay_on_the_sphere_and_still_hurt():
    c = case(*CASES[1])
    terms = loss(c, "uat_mc", level="feature", eps=0.05)[1]
    assert terms["adv"] > terms["bpr"]


def test_random_start_is_seeded():
    c = case(*CASES[1])
    drawn = [loss(c, "uat", random_start=True, step_size=0.1, seed=s)[0] for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_total_is_the_weighted_sum_of_its_terms():
    c = case(*CASES[1])
    value, terms = loss(c, lam=2.0, mu=0.4)
    assert value == pytest.approx(terms["bpr"] + 2.0 * terms["adv"] + 0.4 * terms["reg"], rel=1e-6)
    value, terms = loss(c, "none", mu=0.4)
    assert value == pytest.approx(terms["bpr"] + 0.4 * terms["reg"], rel=1e-6)
    assert "adv" not in terms


def test_modalities_are_not_swapped():
    """The published training feeds [z^t ; z^v]; here order matters and is kept."""
    c = case(*CASES[1])
    swapped = Frozen(c.z[::-1], c.graph)
    weights = Coefficients(*(jnp.float32(x) for x in (2.0, 3.0, 0.0, 1.0, 0.0, 0.0)))
    arguments = c.model, Defense("uat", "l2", 1, False, "projected"), Trained(c.params.encoder)
    right = adversarial_objective(*arguments, Frozen(c.z, c.graph), weights, c.batch, None)[1]
    wrong = adversarial_objective(*arguments, swapped, weights, c.batch, None)[1]
    assert right["adv"] == pytest.approx(float(right["bpr"]), rel=1e-6)
    assert abs(float(wrong["adv"] - right["adv"])) > 1e-4


def test_padding_triples_change_nothing():
    c = case(*CASES[1])
    base = loss(c)[0]
    batch = c.batch
    moved = batch.replace(positives=batch.positives.at[-1].set(N_ITEMS - 1),
                          negatives=batch.negatives.at[-1].set(3))  # fmt: skip
    weights = Coefficients(*(jnp.float32(x) for x in (2.0, 3.0, 0.3, 1.0, 0.4, 0.0)))
    value = adversarial_objective(
        c.model,
        Defense("uat_mc", "l2", 1, False, "projected"),
        Trained(c.params.encoder),
        Frozen(c.z, c.graph),
        weights,
        moved,
        jax.random.key(0),
    )[0]
    np.testing.assert_allclose(value, base, rtol=1e-6)


def test_an_alignment_whose_gradients_are_constants_moves_nothing():
    """What the published MMGCN does: its perturbation is UAT's."""
    c = case(*CASES[4])
    detached = loss(c, "uat_mc", more={"detach_align": True})[1]["adv"]
    assert detached == pytest.approx(loss(c, "uat")[1]["adv"], rel=1e-6)
    assert abs(loss(c, "uat_mc")[1]["adv"] - detached) > 1e-5


@pytest.mark.long
@pytest.mark.parametrize("steps", [1, 3])
def test_the_first_step_known_from_the_clean_pass_is_the_ascents_own(steps):
    c = case(*CASES[4])
    scalars = {"lam": 2.0, "beta": 3.0, "eps": 0.3, "step_size": 0.5, "mu": 0.4}
    weights = Coefficients(content_weight=0.0, **scalars)
    defense = Defense("uat_mc", "l2", steps, modalities=(0, 1))
    frozen = Frozen(c.z, c.graph)

    @jax.jit
    def both_ways(encoder):
        step = make_step(c.model, defense, None, frozen, weights, c.batch, jax.random.key(0))
        selected = select_rows(step, encoder)
        first = perturbed.first_look(step, selected)
        assert first.gradient is not None
        ways = (first, first._replace(gradient=None))
        return [perturbed._ascended(step, selected, way) for way in ways]

    for known, alone in zip(*both_ways(c.params.encoder), strict=True):
        np.testing.assert_allclose(known, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "defense",
    [
        Defense("uat_mc"),
        Defense("uat_mc", "linf", steps=3, random_start=True, align_over="items"),
        Defense("uat", "linf", steps=2, modalities=(1,)),
    ],
)
def test_along_the_users_slopes_everything_is_as_by_whole_passes(defense):
    """Values and gradients of a model affine in the content, told so and not told so."""
    c = case(*CASES[1])
    scalars = {"lam": 2.0, "beta": 3.0, "eps": 0.3, "step_size": 0.5, "mu": 0.4}
    weights = Coefficients(content_weight=0.0, **scalars)
    head, projectors = c.model.head, c.params.projectors
    frozen = Frozen(c.z, c.graph, hidden=head.read(projectors, c.features))
    trained = Trained(c.params.encoder, head.split(projectors))
    found = [
        jax.jit(
            jax.value_and_grad(adversarial_objective, argnums=2, has_aux=True),
            static_argnums=(0, 1),
        )(model, defense, trained, frozen, weights, c.batch, jax.random.key(3))
        for model in (c.model, c.model._replace(affine_in_content=False))
    ]
    assert "adv" in found[0][0][1]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6), *found)
