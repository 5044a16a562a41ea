"""Projected gradient ascent inside a ball around each row: norms, steps, projections.

Shared by the defence's inner maximisation and by the attacks. Perturbations
are pytrees of (n, dim) arrays; every row has its own ball of radius r around
zero, given as a matching pytree of (n, 1) arrays. Four small answers make an
ascent: where to start, the direction, the step, the projection.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from uatmc_jax.numerics import safe_norm

NORMS = ("l2", "linf")
PyTree = Any


def radii(rows: PyTree, eps: float | jax.Array) -> PyTree:
    """r_i = eps * ||row_i||_2, as (n, 1) arrays, whichever norm the ball is in."""
    return jax.tree.map(lambda x: eps * safe_norm(x, keepdims=True), rows)


def direction(gradient: jax.Array, norm: str) -> jax.Array:
    """Steepest ascent direction of unit norm, by row; zero where the gradient is zero.

    l2: g / ||g||_2; linf: sign(g).
    """
    if norm == "linf":
        return jnp.sign(gradient)
    # Dividing by the largest entry first keeps the square of tiny gradients from underflowing.
    largest = jnp.max(jnp.abs(gradient), axis=-1, keepdims=True)
    scaled = gradient / jnp.where(largest > 0, largest, 1.0)
    length = safe_norm(scaled, keepdims=True)
    return scaled / jnp.where(length > 0, length, 1.0)


def project(delta: jax.Array, radius: jax.Array, norm: str) -> jax.Array:
    """The nearest point of the ball, by row.

    >>> project(jnp.array([[3.0, 4.0]]), jnp.array([[1.0]]), "l2").round(6).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    >>> project(jnp.array([[3.0, -0.5]]), jnp.array([[1.0]]), "linf").tolist()
    [[1.0, -0.5]]
    """
    if norm == "linf":
        return jnp.clip(delta, -radius, radius)
    length = safe_norm(delta, keepdims=True)
    inside = length <= radius
    return jnp.where(inside, delta, delta * (radius / jnp.where(inside, 1.0, length)))


def random_start(key: jax.Array, radius: PyTree, like: PyTree, norm: str) -> PyTree:
    """A uniform draw from each row's ball."""
    leaves, treedef = jax.tree.flatten(like)
    keys = jax.tree.unflatten(treedef, list(jax.random.split(key, len(leaves))))

    def draw(k: jax.Array, r: jax.Array, x: jax.Array) -> jax.Array:
        if norm == "linf":
            return r * jax.random.uniform(k, x.shape, x.dtype, -1.0, 1.0)
        k_direction, k_length = jax.random.split(k)
        normal = jax.random.normal(k_direction, x.shape, x.dtype)
        length = jax.random.uniform(k_length, (len(x), 1), x.dtype) ** (1.0 / x.shape[-1])
        return project(r * length * direction(normal, "l2"), r, "l2")

    return jax.tree.map(draw, keys, radius, like)


def ascend(
    gradient: Callable[[PyTree], PyTree],
    start: PyTree,
    radius: PyTree,
    *,
    steps: int,
    step_size: float,
    norm: str,
) -> PyTree:
    """`steps` times delta <- project(delta + step_size * r * direction(gradient(delta))).

    Args:
      gradient: the objective's gradient, of delta's structure.
      start: perturbation to start from, (n, dim) arrays.
      radius: (n, 1) arrays.
      steps: number of steps n.
      step_size: length of a step as a share of the radius.
      norm: "l2" or "linf", of the ball and of the step.

    Returns:
      The last perturbation; always inside the ball.
    """

    def step(_: int, delta: PyTree) -> PyTree:
        return move(delta, gradient(delta), radius, step_size, norm)

    return jax.lax.fori_loop(0, steps, step, start)


def move(
    delta: PyTree, gradient: PyTree, radius: PyTree, step_size: float | jax.Array, norm: str
) -> PyTree:
    """One step: project(delta + step_size * r * direction(gradient))."""
    return jax.tree.map(
        lambda d, g, r: project(d + step_size * r * direction(g, norm), r, norm),
        delta,
        gradient,
        radius,
    )


def climb(
    objective: Callable[[PyTree], tuple[jax.Array, PyTree]],
    start: PyTree,
    radius: PyTree,
    *,
    steps: int,
    step_size: float | jax.Array,
    norm: str,
    keep_best: bool,
) -> tuple[PyTree, jax.Array, jax.Array]:
    """`ascend` that watches a value on its way.

    Args:
      objective: delta -> (value, direction to go): the two need not belong
        together, as when the gradient has a regulariser's part.
      start: as in `ascend`.
      radius: as in `ascend`.
      steps: as in `ascend`.
      step_size: as in `ascend`.
      norm: as in `ascend`.
      keep_best: return the point of the largest value among the start, all
        iterates and the end of one full step of length r from the start
        (FGSM's point); else the last iterate.

    Returns:
      The perturbation, its value, and (steps + 1,) the values at the start and
      after each step. If any look gave a value that is not a number, so is the
      value returned.
    """

    def look(carry: tuple, turn: jax.Array) -> tuple:
        # One place that evaluates the objective, whatever the point: it compiles once.
        delta, queued, best_value, best = carry
        value, gradient = objective(delta)
        better = (value > best_value) | jnp.isnan(value)
        if not keep_best:
            better |= turn == steps
        best = _choose(better, delta, best)
        after = move(delta, gradient, radius, step_size, norm)
        if keep_best:
            # Turn 1 looks at FGSM's point; turn 2 goes on from the start.
            full = move(delta, gradient, radius, 1.0, norm)
            queued, after = (
                _choose(turn == 0, after, queued),
                _choose(turn == 0, full, _choose(turn == 1, queued, after)),
            )
        return (after, queued, jnp.where(better, value, best_value), best), value

    turns = steps + 2 if keep_best else steps + 1
    carry = (start, start, jnp.float32(-jnp.inf), start)
    (_, _, value, best), values = jax.lax.scan(look, carry, jnp.arange(turns))
    # One look that is not a number has misled all later ones, whatever they found.
    value = jnp.where(jnp.isnan(values).any(), jnp.nan, value)
    if keep_best:
        values = jnp.delete(values, 1, assume_unique_indices=True)
    return best, value, values


def _choose(condition: jax.Array, yes: PyTree, no: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
