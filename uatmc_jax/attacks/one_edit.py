"""How many users one edit can reach at most, the same edit for all of them.

User u sees the target where gap_u + <g_u, delta> >= 0, in a model affine in content: her
score of it less her bar, and her slope. delta is one for all, in the unit ball of each of
some groups of coordinates (in linf each coordinate is a group, in l2 each modality). The
*per-user* bound counts everyone whom some delta reaches. Here delta is shared:

1. Each user's step 1[y >= 0] of y = gap_u + <g_u, delta> in [lo_u, hi_u] is at most any of

       1,   (y - lo_u) / -lo_u,   ((y + t) / t)^2 for any t > 0,

   the concave envelope among them. A choice for each user makes a quadratic f(delta) above
   the number of users reached.
2. The maximum of a quadratic over the ball is bounded by Lagrangian duality (Shor): with
   f(delta) = c + [1; delta]' H [1; delta], and for any d_0 and d_i >= 0 of the groups,

       f <= c + d_0 + sum_i d_i + (1 + groups) max(0, lambda_max(H - diag(d))).

   *Any* choice of t, d is a certificate; nothing needs to have converged.
3. Good ones come from the problem's other side: moments E[delta], E[delta delta'] of an edit
   drawn at random, held as R R' with few columns (Burer and Monteiro). Then the best t is
   Cantelli's, and ascent on R is a few products with the users' slopes.
4. *Branching*: the ball is cut in two by <v, delta> <= or >= b along the leading directions v
   of the slopes, where the moments spread most. On a part a <= <v, delta> <= b users have
   closer lo and hi (one multiplier: <g, delta> = <g - m v, delta> + m <v, delta>), many can no
   longer be reached, and ((b - a) / 2)^2 - (<v, delta> - (a + b) / 2)^2 >= 0 joins the
   quadratic with a multiplier eta >= 0. The largest bound of the parts is a bound, after any
   number of cuts.

Moments are sought in float32; whatever they are, what is certified with them is computed in
float64 on the host, so that it does not depend on rounding.
"""

from typing import NamedTuple

import numpy as np

from uatmc_jax.attacks.moments import Cut, Slab, bound_part, dual_norm, least, normalized

_DIRECTIONS, _BASIS = 8, 32
_RANK = 12
_ROUNDING = 1e-12
# Users so near to be reached for sure, as a share of their scores, are counted so.
_SURE = 1e-9


class Reachable(NamedTuple):
    """The users whom one edit may reach, and the ball.

    Attributes:
      gap: (n,) score less bar, clean; rounding allowed for.
      slopes: (n, D) of the score, scaled to the unit ball.
      starts: (groups,) where each group of coordinates starts, in each of which the edit's
        2-norm is at most 1: every coordinate for linf.
    """

    gap: np.ndarray
    slopes: np.ndarray
    starts: np.ndarray


class _Part(NamedTuple):
    """A part of the ball.

    Attributes:
      bound: of the users reached in it.
      low: (J,) least <v, delta>.
      high: (J,).
      moments: (D, rank) R.
      eta: (J,) multipliers of the cuts.
      spread: (J,) how much a cut along each direction promises.
      mean: (J,) where the moments have their mean.
    """

    bound: float
    low: np.ndarray
    high: np.ndarray
    moments: np.ndarray
    eta: np.ndarray
    spread: np.ndarray
    mean: np.ndarray


def most_users(problem: Reachable, branches: int = 16) -> int:
    """An upper bound of how many of the users one edit reaches.

    Args:
      problem: the users and the ball.
      branches: parts the ball is cut into; more are tighter and take longer.

    Returns:
      A number that no edit exceeds, and not more than `per_user` gives.
    """
    reach = dual_norm(problem.slopes, problem.starts)
    size = np.abs(problem.gap) + reach
    gap = problem.gap + _ROUNDING * size
    sure = gap - reach >= -_SURE * size
    open_ = (gap + reach >= 0) & ~sure
    if not open_.any():
        return int(sure.sum())
    # Whether she is reached does not change with the unit that her scores are in.
    scaled = gap[open_] / reach[open_], problem.slopes[open_] / reach[open_][:, None]
    cut = _cut(Reachable(*scaled, problem.starts))
    ends = _ends(cut)
    rng = np.random.default_rng(0)
    start = normalized(rng.normal(size=(cut.slopes.shape[1], _RANK)), cut.starts)
    whole = _part(cut, -ends, ends, start, np.zeros(len(ends)))
    parts = [whole]
    while len(parts) < branches:
        worst = max(range(len(parts)), key=lambda n: parts[n].bound)
        parent = parts[worst]
        if parent.bound < 1 or not parent.spread.any():
            break
        parts[worst : worst + 1] = _halves(cut, parent, rng)
    return int(sure.sum()) + int(np.floor(max(part.bound for part in parts)))


def per_user(problem: Reachable) -> int:
    """How many of the users some edit reaches, each an edit of her own."""
    return int((problem.gap + dual_norm(problem.slopes, problem.starts) >= 0).sum())


def _halves(cut: Cut, parent: _Part, rng: np.random.Generator) -> list[_Part]:
    """A part in two, along the direction in which its moments matter most."""
    j = int(parent.spread.argmax())
    width = parent.high[j] - parent.low[j]
    middle = np.clip(parent.mean[j], parent.low[j] + 0.2 * width, parent.high[j] - 0.2 * width)
    halves = []
    for end in ("high", "low"):
        ends = {"low": parent.low.copy(), "high": parent.high.copy()}
        ends[end][j] = middle
        # Moments of both halves may have collapsed onto one.
        noise = 0.1 * rng.normal(size=parent.moments.shape)
        start = normalized(parent.moments + noise, cut.starts)
        half = _part(cut, ends["low"], ends["high"], start, parent.eta)
        halves.append(half._replace(bound=min(half.bound, parent.bound)))
    return halves


def _cut(problem: Reachable) -> Cut:
    gap, slopes = problem.gap, problem.slopes
    lowest = gap - dual_norm(slopes, problem.starts)
    _, vectors = np.linalg.eigh((slopes / lowest[:, None]).T @ (slopes / lowest[:, None]))
    basis = vectors[:, ::-1][:, :_BASIS]
    along = slopes @ basis
    count = min(_DIRECTIONS, basis.shape[1])
    shares = [np.zeros(count)]
    for share in (1.0, 0.5):
        shares += [share * row for row in (*np.eye(count), *np.tri(count)[1:])]
    multipliers = np.stack(shares)
    rest = np.stack(
        [
            dual_norm(slopes - (along[:, :count] * row) @ basis[:, :count].T, problem.starts)
            for row in multipliers
        ],
        axis=1,
    )
    return Cut(gap, slopes, problem.starts, basis, along, multipliers, rest)


def _ends(cut: Cut) -> np.ndarray:
    """(J,) the most that <v, delta> can be, of each direction that is cut along."""
    return dual_norm(cut.basis.T[: cut.multipliers.shape[1]], cut.starts)


def _part(
    cut: Cut, low: np.ndarray, high: np.ndarray, moments: np.ndarray, eta: np.ndarray
) -> _Part:
    """Bounds a part of the ball from given moments on."""
    lowest, highest = _ranges(cut, low, high)
    sure = lowest >= -_SURE
    open_ = (highest >= 0) & ~sure
    nothing = np.zeros(len(low))
    if not open_.any():
        return _Part(float(sure.sum()), low, high, moments, eta, nothing, nothing)
    here = cut._replace(gap=cut.gap[open_], slopes=cut.slopes[open_], along=cut.along[open_])
    lowest = lowest[open_]
    ends, count = _ends(cut), len(low)
    tight = (low > -ends) | (high < ends)
    slab = Slab(low, high, tight, ends)
    bound, moments, eta = bound_part(here, lowest, slab, moments, eta)
    reached = least(here, lowest, moments)[0]
    centres = cut.basis.T[:count] @ moments
    deviation = np.sqrt(np.maximum((centres[:, 1:] ** 2).sum(axis=1), 0.0))
    weight = reached / -lowest
    spread = (weight[:, None] * np.abs(here.along[:, :count])).sum(axis=0) * deviation
    return _Part(bound + sure.sum(), low, high, moments, eta, spread, centres[:, 0])


def _ranges(cut: Cut, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(m,) least and most of gap + <g, delta> on a part, each by the best multiplier tried."""
    along = cut.along[:, : len(low)]
    ends = along * low, along * high
    least, most = (
        extreme(*ends) @ cut.multipliers.T  # no multiplier is negative
        for extreme in (np.minimum, np.maximum)
    )
    return cut.gap + (least - cut.rest).max(axis=1), cut.gap + (most + cut.rest).min(axis=1)
