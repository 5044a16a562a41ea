"""Small numerical pieces with safe gradients, used by models, losses and ascent alike."""

import jax
import jax.numpy as jnp

_NORM_FLOOR = 1e-12


def safe_norm(x: jax.Array, axis: int = -1, keepdims: bool = False) -> jax.Array:
    """The 2-norm, with gradient 0 (not NaN) at 0, to any order.

    >>> jax.grad(safe_norm)(jnp.zeros(3)).tolist()
    [0.0, 0.0, 0.0]
    """
    square = jnp.sum(x * x, axis=axis, keepdims=keepdims)
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0)


def normalize_rows(x: jax.Array) -> jax.Array:
    """x / ||x||_2 by row; rows shorter than 1e-12 become 0, with gradient 0 to any order.

    >>> normalize_rows(jnp.array([[3.0, 4.0], [0.0, 0.0]])).round(6).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    square = jnp.sum(x * x, axis=-1, keepdims=True)
    long = square > _NORM_FLOOR**2
    return jnp.where(long, x * jax.lax.rsqrt(jnp.where(long, square, 1.0)), 0.0)


def weighted_mean(values: jax.Array, weights: jax.Array) -> jax.Array:
    """Mean of (B,) values over the rows of weight 1; 0 if there are none."""
    return jnp.sum(values * weights) / jnp.maximum(jnp.sum(weights), 1.0)


def take(table: jax.Array, rows: jax.Array) -> jax.Array:
    """table[rows], with padding ids beyond the table read as its last row."""
    return table.at[rows].get(mode="clip")
