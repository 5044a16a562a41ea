"""Small numerical pieces with safe gradients, used by models, losses and ascent alike."""

import functools

import jax
import jax.numpy as jnp

# One array a modality, in the data set's order.
Modal = tuple[jax.Array, ...]
_NORM_FLOOR = 1e-12
# Of matrix products whose result decides a rank: a GPU's shortened ones would decide near ties
# differently from one program to the next.
EXACT = "highest"
_LOWEST, _HIGHEST = -(2**31), 2**31 - 1  # of int32
# Sums of more rows XLA does on a CPU in passes over arrays that it writes out: three times slower.
_FUSED_ROWS, _MANY_PARTS = 32, 32


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
    order = _order(values)
    place = jnp.argmax(order == _kth_order(order, k), axis=0)
    return jnp.take_along_axis(values, place[None], axis=0)[0]


def kth_largest_beside(values: jax.Array, beside: jax.Array, k: int) -> jax.Array:
    """The k-th largest of each column of two tables together, the second sorted already.

    Only the first table is counted over and over: s, how many of the second's are among the
    k largest, is found by bisection, and the result is the smaller one of its s-th and of the
    first's (k - s)-th. Differentiable in `values` as `kth_largest` is; of equal entries the
    first table's first is selected.

    >>> values, beside = jnp.array([[2.0, 2.0]]), jnp.array([[3.0, 1.0], [1.0, 0.0]])
    >>> kth_largest_beside(values, beside, 2).tolist()
    [2.0, 1.0]

    Args:
      values: (m, n), m at least 1, not NaN.
      beside: (w, n), each column descending, not NaN; taken as constant.
      k: from 1 to m + w.

    Returns:
      (n,).
    """
    order, kept = _order(values), _order(beside)
    most = min(k, kept.shape[0])

    def entry(count: jax.Array) -> jax.Array:
        return jnp.take_along_axis(kept, jnp.maximum(count - 1, 0)[None], axis=0)[0]

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        middle = (low + high + 1) // 2
        rank = middle + _count(order > entry(middle))
        return jnp.where(rank <= k, middle, low), jnp.where(rank <= k, high, middle - 1)

    none = jnp.zeros(kept.shape[1], jnp.int32)
    s = jax.lax.fori_loop(0, most.bit_length(), halve, (none, jnp.full_like(none, most)))[0]
    last = jnp.where(s > 0, entry(s), _HIGHEST)
    found = jnp.minimum(last, _kth_order(order, k - s))
    equal = order == found
    selected = jnp.take_along_axis(values, jnp.argmax(equal, axis=0)[None], axis=0)[0]
    return jnp.where(jnp.any(equal, axis=0), selected, _of_order(found).astype(values.dtype))


def _order(values: jax.Array) -> jax.Array:
    """float32 as int32 in the same order, -0 as 0."""
    bits = jax.lax.bitcast_convert_type(jax.lax.stop_gradient(values), jnp.int32)
    return jnp.where(bits < 0, -(bits & _HIGHEST), bits)


def _of_order(order: jax.Array) -> jax.Array:
    bits = jnp.where(order < 0, -order | _LOWEST, order)
    found = jax.lax.bitcast_convert_type(bits, jnp.float32)
    return jnp.where(order == _LOWEST, jnp.nan, found)  # no float's: k was beyond the entries


def _count(chosen: jax.Array) -> jax.Array:
    """(n,) how many of each column, (rows, n) bool, are."""

    def whole(rows: jax.Array) -> jax.Array:
        return jnp.sum(rows, axis=0, dtype=jnp.int32)

    def in_parts(rows: jax.Array) -> jax.Array:
        parts = (rows[n : n + _FUSED_ROWS] for n in range(0, len(rows), _FUSED_ROWS))
        return functools.reduce(jnp.add, map(whole, parts))

    if not _FUSED_ROWS < len(chosen) <= _MANY_PARTS * _FUSED_ROWS:
        return whole(chosen)
    return jax.lax.platform_dependent(chosen, cpu=in_parts, default=whole)


def _kth_order(order: jax.Array, k: int | jax.Array) -> jax.Array:
    """(n,) the k-th largest of each column, k one for all or (n,); the highest for k = 0."""

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        middle = (low >> 1) + (high >> 1) + ((low | high) & 1)  # rounded up, without overflow
        enough = _count(order >= middle) >= k
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle - 1)

    lowest = jnp.full(order.shape[1], _LOWEST, jnp.int32)
    bounds = lowest, jnp.full_like(lowest, _HIGHEST)
    return jax.lax.fori_loop(0, 32, halve, bounds)[0]
