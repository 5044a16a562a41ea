"""Edits of a picture: projected steps on its pixels, whole numbers from 0 to 255 throughout.

What is looked at is always the picture as it would be saved: rounded to 8 bits and inside
the ball. Radii are in units of one of the 255 steps of a pixel: linf of k moves no number by
more than k, l2 of k leaves a root mean square of the moves of at most k.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

_LONGEST_STEP, _SHORTEST_STEP = 0.6, 0.05
_WINDOW, _K1, _K2 = 8, 0.01, 0.03


class Ball(NamedTuple):
    """Where an edited picture may be.

    Attributes:
      norm: "linf" or "l2".
      radius: in steps of 1/255.
    """

    norm: str
    radius: float


class Seen(NamedTuple):
    """What the recommender makes of one picture.

    Attributes:
      hr: share of the users who see the item.
      value: Phi, which decides between equal hit rates.
      slope: of Phi by pixel, (H, W, 3); None where it was not asked for.
    """

    hr: float
    value: float
    slope: np.ndarray | None = None


class FoundPicture(NamedTuple):
    """The best picture of a search.

    Attributes:
      picture: (H, W, 3) uint8.
      seen: what it is worth.
    """

    picture: np.ndarray
    seen: Seen


def climb(
    original: np.ndarray,
    start: np.ndarray,
    ball: Ball,
    steps: int,
    look: Callable[[np.ndarray], Seen],
) -> FoundPicture:
    """Ascends Phi inside the ball and keeps the best picture by hit rate, then by Phi.

    The steps shrink from 0.6 of the radius to 0.05, so that early ones outlast the rounding.
    `start` is looked at as it is: where it lies in the ball, nothing worse is found.

    Args:
      original: (H, W, 3) uint8.
      start: (H, W, 3) uint8, where to begin: the original, or the best of a smaller ball.
      ball: around the original.
      steps: number of steps; looks are one more.
      look: what a (H, W, 3) uint8 picture is worth, with its slope.
    """
    at, best = start.astype(np.float32), None
    for n in range(steps + 1):
        shown = to_8_bits(at, original, ball)
        seen = look(shown)
        if best is None or rank(seen) > rank(best.seen):
            best = FoundPicture(shown, seen)
        if n < steps:
            moved = at + _step(n, steps) * _direction(seen.slope, ball)  # type: ignore[arg-type]
            at = project(moved, original, ball)
    return best  # type: ignore[return-value]


def rank(seen: Seen) -> tuple[float, float]:
    """What decides between two edits: the hit rate, then Phi."""
    return seen.hr, seen.value


def _step(n: int, steps: int) -> float:
    along = 0.5 * (1 + math.cos(math.pi * n / steps))
    return _SHORTEST_STEP + (_LONGEST_STEP - _SHORTEST_STEP) * along


def _direction(slope: np.ndarray, ball: Ball) -> np.ndarray:
    """A step of the radius's length."""
    if ball.norm == "linf":
        return ball.radius * np.sign(slope)
    return _l2_radius(slope, ball) * slope / max(float(np.linalg.norm(slope)), 1e-30)


def _l2_radius(picture: np.ndarray, ball: Ball) -> float:
    return ball.radius * math.sqrt(picture.size)


def project(moved: np.ndarray, original: np.ndarray, ball: Ball) -> np.ndarray:
    """The nearest picture of numbers from 0 to 255 that keeps to the ball, to first order.

    Args:
      moved: (H, W, 3) float.
      original: (H, W, 3) uint8.
      ball: around the original.
    """
    base = original.astype(np.float32)
    if ball.norm == "linf":
        kept = np.clip(moved, base - ball.radius, base + ball.radius)
    else:
        delta, longest = moved - base, _l2_radius(moved, ball)
        kept = base + delta * min(1.0, longest / max(float(np.linalg.norm(delta)), 1e-30))
    return np.clip(kept, 0, 255).astype(np.float32)


def to_8_bits(picture: np.ndarray, original: np.ndarray, ball: Ball) -> np.ndarray:
    """(H, W, 3) uint8 inside the ball, rounded; a whole-numbered picture in the ball is kept.

    Rounding can leave an l2 ball; the moves are shortened until it does not.
    """
    base = original.astype(np.float32)
    if ball.norm == "linf":
        radius = math.floor(ball.radius)
        near = np.clip(np.rint(picture), base - radius, base + radius)
        return np.clip(near, 0, 255).astype(np.uint8)
    delta, longest = picture - base, _l2_radius(base, ball) * (1 + 1e-6)
    for _ in range(300):
        shown = np.clip(np.rint(base + delta), 0, 255)
        if np.linalg.norm(shown - base) <= longest:
            return shown.astype(np.uint8)
        delta = 0.99 * delta
    return original.copy()


def distance(edited: np.ndarray, original: np.ndarray, norm: str) -> float:
    """How far an edited picture is, in the unit of `Ball.radius`."""
    delta = edited.astype(np.float64) - original
    return float(np.abs(delta).max() if norm == "linf" else np.sqrt(np.mean(delta**2)))


def psnr(edited: np.ndarray, original: np.ndarray) -> float:
    """Peak signal to noise ratio, 20 log10(255 / rms), in dB; infinite for the same picture."""
    rms = distance(edited, original, "l2")
    return math.inf if rms == 0 else 20 * math.log10(255 / rms)


def ssim(edited: np.ndarray, original: np.ndarray) -> float:
    """Mean structural similarity (Wang et al., 2004) over 8 x 8 windows and the three colours.

    Uniform windows, every place; a picture smaller than a window is one window.

    Args:
      edited: (H, W, 3), 0 to 255.
      original: (H, W, 3).
    """
    a, b = edited.astype(np.float64), original.astype(np.float64)
    size = min(_WINDOW, *a.shape[:2])

    def mean(x: np.ndarray) -> np.ndarray:
        total = np.zeros((x.shape[0] + 1, x.shape[1] + 1, x.shape[2]))
        total[1:, 1:] = x.cumsum(axis=0).cumsum(axis=1)
        rows = total[size:] - total[:-size]
        return (rows[:, size:] - rows[:, :-size]) / size**2

    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    both = mean(a * b) - mean_a * mean_b
    c1, c2 = (_K1 * 255) ** 2, (_K2 * 255) ** 2
    alike = (2 * mean_a * mean_b + c1) * (2 * both + c2)
    return float(np.mean(alike / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))))
