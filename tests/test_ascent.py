import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from uatmc_jax import ascent

floats = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)
arrays = hnp.arrays(np.float32, (3, 4), elements=floats)
radii = hnp.arrays(np.float32, (3, 1), elements=st.floats(0, 1e3, width=32))


def length(x, norm):
    order = 2 if norm == "l2" else np.inf
    return np.linalg.norm(np.asarray(x, np.float64), order, axis=-1, keepdims=True)


# Entries whose square underflows have a float32 norm of 0.
squarable = arrays.map(lambda x: np.where(np.abs(x) < 1e-18, np.float32(0), x))


@settings(max_examples=50, deadline=None)
@given(squarable, radii, st.sampled_from(ascent.NORMS))
def test_projection_is_the_nearest_point_of_the_ball(x, radius, norm):
    point = np.asarray(ascent.project(jnp.asarray(x), jnp.asarray(radius), norm))
    assert (length(point, norm) <= radius * (1 + 1e-6)).all()
    inside = length(x, norm) <= radius * (1 - 1e-6)
    np.testing.assert_array_equal(point[inside[:, 0]], x[inside[:, 0]])
    # The nearest point of a convex set: no other point is at an acute angle behind it.
    others = np.random.default_rng(0).normal(size=(20, 3, 4))
    others *= radius / np.maximum(length(others, norm), 1e-30)
    acute = ((x - point).astype(np.float64) * (others - point)).sum(axis=-1)
    scale = 1 + np.abs(x).max() * (np.abs(x).max() + radius.max())
    assert (acute <= 1e-5 * scale).all()


@settings(max_examples=50, deadline=None)
@given(arrays, st.sampled_from(ascent.NORMS))
def test_direction_is_steepest(g, norm):
    d = np.asarray(ascent.direction(jnp.asarray(g), norm), np.float64)
    zero = ~g.any(axis=1)
    assert not d[zero].any()
    np.testing.assert_allclose(length(d, norm)[~zero], 1, rtol=1e-5)
    dual = np.linalg.norm(g.astype(np.float64), 2 if norm == "l2" else 1, axis=1)
    np.testing.assert_allclose((d * g).sum(axis=1), dual, rtol=1e-4, atol=1e-30)


def test_direction_of_tiny_gradients():
    g = jnp.array([[3e-30, 4e-30]])
    np.testing.assert_allclose(ascent.direction(g, "l2"), [[0.6, 0.8]], rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 2**31 - 1),
    st.sampled_from(ascent.NORMS),
    st.sampled_from([1, 3]),
    st.sampled_from([0.0, 0.1, 2.0]),
    st.booleans(),
)
def test_every_ascent_stays_in_its_ball(seed, norm, steps, eps, random_start):
    key = jax.random.key(seed)
    rows = (jax.random.normal(key, (5, 3)), jax.random.normal(key, (5, 2)))
    radius = ascent.radii(rows, eps)
    start = jax.tree.map(jnp.zeros_like, rows)
    if random_start:
        start = ascent.random_start(key, radius, rows, norm)

    def objective(delta):
        return sum(jnp.sum(jnp.sin(5 * (x + d))) for x, d in zip(rows, delta, strict=True))

    delta = ascent.ascend(jax.grad(objective), start, radius, steps=steps, step_size=0.7, norm=norm)
    for tree in (start, delta):
        for d, r in zip(tree, radius, strict=True):
            assert (length(d, norm) <= np.asarray(r) * (1 + 1e-5) + 1e-12).all()
    if eps == 0:
        assert not any(d.any() for d in delta)


@pytest.mark.parametrize("norm", ascent.NORMS)
def test_linear_objective_reaches_the_dual_norm(norm):
    """On <c, delta> one full step from zero is the exact maximum, r ||c||_dual."""
    c = jnp.array([[3.0, -4.0, 0.0], [0.0, 0.0, 0.0]])
    radius = jnp.array([[0.5], [0.5]])
    delta = ascent.ascend(
        lambda _: (c,), (jnp.zeros((2, 3)),), (radius,), steps=1, step_size=1.0, norm=norm
    )[0]
    expected = 0.5 * (5.0 if norm == "l2" else 7.0)
    np.testing.assert_allclose(jnp.sum(c * delta, axis=1), [expected, 0], rtol=1e-6)


def test_radii_are_shares_of_the_row_norm():
    radius = ascent.radii((jnp.array([[3.0, 4.0], [0.0, 0.0]]),), 0.1)[0]
    np.testing.assert_allclose(radius, [[0.5], [0.0]], rtol=1e-6)


@pytest.mark.parametrize("norm", ascent.NORMS)
def test_random_starts_fill_the_ball(norm):
    rows = (jnp.zeros((4000, 2)),)
    radius = (jnp.full((4000, 1), 2.0),)
    start = ascent.random_start(jax.random.key(0), radius, rows, norm)[0]
    share = float((length(start, norm) < 1.0).mean())
    assert share == pytest.approx(0.25, abs=0.03)  # half the radius has a quarter of the area
