"""Small numerical pieces with safe gradients, used by models, losses and ascent alike."""

import jax
import jax.numpy as jnp

# One array a modality, in the data set's order.
Modal = tuple[jax.Array, ...]
_NORM_FLOOR = 1e-12
# Of matrix products whose result decides a rank: a GPU's shortened ones would decide near ties
# differently from one program to the next.
EXACT = "highest"


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


def take_features(features: Modal, rows: jax.Array) -> Modal:
    """`take` of each modality's raw features, in float32 as whatever they are kept."""
    return tuple(take(x, rows).astype(jnp.float32) for x in features)


def kth_largest(values: jax.Array, k: int) -> jax.Array:
    """The k-th largest of each column, differentiable as the selection of that entry.

    Found by bisection over the 2^32 floats, in 32 counting passes whatever k: on a
    CPU several times faster than a partial sort. Exact, but that XLA may take
    denormals for 0. Of equal entries the first is selected.

    >>> kth_largest(jnp.array([[1.0, -jnp.inf], [3.0, -2.0], [2.0, 0.0]]), 2).tolist()
    [2.0, -2.0]

    Args:
      values: (rows, n), not NaN; -inf is a value.
      k: from 1 to rows.

    Returns:
      (n,).
    """
    fixed = jax.lax.stop_gradient(values)
    bits = jax.lax.bitcast_convert_type(fixed + 0.0, jnp.int32)  # -0 becomes 0
    order = jnp.where(bits < 0, bits ^ jnp.int32(0x7FFFFFFF), bits)  # as integers, floats' order

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        middle = (low >> 1) + (high >> 1) + ((low | high) & 1)  # rounded up, without overflow
        enough = jnp.sum(order >= middle, axis=0, dtype=jnp.int32) >= k
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle - 1)

    lowest = jnp.full(values.shape[1], jnp.iinfo(jnp.int32).min, jnp.int32)
    bounds = lowest, jnp.full_like(lowest, jnp.iinfo(jnp.int32).max)
    found = jax.lax.fori_loop(0, 32, halve, bounds)[0]
    place = jnp.argmax(order == found, axis=0)
    return jnp.take_along_axis(values, place[None], axis=0)[0]
