"""Ascents in steps of one length."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from uatmc_jax.ascent.balls import PyTree, choose, move


class Steps(NamedTuple):
    """How far `pgd` goes.

    Attributes:
      taken: number of steps n; () int32 compiles once for all up to `room`.
      room: steps whose values there is room for, at least n.
    """

    taken: int | jax.Array
    room: int


def ascend(
    gradient: Callable[[PyTree], PyTree],
    start: PyTree,
    radius: PyTree,
    *,
    steps: int,
    step_size: float | jax.Array,
    norm: str,
    first: PyTree | None = None,
) -> PyTree:
    """`steps` times delta <- project(delta + step_size * r * direction(gradient(delta))).

    Args:
      gradient: the objective's gradient, of delta's structure.
      start: perturbation to start from, (n, dim) arrays.
      radius: (n, 1) arrays.
      steps: number of steps n.
      step_size: length of a step as a share of the radius.
      norm: "l2" or "linf", of the ball and of the step.
      first: the gradient at `start`, if it is known.

    Returns:
      The last perturbation; always inside the ball.
    """

    def step(_: int, delta: PyTree) -> PyTree:
        return move(delta, gradient(delta), radius, step_size, norm)

    if first is not None:
        start, steps = move(start, first, radius, step_size, norm), steps - 1
    return jax.lax.fori_loop(0, steps, step, start)


def pgd(
    objective: Callable[[PyTree], tuple[jax.Array, PyTree]],
    start: PyTree,
    radius: PyTree,
    *,
    steps: Steps,
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
      steps: how many are taken, of how many there is room for.
      step_size: as in `ascend`.
      norm: as in `ascend`.
      keep_best: return the point of the largest value among the start, all
        iterates and the end of one full step of length r from the start
        (FGSM's point); else the last iterate.

    Returns:
      The perturbation, its value, and (room + 1,) the values at the start and
      after each step, 0 past the last. If any look gave a value that is not a number, so is the
      value returned.
    """

    def look(turn: jax.Array, carry: tuple) -> tuple:
        # One place that evaluates the objective, whatever the point: it compiles once.
        delta, queued, best_value, best, values = carry
        value, gradient = objective(delta)
        better = (value > best_value) | jnp.isnan(value)
        if not keep_best:
            better |= turn == steps.taken
        best = choose(better, delta, best)
        after = move(delta, gradient, radius, step_size, norm)
        if keep_best:
            # Turn 1 looks at FGSM's point; turn 2 goes on from the start.
            full = move(delta, gradient, radius, 1.0, norm)
            queued, after = (
                choose(turn == 0, after, queued),
                choose(turn == 0, full, choose(turn == 1, queued, after)),
            )
        best_value = jnp.where(better, value, best_value)
        return after, queued, best_value, best, values.at[turn].set(value)

    more = 2 if keep_best else 1
    carry = (start, start, jnp.float32(-jnp.inf), start, jnp.zeros(steps.room + more))
    _, _, value, best, values = jax.lax.fori_loop(0, steps.taken + more, look, carry)
    # One look that is not a number has misled all later ones, whatever they found.
    value = jnp.where(jnp.isnan(values).any(), jnp.nan, value)
    if keep_best:
        values = jnp.delete(values, 1, assume_unique_indices=True)
    return best, value, values
