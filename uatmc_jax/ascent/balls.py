"""Balls around rows: their radii, steepest directions, projections, draws and steps.

Perturbations are pytrees of (n, dim) arrays; every row has its own ball of radius r
around zero, given as a matching pytree of (n, 1) arrays.
"""

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


def choose(condition: jax.Array, yes: PyTree, no: PyTree) -> PyTree:
    """Leaf by leaf `yes` where the () bool condition holds, else `no`."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
