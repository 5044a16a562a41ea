"""The searches beside PGD: APGD, the random search, and the sigmoid they may climb."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uatmc_jax import ascent
from uatmc_jax.attacks import pgd
from uatmc_jax.attacks.utility import promotion_utility, user_shares
from uatmc_jax.errors import InputError

ORDERS = {"l2": 2, "linf": np.inf}


def length(x, norm):
    return np.linalg.norm(np.asarray(x, np.float64), ORDERS[norm], axis=-1, keepdims=True)


def paper_checkpoints(n):
    """W of Algorithm 1, with exact fractions."""
    from fractions import Fraction as F

    p = [F(0), F(22, 100)]
    while p[-1] <= 1:
        p.append(p[-1] + max(p[-1] - p[-2] - F(3, 100), F(6, 100)))
    return [int(np.ceil(x * n)) for x in p if x <= 1]


def test_checkpoints_are_those_of_the_paper():
    assert paper_checkpoints(100) == [0, 22, 41, 57, 70, 80, 87, 93, 99]
    for n in (1, 2, 7, 10, 30, 100, 333):
        assert ascent.checkpoints(n) == sorted(set(paper_checkpoints(n)) - {0})


def numpy_apgd(value, gradient, start, radius, steps, norm):
    """Algorithm 1 of Croce and Hein (2020), written from the paper, one (n, d) array."""

    def project(x):
        if norm == "linf":
            return np.clip(x, -radius, radius)
        size = length(x, "l2")
        return np.where(size > radius, x * radius / np.maximum(size, 1e-300), x)

    def ahead(x, eta):
        g = gradient(x)
        unit = np.sign(g) if norm == "linf" else g / np.maximum(length(g, "l2"), 1e-300)
        return project(x + eta * radius * unit)

    marks, eta = paper_checkpoints(steps), 2.0
    x = [start, ahead(start, eta)]
    seen = [value(start), value(x[1])]
    best = x[int(np.argmax(seen))]
    rises, etas, bests = [seen[1] > seen[0]], {0: eta}, {0: seen[0]}
    for k in range(1, steps + 1):
        if k in marks[1:]:
            last = max(m for m in marks if m < k)
            etas[k], bests[k] = eta, max(seen)
            few = sum(rises[last:k]) < 0.75 * (k - last)
            if few or (etas[last] == etas[k] and bests[last] == bests[k]):
                eta, x[k] = eta / 2, best
        if k == steps:
            return best, max(seen), seen
        z = ahead(x[k], eta)
        x.append(project(x[k] + 0.75 * (z - x[k]) + 0.25 * (x[k] - x[k - 1])))
        rises.append(value(x[k + 1]) > value(x[k]))
        seen.append(value(x[k + 1]))
        if seen[-1] == max(seen):
            best = x[k + 1]


def quadratic(seed, curvature):
    """A random quadratic of two rows, in float32 for the library and float64 for the oracle."""
    rng = np.random.default_rng(seed)
    c, a = rng.normal(size=(2, 5)), curvature * rng.uniform(0.5, 2.0, size=(2, 5))
    m = rng.normal(size=(10, 10))
    mix = m @ m.T / 10 * curvature

    def value(x):
        return (c * x).sum() - (a * x * x).sum() - x.reshape(-1) @ mix @ x.reshape(-1)

    def gradient(x):
        return c - 2 * a * x - 2 * (mix @ x.reshape(-1)).reshape(x.shape)

    return value, gradient


@pytest.mark.parametrize("norm", ascent.NORMS)
@pytest.mark.parametrize("curvature,steps", [(0.3, 20), (3.0, 33)])
def test_apgd_equals_the_papers_algorithm(norm, curvature, steps):
    """On quadratics whose maximum is inside the ball or on its edge."""
    value, gradient = quadratic(3, curvature)
    radius = np.array([[1.0], [0.4]])
    best, highest, seen = numpy_apgd(value, gradient, np.zeros((2, 5)), radius, steps, norm)
    found, found_value, values = ascent.apgd(
        lambda x: (value(x), gradient(x)),
        jnp.zeros((2, 5)),
        jnp.asarray(radius, jnp.float32),
        steps=steps,
        norm=norm,
    )
    np.testing.assert_allclose(values, seen, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found, best, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found_value, highest, rtol=1e-5)
    g = gradient(np.zeros((2, 5)))
    fgsm = radius * (np.sign(g) if norm == "linf" else g / length(g, "l2"))
    np.testing.assert_allclose(values[1], value(fgsm), rtol=1e-4)


@pytest.mark.parametrize("norm", ascent.NORMS)
def test_on_a_linear_objective_apgd_ends_at_the_dual_norm(norm):
    c = (jnp.array([[3.0, -4.0, 1.0]]), jnp.array([[0.5, -2.0]]))
    radius = (jnp.array([[0.5]]), jnp.array([[2.0]]))
    dual = 1 if norm == "linf" else 2
    expected = sum(
        float(r[0, 0]) * np.linalg.norm(x[0], dual) for x, r in zip(c, radius, strict=True)
    )
    start = jax.tree.map(lambda x, r: 0.1 * r * jnp.cos(x), c, radius)

    def objective(delta):
        return sum(jnp.vdot(x, d) for x, d in zip(c, delta, strict=True)), c

    _, value, _ = ascent.apgd(objective, start, radius, steps=12, norm=norm)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def bumpy(rows):
    return lambda delta: sum(
        jnp.sum(jnp.sin(5 * (x + d))) for x, d in zip(rows, delta, strict=True)
    )


@jax.jit
def both_searches(key, eps):
    """APGD and the random search on a bumpy objective from a random point, in both balls."""
    rows = (jax.random.normal(key, (1, 6)), jax.random.normal(key, (1, 4)))
    radius, objective = ascent.radii(rows, eps), bumpy(rows)
    found = []
    for norm in ascent.NORMS:
        start = ascent.random_start(key, radius, rows, norm)
        up = jax.value_and_grad(objective)
        climbed = ascent.apgd(up, start, radius, steps=7, norm=norm)
        searched = ascent.random_search(objective, start, radius, key, steps=9, norm=norm)
        found += [(climbed, objective(climbed[0])), (searched, objective(searched[0]))]
    return radius, found


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31 - 1), st.sampled_from([0.0, 0.1, 2.0]))
def test_searches_stay_in_the_ball_and_report_their_value(seed, eps):
    radius, found = both_searches(jax.random.key(seed), jnp.float32(eps))
    for n, ((delta, value, by_step), expected) in enumerate(found):
        for d, r in zip(delta, radius, strict=True):
            size = length(d, ascent.NORMS[n // 2])
            assert (size <= np.asarray(r) * (1 + 1e-5) + 1e-12).all()
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
        assert value == np.max(by_step)
        if n % 2:  # the random search
            assert (np.diff(by_step) >= 0).all()


def test_a_value_that_is_not_a_number_surfaces():
    def objective(delta):  # zero is fine, everything else is not
        value = jnp.where(jnp.any(delta[0] != 0), jnp.nan, 1.0)
        return value, (jnp.ones((1, 2)),)

    start, radius = (jnp.zeros((1, 2)),), (jnp.ones((1, 1)),)
    for norm in ascent.NORMS:
        assert np.isnan(ascent.apgd(objective, start, radius, steps=4, norm=norm)[1])
        found = ascent.random_search(
            lambda d: objective(d)[0], start, radius, jax.random.key(0), steps=4, norm=norm
        )
        assert np.isnan(found[1])


@pytest.mark.parametrize("norm,least,stairs", [("linf", 0.999, 0.9), ("l2", 0.8, 0.6)])
def test_random_search_climbs_without_a_gradient(norm, least, stairs):
    """Where differentiating raises, and where the value is a staircase of gradient zero."""

    @jax.custom_jvp
    def forbidden(x):
        return x

    @forbidden.defjvp
    def _(primals, tangents):
        raise AssertionError("differentiated")

    c = jnp.asarray(np.random.default_rng(0).normal(size=(1, 20)), jnp.float32)
    radius, start = (jnp.ones((1, 1)),), (jnp.zeros((1, 20)),)
    top = float(jnp.linalg.norm(c, ord=1 if norm == "linf" else 2, axis=1)[0])

    def search(value_of):
        return ascent.random_search(
            value_of, start, radius, jax.random.key(1), steps=200, norm=norm
        )

    def linear(delta):
        return jnp.vdot(c, forbidden(delta[0]))

    _, value, _ = search(linear)
    assert value >= least * top
    with pytest.raises(AssertionError, match="differentiated"):
        jax.grad(linear)(start)
    (delta,), _, _ = search(lambda d: jnp.floor(2 * linear(d)))
    assert jnp.vdot(c, delta) >= stairs * top


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 10.0))
def test_sigmoid_equals_numpy_and_shares_add_up(seed, width):
    rng = np.random.default_rng(seed)
    x = rng.normal(scale=3, size=11).astype(np.float32)
    w = rng.integers(0, 2, 11).astype(np.float32)
    w[0] = 1.0
    expected = (w * 0.5 * (1 + np.tanh(x.astype(np.float64) / width / 2))).sum() / w.sum()
    given_ = (jnp.asarray(x), jnp.asarray(w), "sigmoid", jnp.float32(width))
    np.testing.assert_allclose(promotion_utility(*given_), expected, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(user_shares(*given_).sum(), expected, rtol=1e-4, atol=1e-7)
    assert promotion_utility(jnp.zeros(3), jnp.ones(3), "sigmoid", 1.0) == 0.5


REFUSED = {
    "width": ({"utility": "sigmoid", "margin": 0.0}, "margin = 0.0: wanted a width > 0"),
    "search": ({"search": "fgsm"}, "search = 'fgsm': wanted 'pgd' or 'apgd' or 'random'"),
    "alignment": ({"search": "random", "beta": 1.0}, "beta = 1.0: wanted 0 under search"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_settings_refused(name):
    changes, message = REFUSED[name]
    chosen = {"utility": "hinge", "margin": 1.0, "k": 5, "norm": "linf", "eps": 0.1, "steps": 3,
              "step_size": 0.5, "restarts": 0, "keep": "last", "beta": 0.0, "level": "projected",
              "modalities": ()}  # fmt: skip
    with pytest.raises(InputError, match=message):
        pgd(**(chosen | changes))
