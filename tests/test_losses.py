import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import oracles
from uatmc_jax.losses import bpr_loss, gradient_alignment, info_nce, modal_info_nce
from uatmc_jax.numerics import normalize_rows, safe_norm, weighted_mean


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("margin", [-1e4, -200.0, 0.0, 200.0, 1e4])
def test_bpr_does_not_overflow(margin):
    def loss(x):
        return bpr_loss(jnp.ones((1, 1)), x, jnp.zeros((1, 1)), jnp.ones(1))

    value, gradient = jax.value_and_grad(loss)(jnp.full((1, 1), margin))
    np.testing.assert_allclose(value, np.logaddexp(0, -margin), rtol=1e-6, atol=1e-38)
    np.testing.assert_allclose(gradient, -np.exp(-np.logaddexp(0, margin)), rtol=1e-5, atol=1e-38)


def test_padding_does_not_count():
    user, positive, negative = normal(0, 5, 3), normal(1, 5, 3), normal(2, 5, 3)
    weights = jnp.array([1.0, 1, 1, 0, 0])
    np.testing.assert_allclose(
        bpr_loss(user, positive, negative, weights),
        bpr_loss(user[:3], positive[:3], negative[:3], jnp.ones(3)),
        rtol=1e-6,
    )
    assert weighted_mean(jnp.ones(2), jnp.zeros(2)) == 0


@pytest.mark.parametrize("block", [1, 3, 7, 10, 64])
def test_info_nce_is_the_same_in_any_blocks(block):
    a, b = oracles.normalize(normal(0, 10, 4)), oracles.normalize(normal(1, 10, 4))

    def loss(arguments):
        return info_nce(*arguments, block=block)

    arguments = (jnp.asarray(a), jnp.asarray(b), jnp.float32(0.9))
    value, gradients = jax.value_and_grad(loss)(arguments)
    np.testing.assert_allclose(value, oracles.info_nce(a, b, 0.9), rtol=1e-5)
    expected = oracles.numeric_gradient(lambda x: oracles.info_nce(*x), (a, b, np.array(0.9)))
    for got, wanted in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("block", [2, 8])
def test_info_nce_of_sharp_temperatures_stays_finite(block):
    a = jnp.asarray(oracles.normalize(normal(0, 5, 4)))
    value, gradient = jax.value_and_grad(lambda t: info_nce(a, a, t, block))(jnp.float32(20.0))
    assert np.isfinite(value) and np.isfinite(gradient)


def test_info_nce_over_modalities():
    z = [oracles.normalize(normal(seed, 6, 3)) for seed in range(3)]
    for n in (1, 2, 3):
        np.testing.assert_allclose(
            modal_info_nce(tuple(map(jnp.asarray, z[:n])), 0.07),
            oracles.modal_info_nce(z[:n], 0.07),
            rtol=1e-5,
        )


def test_alignment_counts_rows_that_carry_a_gradient():
    g, h = normal(0, 5, 3), normal(1, 5, 3)
    g[1], h[3] = 0, 0
    rows = np.array([True, True, True, True, False])
    got = gradient_alignment((jnp.asarray(g), jnp.asarray(h)), jnp.asarray(rows))
    np.testing.assert_allclose(got, oracles.alignment([g, h], [0, 2]), rtol=1e-5)
    assert gradient_alignment((jnp.asarray(g),), jnp.asarray(rows)) == 0
    assert gradient_alignment((jnp.asarray(g), jnp.asarray(h)), jnp.zeros(5, bool)) == 0


@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e-20])
def test_alignment_and_its_gradient_do_not_depend_on_scale(scale):
    """Squares of the smallest of these underflow in float32."""
    g, h = jnp.asarray(normal(0, 4, 3)), jnp.asarray(normal(1, 4, 3))
    rows = jnp.ones(4, bool)

    def aligned(g):
        return gradient_alignment((g, h), rows)

    np.testing.assert_allclose(aligned(g * scale), aligned(g), rtol=1e-5)
    gradient = jax.grad(aligned)(g * scale) * scale
    np.testing.assert_allclose(gradient, jax.grad(aligned)(g), rtol=1e-4, atol=1e-6)


def test_zero_rows_have_finite_gradients_to_second_order():
    x = jnp.zeros((2, 3)).at[0].set(1.0)
    for f in (lambda x: jnp.sum(safe_norm(x) ** 3), lambda x: jnp.sum(normalize_rows(x) ** 3)):
        first = jax.grad(f)
        second = jax.grad(lambda x, first=first: jnp.sum(first(x) ** 2))
        assert np.isfinite(first(x)).all() and np.isfinite(second(x)).all()
