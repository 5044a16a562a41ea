"""The closed form against brute force, and both worst-case losses against dense NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import oracles
from tests.models.test_oracle import CASES, N_ITEMS, TRIPLES, assert_trees_close, case
from uatmc_jax.defenses import Coefficients, Defense, Frozen, Trained, adversarial_objective
from uatmc_jax.defenses.shapes import shape_of
from uatmc_jax.defenses.step import embed, make_step, select_rows
from uatmc_jax.defenses.worst_case import worst_margins
from uatmc_jax.errors import InputError

EPS, LAM, MU, CONTENT = 0.3, 2.0, 0.4, 0.7
LINEAR = [CASES[0], CASES[1]]


def weights(eps=EPS, lam=LAM, mu=MU, content=CONTENT, step_size=1.0):
    return Coefficients(*(jnp.float32(x) for x in (lam, 0.0, eps, step_size, mu, content)))


def closed_form(c, defense, eps=EPS):
    """(triples,) worst margins; the batch's padding cut off."""
    step = make_step(c.model, defense, None, Frozen(c.z, c.graph), weights(eps), c.batch, None)
    selected = select_rows(step, c.params.encoder)
    clean = embed(step, selected, step.z)
    return np.asarray(worst_margins(step, selected, clean))[: len(TRIPLES)]


def margin64(c, triple, changes):
    """y_up - y_un in float64 with the positive's and the negative's content moved."""
    encoder, z = oracles.to_float64((c.params.encoder, list(c.z)))
    u, p, n = triple
    for row, change in zip((p, n), changes, strict=True):
        for m, delta in enumerate(change):
            z[m][row] += delta
    user, item = oracles.vbpr(encoder, z)
    return user[u] @ (item[p] - item[n])


def cut(c, flat):
    """A flat vector as ((delta_p^m), (delta_n^m))."""
    parts = np.split(flat, 2 * len(c.z))
    return parts[: len(c.z)], parts[len(c.z) :]


def radii64(c, triple):
    """(2, M) the radii of the positive's and the negative's rows."""
    return [[EPS * np.linalg.norm(np.asarray(z, float)[i]) for z in c.z] for i in triple[1:]]


@pytest.mark.parametrize("arguments", LINEAR)
def test_linf_closed_form_is_the_smallest_margin_over_all_corners(arguments):
    """An affine function on a box is smallest in a corner; all of them are tried."""
    c = case(*arguments)
    width = 2 * sum(z.shape[1] for z in c.z)
    corners = np.array(list(itertools.product((-1.0, 1.0), repeat=width)))
    expected = []
    for triple in TRIPLES:
        scale = np.repeat(np.ravel(radii64(c, triple)), [z.shape[1] for z in c.z] * 2)
        # The margin is affine in the changes: its value at a corner is a sum of single moves.
        base = margin64(c, triple, cut(c, np.zeros(width)))
        moves = [margin64(c, triple, cut(c, row)) - base for row in np.diag(scale)]
        lowest = corners[np.argmin(corners @ moves)]
        expected.append(margin64(c, triple, cut(c, lowest * scale)))
    found = closed_form(c, Defense("exact", "linf"))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("arguments", LINEAR)
def test_l2_closed_form_is_reached_by_ascent_and_exceeded_by_no_draw(arguments):
    c = case(*arguments)
    found = closed_form(c, Defense("exact", "l2"))
    rng = np.random.default_rng(0)
    width = 2 * sum(z.shape[1] for z in c.z)
    for triple, bound in zip(TRIPLES, found, strict=True):
        radii = np.ravel(radii64(c, triple))
        scales = np.repeat(radii, [z.shape[1] for z in c.z] * 2)

        def in_ball(flat, radii=radii):
            parts = [
                r * x / np.linalg.norm(x)
                for r, x in zip(radii, np.split(flat, len(radii)), strict=True)
            ]
            return cut(c, np.concatenate(parts))

        base = margin64(c, triple, cut(c, np.zeros(width)))
        slope = [margin64(c, triple, cut(c, row)) - base for row in np.eye(width)]
        steepest = margin64(c, triple, in_ball(-np.array(slope)))
        assert bound == pytest.approx(steepest, rel=1e-5, abs=1e-5)
        drawn = [margin64(c, triple, in_ball(rng.normal(size=width) * scales)) for _ in range(200)]
        assert bound <= min(drawn) + 1e-5


def loss(c, defense, encoder, **scalars):
    return adversarial_objective(
        c.model, defense, Trained(encoder), Frozen(c.z, c.graph), weights(**scalars), c.batch,
        jax.random.key(0),
    )  # fmt: skip


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("arguments", LINEAR)
def test_exact_loss_and_gradients(arguments, norm):
    c = case(*arguments)
    z64 = oracles.to_float64(list(c.z))

    def oracle(encoder):
        user, item = oracles.vbpr(encoder, z64)
        worst, content = oracles.vbpr_exact(encoder, z64, TRIPLES, EPS, norm)
        clean = oracles.bpr(user, item, TRIPLES) + MU * c.regularize(encoder, user, item)
        return clean + LAM * worst + CONTENT * content

    defense = Defense("exact", norm, keep_content=True)
    value, gradients = jax.jit(jax.value_and_grad(lambda e: loss(c, defense, e)[0]))(
        c.params.encoder
    )
    np.testing.assert_allclose(value, oracle(oracles.to_float64(c.params.encoder)), rtol=1e-5)
    assert_trees_close(gradients, oracles.numeric_gradient(oracle, c.params.encoder))


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_no_ascent_exceeds_the_exact_term(norm):
    c = case(*CASES[1])
    exact = loss(c, Defense("exact", norm), c.params.encoder)[1]["adv"]
    found = [
        loss(c, Defense("uat", norm, steps), c.params.encoder, step_size=size)[1]["adv"]
        for steps, size in ((1, 1.0), (10, 0.25))
    ]
    assert max(map(float, found)) <= float(exact) + 1e-6
    assert float(exact) < 2 * max(map(float, found))  # and it is not far above


@pytest.mark.parametrize("kind", ["exact", "linearized"])
def test_no_budget_no_worst_case_and_chosen_modalities_only(kind):
    c = case(*CASES[1])
    terms = loss(c, Defense(kind), c.params.encoder, eps=0.0)[1]
    assert float(terms["adv"]) == pytest.approx(float(terms["bpr"]), rel=1e-6)
    whole, *single = [
        float(loss(c, Defense(kind, modalities=m), c.params.encoder)[1]["adv"])
        for m in (None, (0,), (1,))
    ]
    assert all(float(terms["bpr"]) < one < whole for one in single)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("arguments", [CASES[1], pytest.param(CASES[4], marks=pytest.mark.slow)])
def test_linearized_term(arguments, norm):
    """Gradients by complex steps on the dense oracle."""
    c = case(*arguments)
    encoder64, z64 = oracles.to_float64((c.params.encoder, list(c.z)))
    gradients = oracles.complex_step_gradient(lambda z: c.adversarial_loss(encoder64, z), z64)
    in_batch = np.isin(np.arange(N_ITEMS), [i for _, p, n in TRIPLES for i in (p, n)])
    order = 1 if norm == "linf" else 2
    change = sum(
        EPS * np.linalg.norm(z, axis=1) @ (in_batch * np.linalg.norm(g, ord=order, axis=1))
        for z, g in zip(z64, gradients, strict=True)
    )
    found = loss(c, Defense("linearized", norm), c.params.encoder)[1]["adv"]
    expected = c.adversarial_loss(encoder64, z64) + change
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_exact_refuses_a_model_that_is_not_affine():
    c = case(*CASES[4])
    with pytest.raises(InputError, match=r"'exact' needs scores .* affine.*'linearized'"):
        loss(c, Defense("exact"), c.params.encoder)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_unpopular_have_smaller_balls_and_weigh_more_in_the_content_term(norm):
    """eps_tail and content_tail, against the definition in float64."""
    c = case(*CASES[1])
    z64, encoder = oracles.to_float64((list(c.z), c.params.encoder))
    counts = np.asarray(c.graph.items.degrees)
    share = np.minimum(np.maximum(counts, 1) / counts.mean(), 1)
    assert len({round(float(share[i]), 6) for _, p, n in TRIPLES for i in (p, n)}) > 1
    user, item = oracles.vbpr(encoder, z64)
    content = user[:, -item.shape[1] // 2 :]
    pulls = np.split(content @ encoder.kernel.T, len(z64), axis=1)
    order = {"linf": 1, "l2": 2}[norm]
    worst = [
        user[u] @ (item[p] - item[n])
        - sum(
            EPS * share[i] ** 0.7 * np.linalg.norm(rows[i]) * np.linalg.norm(w[u], ord=order)
            for rows, w in zip(z64, pulls, strict=True)
            for i in (p, n)
        )
        for u, p, n in TRIPLES
    ]
    bare = oracles.vbpr(encoder, [np.zeros_like(rows) for rows in z64])[1]
    parts = [user[u] @ (item[p] - item[n] - bare[p] + bare[n]) for u, p, n in TRIPLES]
    weight = np.array([share[p] ** -1.5 for _, p, _ in TRIPLES])
    chosen = weights().replace(eps_tail=jnp.float32(0.7), content_tail=jnp.float32(1.5))

    def terms(defense, weights):
        given = (Trained(c.params.encoder), Frozen(c.z, c.graph), weights, c.batch)
        return adversarial_objective(c.model, defense, *given, jax.random.key(0))[1]

    defense = Defense("exact", norm, keep_content=True, by_popularity=True)
    found = terms(defense, chosen)
    expected = np.mean(oracles.softplus(-np.array(worst)))
    np.testing.assert_allclose(found["adv"], expected, rtol=1e-5)
    expected = np.average(oracles.softplus(-np.array(parts)), weights=weight)
    np.testing.assert_allclose(found["content"], expected, rtol=1e-5)
    # With powers of 0 the terms are the usual ones.
    usual = terms(defense._replace(by_popularity=False), weights())
    for name, value in terms(defense, weights()).items():
        np.testing.assert_allclose(value, usual[name], rtol=1e-6)


def shapes_of(c, seed=0):
    """An arbitrary ball a modality, and the A of the training."""
    rng, found = np.random.default_rng(seed), []
    for z in c.z:
        z = np.asarray(z, float)[rng.integers(0, len(z), 9)]
        found.append(shape_of(z, z + rng.normal(size=z.shape) * np.linspace(0.02, 0.4, z.shape[1])))
    return tuple(found)


@pytest.mark.parametrize("arguments", LINEAR)
def test_shaped_closed_form_is_the_smallest_margin_in_the_shaped_ball(arguments):
    """It is attained at the dual point, and no drawn point of the balls' surface is below."""
    c, rng = case(*arguments), np.random.default_rng(1)
    shapes = shapes_of(c)
    frozen = Frozen(c.z, c.graph, shapes=shapes)
    step = make_step(c.model, Defense("shaped"), None, frozen, weights(), c.batch, None)
    selected = select_rows(step, c.params.encoder)
    found = np.asarray(worst_margins(step, selected, embed(step, selected, step.z)))
    shapes64 = [np.asarray(a, float) for a in shapes]
    width = 2 * sum(z.shape[1] for z in c.z)
    for worst, triple in zip(found[:3], TRIPLES, strict=False):
        base = margin64(c, triple, cut(c, np.zeros(width)))
        slope = np.array([margin64(c, triple, cut(c, row)) - base for row in np.eye(width)])
        radius = np.ravel(radii64(c, triple))

        def moved(balls, radius=radius):
            """Points of round balls of length one, as points of the shaped ones."""
            sides = zip(radius, shapes64 * 2, np.split(balls, len(radius)), strict=True)
            return np.concatenate([r * a @ x for r, a, x in sides])

        def unit(x):
            parts = np.split(x, 2 * len(shapes64))
            return np.concatenate([part / np.linalg.norm(part) for part in parts])

        dual = np.concatenate(
            [a @ w for a, w in zip(shapes64 * 2, np.split(slope, len(radius)), strict=True)]
        )
        lowest = margin64(c, triple, cut(c, moved(-unit(dual))))
        assert worst == pytest.approx(lowest, rel=1e-4, abs=1e-5)
        drawn = [margin64(c, triple, cut(c, moved(unit(x)))) for x in rng.normal(size=(50, width))]
        assert min(drawn) >= worst - 1e-5


def test_a_shape_of_all_directions_alike_is_the_round_ball():
    c = case(*LINEAR[0])
    round_ball = tuple(jnp.eye(z.shape[1]) for z in c.z)
    terms = []
    for kind, shapes in (("exact", None), ("shaped", round_ball)):
        frozen = Frozen(c.z, c.graph, shapes=shapes)
        terms.append(
            adversarial_objective(
                c.model, Defense(kind, "l2"), Trained(c.params.encoder), frozen, weights(), c.batch,
                jax.random.key(0),
            )[0]
        )  # fmt: skip
    np.testing.assert_allclose(*terms, rtol=1e-6)


@given(st.integers(0, 999), st.integers(1, 12))
def test_every_harmless_edit_is_in_the_ball_that_its_docstring_says(seed, count):
    rng = np.random.default_rng(seed)
    z, share = rng.normal(size=(count, 4)), 0.1
    edited = z + 0.3 * rng.normal(size=z.shape)
    a = np.asarray(shape_of(z, edited, share), float)
    moved = (edited - z) / np.linalg.norm(z, axis=1, keepdims=True)
    sizes = np.linalg.norm(np.linalg.solve(a, moved.T), axis=0)
    assert sizes.max() <= np.sqrt(count / (1 - share)) * 1.01
    assert np.trace(a @ a) == pytest.approx(np.mean(np.sum(moved**2, axis=1)), rel=1e-4)
