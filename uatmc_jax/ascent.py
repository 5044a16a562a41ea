"""Projected gradient ascent inside a ball around each row: norms, steps, projections.

Shared by the defence's inner maximisation and by the attacks. Perturbations
are pytrees of (n, dim) arrays; every row has its own ball of radius r around
zero, given as a matching pytree of (n, 1) arrays. Four small answers make an
ascent: where to start, the direction, the step, the projection.

`ascend` and `pgd` go in steps of one length, `apgd` chooses its own, and
`random_search` knows values only.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.numerics import safe_norm

NORMS = ("l2", "linf")
PyTree = Any

# Of `apgd`, as published: the share of a step in an iterate, the rest being momentum.
_STEP_SHARE = 0.75
# The single coordinate (or its step) is reached after this share of a random search.
_SHRINKING = 0.25


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
    step_size: float | jax.Array,
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


def pgd(
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
    values: jax.Array
    (_, _, value, best), values = jax.lax.scan(look, carry, jnp.arange(turns))
    # One look that is not a number has misled all later ones, whatever they found.
    value = jnp.where(jnp.isnan(values).any(), jnp.nan, value)
    if keep_best:
        values = jnp.delete(values, 1, assume_unique_indices=True)
    return best, value, values


def checkpoints(steps: int) -> list[int]:
    """The steps after which `apgd` looks back: w_j = ceil(p_j n), without w_0 = 0.

    p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06), counted in
    hundredths, so that no rounding moves a checkpoint.

    >>> checkpoints(100)
    [22, 41, 57, 70, 80, 87, 93, 99]
    >>> checkpoints(10)
    [3, 5, 6, 7, 8, 9, 10]
    """
    shares = [0, 22]
    while shares[-1] <= 100:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 3, 6))
    return sorted({-(-p * steps // 100) for p in shares if 0 < p <= 100})


class _Climber(NamedTuple):
    """Where an `apgd` stands.

    Attributes:
      point: to look at next.
      before: the point before.
      left: () value of the point that `point` was stepped to from.
      step: () length of a step as a share of the radius.
      best: the best point seen, with its value and gradient.
      best_value: ().
      best_gradient: as `best`.
      raised: () steps since the last checkpoint that raised the value.
      halved: () bool, whether the last checkpoint halved the step.
      best_then: () the best value at the last checkpoint.
    """

    point: PyTree
    before: PyTree
    left: jax.Array
    step: jax.Array
    best: PyTree
    best_value: jax.Array
    best_gradient: PyTree
    raised: jax.Array
    halved: jax.Array
    best_then: jax.Array


def apgd(
    objective: Callable[[PyTree], tuple[jax.Array, PyTree]],
    start: PyTree,
    radius: PyTree,
    *,
    steps: int,
    norm: str,
) -> tuple[PyTree, jax.Array, jax.Array]:
    """Auto-PGD (Croce and Hein, ICML 2020, Algorithm 1): no step size to choose.

        z = project(x_k + eta r direction(gradient))
        x_{k+1} = project(x_k + 0.75 (z - x_k) + 0.25 (x_k - x_{k-1}))

    with eta = 2 at first and no momentum in the first step. After each of the
    steps `checkpoints`, eta is halved and the climb goes on from the best point if
    fewer than three quarters of the steps since the last one raised the value,
    or if neither eta nor the best value has changed since. From zero, the first
    step ends at FGSM's point.

    Args:
      objective: as in `pgd`.
      start: as in `pgd`.
      radius: as in `pgd`.
      steps: n; n + 1 looks at the objective.
      norm: as in `pgd`.

    Returns:
      The best of the start and all iterates, its value, and (steps + 1,) the
      values at the start and after each step. If any look gave a value that is
      not a number, so is the value returned.
    """
    windows = np.zeros(steps + 1, np.int32)  # steps since the last checkpoint; 0: none here
    windows[checkpoints(steps)] = np.diff([0, *checkpoints(steps)])

    def look(at: _Climber, now: tuple[jax.Array, jax.Array]) -> tuple[_Climber, jax.Array]:
        turn, window = now
        value, gradient = objective(at.point)
        raised = at.raised + (value > at.left)
        better = (value > at.best_value) | jnp.isnan(value)
        best_value = jnp.where(better, value, at.best_value)
        best, best_gradient = _choose(better, (at.point, gradient), (at.best, at.best_gradient))
        best_then = jnp.where(turn == 0, value, at.best_then)
        due = window > 0
        stuck = ~at.halved & (best_value == best_then)
        halve = due & ((4 * raised < 3 * window) | stuck)
        step = jnp.where(halve, at.step / 2, at.step)
        point, gradient = _choose(halve, (best, best_gradient), (at.point, gradient))
        stepped = move(point, gradient, radius, step, norm)
        share = jnp.where(turn == 0, 1.0, _STEP_SHARE)
        following = jax.tree.map(
            lambda x, z, old, r: project(x + share * (z - x) + (1 - share) * (x - old), r, norm),
            point,
            stepped,
            at.before,
            radius,
        )
        after = _Climber(
            point=following,
            before=point,
            left=jnp.where(halve, best_value, value),
            step=step,
            best=best,
            best_value=best_value,
            best_gradient=best_gradient,
            raised=jnp.where(due, 0, raised),
            halved=jnp.where(due, halve, at.halved),
            best_then=jnp.where(due, best_value, best_then),
        )
        return after, value

    nothing, lowest = jax.tree.map(jnp.zeros_like, start), jnp.float32(-jnp.inf)
    first = _Climber(
        point=start,
        before=start,
        left=jnp.float32(jnp.inf),  # no step leads to the start
        step=jnp.float32(2.0),
        best=start,
        best_value=lowest,
        best_gradient=nothing,
        raised=jnp.int32(0),
        halved=jnp.bool_(False),
        best_then=lowest,
    )
    last, values = jax.lax.scan(look, first, (jnp.arange(steps + 1), jnp.asarray(windows)))
    return last.best, last.best_value, values


def random_search(
    value_of: Callable[[PyTree], jax.Array],
    start: PyTree,
    radius: PyTree,
    key: jax.Array,
    *,
    steps: int,
    norm: str,
) -> tuple[PyTree, jax.Array, jax.Array]:
    """Climbs by values alone: propose a change, keep it unless the value falls.

    linf: coordinates are taken to the opposite face of the ball, those at zero
    to either; which ones, a block that goes round a random order of all
    coordinates says. l2: a step in a random direction, projected. Block and
    step shrink, D coordinates in all, from share 1 of the coordinates (l2: from
    a step of r) to a single one (r / sqrt(D)) in the first quarter of the
    search. So in linf a search of 2 D steps or more tries each coordinate alone.

    A change that leaves the value as it is is kept too: where values are flat
    in steps, the search wanders on.

    Args:
      value_of: delta -> value; never differentiated.
      start: as in `pgd`.
      radius: as in `pgd`.
      key: of the proposals.
      steps: number of proposals n; n + 1 looks.
      norm: as in `pgd`.

    Returns:
      The perturbation, its value, and (steps + 1,) the value reached after each
      look, never falling. If any look gave a value that is not a number, so is
      the value returned.
    """
    leaves, treedef = jax.tree.flatten(start)
    dims = sum(leaf.size for leaf in leaves)
    shrunk = np.minimum(1.0, np.arange(steps) / (_SHRINKING * steps))
    blocks = np.ceil(np.round(dims ** (1.0 - shrunk), 9)).astype(np.int32)
    offsets = (np.cumsum(blocks, dtype=np.int64) - blocks) % dims
    order = jax.random.permutation(jax.random.fold_in(key, steps), dims).astype(jnp.int32)

    def propose(key: jax.Array, delta: PyTree, block: jax.Array, offset: jax.Array) -> PyTree:
        pieces, proposed, done = jax.tree.leaves(delta), [], 0
        for n, (x, r) in enumerate(zip(pieces, jax.tree.leaves(radius), strict=True)):
            k = jax.random.fold_in(key, n)
            if norm == "linf":
                place = order[done : done + x.size].reshape(x.shape)
                chosen = (place - offset) % dims < block
                side = jnp.where(x == 0, jax.random.rademacher(k, x.shape, x.dtype), -jnp.sign(x))
                proposed.append(jnp.where(chosen, r * side, x))
            else:
                random = direction(jax.random.normal(k, x.shape, x.dtype), "l2")
                proposed.append(project(x + jnp.sqrt(block / dims) * r * random, r, "l2"))
            done += x.size
        return jax.tree.unflatten(treedef, proposed)

    def look(carry: tuple, now: tuple) -> tuple:
        # The first look is at the start: one place that evaluates, so that it compiles once.
        queued, kept, best = carry
        turn, block, offset = now
        value = value_of(queued)
        best, kept = _choose((value >= best) | jnp.isnan(value), (value, queued), (best, kept))
        return (propose(jax.random.fold_in(key, turn), kept, block, offset), kept, best), best

    turns = jnp.arange(steps + 1)
    plan = (np.append(blocks, 1), np.append(offsets, 0).astype(np.int32))
    carry = (start, start, jnp.float32(-jnp.inf))
    values: jax.Array
    (_, kept, value), values = jax.lax.scan(look, carry, (turns, *map(jnp.asarray, plan)))
    return kept, value, values


def _choose(condition: jax.Array, yes: PyTree, no: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
