"""Bounds of how many users one edit reaches on a part of the ball, from moments of edits.

Steps 1 to 3 of `one_edit`, whose notation this is.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

_STEPS = 40
# More steps where the two sides are further apart than this share, so often at most.
_APART, _ROUNDS = 0.01, 3
_STEP = 0.2
_ROUNDING = 1e-9
_LEAST = 1e-20


class Cut(NamedTuple):
    """What the parts of the ball share: users neither sure nor out of reach, and directions.

    Attributes:
      gap: (m,).
      slopes: (m, D).
      starts: as of `Reachable`.
      basis: (D, r) leading orthonormal directions of the slopes; the first J are cut along.
      along: (m, r) slopes along them.
      multipliers: (C, J) shares of `along` that are taken out.
      rest: (m, C) dual norms of what is left.
    """

    gap: np.ndarray
    slopes: np.ndarray
    starts: np.ndarray
    basis: np.ndarray
    along: np.ndarray
    multipliers: np.ndarray
    rest: np.ndarray


class Quadratics(NamedTuple):
    """Per user a + b <g, delta> + c <g, delta>^2, each (m,)."""

    constant: np.ndarray
    linear: np.ndarray
    square: np.ndarray


class Slab(NamedTuple):
    """A part of the ball: low <= <v, delta> <= high along each direction.

    Attributes:
      low: (J,).
      high: (J,).
      tight: (J,) where it is smaller than the ball.
      ends: (J,) dual norms of the directions.
    """

    low: np.ndarray
    high: np.ndarray
    tight: np.ndarray
    ends: np.ndarray


def bound_part(
    cut: Cut, lowest: np.ndarray, slab: Slab, moments: np.ndarray, eta: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """A bound of the users reached on a part, from given moments on.

    Args:
      cut: of the users that are open there.
      lowest: (m,) each one's least gap + <g, delta> there, below 0.
      slab: the part.
      moments: (D, rank) R.
      eta: (J,) multipliers of the slab.

    Returns:
      The bound, and the moments and multipliers that it is from.
    """
    lengths = np.diff(np.append(cut.starts, len(cut.basis)))
    ball = np.repeat(np.arange(len(lengths)), lengths), *_float32(cut.basis, slab.ends)
    users, part = _padded(cut, lowest), (*_float32(slab.low, slab.high), slab.tight)
    bound = float(len(lowest))
    for turn in range(_ROUNDS):
        step = np.float32(_STEP / (1 + turn))
        found = _ascend(users, ball, part, _float32(moments, eta), step, len(lengths))
        moments, eta = (np.asarray(x, float) for x in found)
        moments = normalized(moments, cut.starts)  # to float64
        upper, value = _dual(cut, lowest, slab, (moments, eta))
        bound = min(bound, upper)
        if upper - value < _APART * value:
            break
    return bound, moments, eta


def least(cut: Cut, lowest: np.ndarray, moments: np.ndarray) -> tuple[np.ndarray, Quadratics]:
    """The least of each user's bounds under the moments, (m,), and which it is."""
    images = cut.slopes @ moments
    mean = images[:, 0] + cut.gap
    second = (images**2).sum(axis=1) - images[:, 0] ** 2 + mean**2
    below = mean < 0
    t = np.where(below, second / np.where(below, -mean, 1.0), 1.0)
    values = np.stack(
        [
            np.ones(len(mean)),
            (mean - lowest) / -lowest,
            np.where(below, 1 - mean**2 / np.maximum(second, 1e-300), np.inf),
        ]
    )
    kind = values.argmin(axis=0)
    straight, curved = kind == 1, kind == 2
    t = np.where(curved, np.maximum(t, 1e-300), 1.0)
    return values.min(axis=0), Quadratics(
        np.select(
            [straight, curved], [(cut.gap - lowest) / -lowest, ((cut.gap + t) / t) ** 2], 1.0
        ),
        np.select([straight, curved], [-1 / lowest, 2 * (cut.gap + t) / t**2], 0.0),
        np.where(curved, 1 / t**2, 0.0),
    )


@functools.partial(jax.jit, static_argnames="groups")
def _ascend(
    users: tuple[jax.Array, jax.Array, jax.Array],
    ball: tuple[jax.Array, jax.Array, jax.Array],
    part: tuple[jax.Array, jax.Array, jax.Array],
    state: tuple[jax.Array, jax.Array],
    step: jax.Array,
    groups: int,
) -> tuple[jax.Array, jax.Array]:
    """Moments that reach more users, and multipliers of the cuts that they violate.

    Args:
      users: gap (m,), slopes along the basis (m, r), lowest (m,).
      ball: the group of each coordinate (D,), the basis (D, r), the cut ones' dual norms (J,).
      part: low (J,), high (J,), whether they are cuts (J,).
      state: moments (D, rank), eta (J,).
      step: how far towards the gradient.
      groups: their number.
    """
    (gap, along, lowest), (group, basis, ends) = users, ball
    (low, high, tight), count = part, len(ends)
    centre, half = (low + high) / 2, (high - low) / 2

    def unit(moments: jax.Array) -> jax.Array:
        squares = jax.ops.segment_sum((moments**2).sum(axis=1), group, groups)
        return moments * jax.lax.rsqrt(jnp.maximum(squares, _LEAST))[group][:, None]

    def ascend(_: int, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        moments, eta = state
        on_basis = basis.T @ moments
        images = along @ on_basis
        mean = images[:, 0] + gap
        variance = (images[:, 1:] ** 2).sum(axis=1)
        second = variance + mean**2
        below = jnp.minimum(mean, -_LEAST)
        straight = (mean - lowest) / -lowest
        curved = jnp.where(mean < 0, variance / jnp.maximum(second, _LEAST), 1.0)
        t = jnp.maximum(second / -below, _LEAST)
        is_curved = (curved <= straight) & (curved < 1)
        linear = jnp.where(is_curved, 2 * (gap + t) / t**2, 0.0)
        linear = jnp.where(~is_curved & (straight < 1), -1 / lowest, linear)
        square = jnp.where(is_curved, 1 / t**2, 0.0)
        weights = (square[:, None] * images).at[:, 0].add(linear / 2)
        off = on_basis[:count].at[:, 0].add(-centre)
        curvature = (square[:, None] * along[:, :count] ** 2).sum(axis=0)
        violation = (off**2).sum(axis=1) - half**2
        moved = jnp.maximum(eta + 0.5 * curvature * violation / ends**2, 0.0)
        eta = jnp.where(tight, moved, 0.0)
        gradient = basis @ (along.T @ weights).at[:count].add(-eta[:, None] * off)
        return unit((1 - step) * moments + step * unit(gradient)), eta

    return jax.lax.fori_loop(0, _STEPS, ascend, state)


def _float32(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(x.astype(np.float32) for x in arrays)


def _padded(here: Cut, lowest: np.ndarray) -> tuple[np.ndarray, ...]:
    """The users, filled up to a power of two with some who are never reached."""
    more = (1 << (len(lowest) - 1).bit_length()) - len(lowest)
    filled = zip((here.gap, here.along, lowest), (-1.0, 0.0, -1.0), strict=True)
    return tuple(
        np.pad(x, [(0, more)] + [(0, 0)] * (x.ndim - 1), constant_values=value).astype(np.float32)
        for x, value in filled
    )


def _dual(
    cut: Cut,
    lowest: np.ndarray,
    slab: Slab,
    state: tuple[np.ndarray, np.ndarray],
) -> tuple[float, float]:
    """The certificate that moments and multipliers lead to, and the value they have themselves."""
    moments, eta = state
    centre, half = (slab.low + slab.high) / 2, (slab.high - slab.low) / 2
    _, q = least(cut, lowest, moments)
    size = cut.slopes.shape[1]
    matrix = np.zeros((size + 1, size + 1))
    matrix[1:, 1:] = (cut.slopes.T * q.square) @ cut.slopes
    directions = cut.basis[:, : len(eta)]
    matrix[1:, 1:] -= (directions * eta) @ directions.T
    matrix[0, 1:] = matrix[1:, 0] = cut.slopes.T @ q.linear / 2 + directions @ (eta * centre)
    lifted = np.vstack([np.eye(1, moments.shape[1]), moments])
    diagonal = (lifted * (matrix @ lifted)).sum(axis=1)
    groups = np.maximum(np.add.reduceat(diagonal[1:], cut.starts), 0.0)
    lengths = np.diff(np.append(cut.starts, size))
    # Of a group's coordinates the multiplier is one; the moments' norms in it are 1.
    matrix[np.diag_indices(size + 1)] -= np.concatenate([diagonal[:1], np.repeat(groups, lengths)])
    slack = np.linalg.eigvalsh(matrix)[-1] + 1e-12 * np.abs(matrix).max() * size
    value = q.constant.sum() + (eta * (half**2 - centre**2)).sum() + diagonal[0] + groups.sum()
    upper = value + (1 + len(groups)) * max(slack, 0.0)
    return upper + _ROUNDING * (1 + abs(upper)), value


def dual_norm(x: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """(...,) the sum over groups of 2-norms, of x (..., D)."""
    if len(starts) == x.shape[-1]:
        return np.abs(x).sum(axis=-1)
    return np.sqrt(np.add.reduceat(x * x, starts, axis=-1)).sum(axis=-1)


def normalized(moments: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Moments (D, rank) of norm 1 in every group; 0 where there is nothing."""
    lengths = np.diff(np.append(starts, len(moments)))
    norms = np.sqrt(np.add.reduceat((moments**2).sum(axis=1), starts))
    return moments / np.repeat(np.maximum(norms, 1e-300), lengths)[:, None]
