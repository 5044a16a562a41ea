"""Steps of Adam without a gradient, made up for at once.

A row that no batch reads has no gradient, yet Adam moves it on: its moments decay and it
follows them. Let a row be as it was after step s, with moments m and v, and let k more steps
have gone by. With e_u = sqrt(1 - b2^u), the sum of what they add to it is

    -m sum_j a_j / (sqrt(v) + h_j),   a_j = rate_u e_u / (1 - b1^u) (b1 / sqrt(b2))^j,
                                      h_j = eps e_u b2^(-j/2),   u = s + j,   j = 1..k

and its moments are b1^k m and b2^k v. No a_j or h_j depends on the row's numbers, and the h_j
are nearly equal, so with a = sum a_j and the mean h, variance h2 and third central moment h3
of the h_j under the weights a_j, the sum is, with q = 1 / (sqrt(v) + h),

    a q (1 + h2 q^2 - h3 q^3)

Four numbers a row stand for all of its missed steps. The steps beyond `WINDOW` add less than a
10^-7th of the first and are left out; the first `EXACT_STEPS` of a stage, in which e_u still
grows fast, are taken one by one. Against the sum itself this is right to 2e-5 for rows whose
gradients were so small (1e-8) that eps rules, and to 1e-8 where sqrt(v) is 10 times h.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.optimizer import Adam

WINDOW = 160
EXACT_STEPS = 128
_BLOCK = 1024  # rows of `Schedule.full` computed at a time


class Moved(NamedTuple):
    """Rows that Adam moves.

    Attributes:
      x: (n, ...) the parameters.
      m: (n, ...) Adam's first moments.
      v: (n, ...) its second ones.
    """

    x: jax.Array
    m: jax.Array
    v: jax.Array


class Schedule(NamedTuple):
    """An epoch's steps, as rows that miss them need them.

    Attributes:
      start: () int32, steps done before the epoch.
      gains: (steps + 2 WINDOW,) rate_u e_u / (1 - b1^u) of step u = start - WINDOW + 1 on.
      roots: of the same steps, e_u.
      full: (steps, 4) the sums for a row as of step start + n that has missed WINDOW steps or
        more; None in an epoch that is no longer than that.
    """

    start: jax.Array
    gains: jax.Array
    roots: jax.Array
    full: jax.Array | None


def make_schedule(adam: Adam, start: jax.Array, n_steps: int) -> Schedule:
    """What the rows of an epoch of `n_steps` are moved on by.

    Args:
      adam: the optimiser.
      start: () int32, steps done before it.
      n_steps: of the epoch.
    """
    steps = start - WINDOW + 1 + jnp.arange(n_steps + 2 * WINDOW)
    counted = jnp.maximum(steps, 1)
    roots = jnp.sqrt(1 - adam.b2**counted)
    gains = jnp.where(steps > 0, adam.rate(counted - 1) * roots / (1 - adam.b1**counted), 0.0)
    if n_steps <= WINDOW:
        return Schedule(start, gains, roots, None)
    after = np.arange(1, WINDOW + 1)

    def window(first: jax.Array) -> jax.Array:
        part, beside = (jax.lax.dynamic_slice_in_dim(x, first, WINDOW) for x in (gains, roots))
        return _sums(adam, part, beside, after)

    full = jax.lax.map(window, WINDOW + jnp.arange(n_steps), batch_size=min(_BLOCK, n_steps))
    return Schedule(start, gains, roots, full)


def advance(
    adam: Adam, schedule: Schedule, rows: list[Moved], since: jax.Array, now: jax.Array
) -> list[Moved]:
    """The rows as dense Adam has them after step `now`, had none had a gradient meanwhile.

    Args:
      adam: the optimiser.
      schedule: of the epoch, at whose start all rows were as of its first step.
      rows: of several tables, each (n, ...).
      since: (n,) int32, the step after which the rows are as given.
      now: () int32, steps done.
    """
    # Nothing has moved a row that no step has touched yet.
    since = jnp.where(since == 0, now, since)
    one_by_one = jnp.minimum(now, EXACT_STEPS)

    def step(u: jax.Array, rows: list[Moved]) -> list[Moved]:
        return [_step(adam, u, one, since < u) for one in rows]

    rows = jax.lax.fori_loop(jnp.min(since) + 1, one_by_one + 1, step, rows)
    since = jnp.maximum(since, one_by_one)
    missed = now - since
    sums = _missed_sums(adam, schedule, since, now)
    decays = adam.b1 ** missed.astype(jnp.float32), adam.b2 ** missed.astype(jnp.float32)
    return [_jump(one, sums, decays) for one in rows]


def _step(adam: Adam, u: jax.Array, rows: Moved, behind: jax.Array) -> Moved:
    """Step u, without a gradient, of the rows that are `behind`."""
    m, v = adam.b1 * rows.m, adam.b2 * rows.v
    down = (m / (1 - adam.b1**u)) / (jnp.sqrt(v / (1 - adam.b2**u)) + adam.eps)
    moved = Moved(rows.x - adam.rate(u - 1) * down, m, v)
    return Moved(*(jnp.where(_rows(behind, x), x, old) for x, old in zip(moved, rows, strict=True)))


def _jump(rows: Moved, sums: jax.Array, decays: tuple[jax.Array, jax.Array]) -> Moved:
    total, mean, variance, third = (_rows(x, rows.x) for x in sums.T)
    q = 1 / (jnp.sqrt(rows.v) + mean)
    # In units of the mean: its square has no float32.
    share = mean * q
    moved = total * q * (1 + share**2 * (variance - third * share))
    b1, b2 = (_rows(x, rows.x) for x in decays)
    return Moved(rows.x - rows.m * moved, b1 * rows.m, b2 * rows.v)


def _missed_sums(adam: Adam, schedule: Schedule, since: jax.Array, now: jax.Array) -> jax.Array:
    """(n, 4) the sums of each row: a, h, h2 / h^2, h3 / h^3."""
    missed = now - since
    place = now - schedule.start
    gains, roots = (
        jax.lax.dynamic_slice_in_dim(x, place, WINDOW) for x in (schedule.gains, schedule.roots)
    )
    # For k = 0..WINDOW missed steps, how long after the row's own each of the last ones is.
    after = np.arange(WINDOW + 1)[:, None] - WINDOW + 1 + np.arange(WINDOW)
    recent = _sums(adam, gains, roots, after)
    found = recent[jnp.minimum(missed, WINDOW)]
    if schedule.full is None:
        return found
    return jnp.where((missed > WINDOW)[:, None], schedule.full[since - schedule.start], found)


def _sums(adam: Adam, gains: jax.Array, roots: jax.Array, after: np.ndarray) -> jax.Array:
    """a, h, h2 / h^2 and h3 / h^3 over the last axis; steps less than 1 after are not missed.

    Args:
      adam: the optimiser.
      gains: (WINDOW,) of the steps.
      roots: (WINDOW,) of the steps.
      after: (..., WINDOW) j.

    Returns:
      (..., 4).
    """
    j = np.maximum(after, 0)
    decays = np.where(after > 0, (adam.b1 / np.sqrt(adam.b2)) ** j, 0.0).astype(np.float32)
    weights = gains * decays
    h = adam.eps * roots * (adam.b2 ** (-j / 2)).astype(np.float32)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    some = total > 0
    shares = jnp.where(some, weights / jnp.where(some, total, 1.0), 0.0)
    mean = jnp.where(some, jnp.sum(shares * h, axis=-1, keepdims=True), adam.eps)
    off = h / mean - 1
    moments = (jnp.sum(shares * off**n, axis=-1, keepdims=True) for n in (2, 3))
    return jnp.concatenate([total, mean, *moments], axis=-1)


def _rows(values: jax.Array, like: jax.Array) -> jax.Array:
    """(n,) values, to be broadcast over the other axes of `like`, (n, ...)."""
    return values.reshape(values.shape + (1,) * (like.ndim - 1))
