"""Auto-PGD, which chooses the length of its steps."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.ascent.balls import PyTree, choose, move, project

# As published: the share of a step in an iterate, the rest being momentum.
_STEP_SHARE = 0.75


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
        best, best_gradient = choose(better, (at.point, gradient), (at.best, at.best_gradient))
        best_then = jnp.where(turn == 0, value, at.best_then)
        due = window > 0
        stuck = ~at.halved & (best_value == best_then)
        halve = due & ((4 * raised < 3 * window) | stuck)
        step = jnp.where(halve, at.step / 2, at.step)
        point, gradient = choose(halve, (best, best_gradient), (at.point, gradient))
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
