"""Edits of a picture: projected steps on its pixels, whole numbers from 0 to 255 throughout.

What is looked at is always the picture as it would be saved: rounded to 8 bits and inside
the ball. Radii are in units of one of the 255 steps of a pixel: linf of k moves no number by
more than k, l2 of k leaves a root mean square of the moves of at most k.
"""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from uatmc_jax.ascent.auto import checkpoints

_LONGEST_STEP, _SHORTEST_STEP = 0.6, 0.05
_MOMENTUM = 0.9
# As published: the share of a step in an iterate, and of steps that have to raise Phi.
_STEP_SHARE, _RAISED = 0.75, 0.75
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
    slope: Any = None


class FoundPicture(NamedTuple):
    """The best picture of a search.

    Attributes:
      picture: (H, W, 3) uint8.
      seen: what it is worth.
    """

    picture: np.ndarray
    seen: Seen


# Yields pictures, is sent what each is worth.
Search = Generator[np.ndarray, Seen, None]
# (pictures, how far along the search is, from 0 to 1) -> what each is worth, with its slope
Look = Callable[[Sequence[np.ndarray], float], Sequence[Seen]]


def pgd(original: np.ndarray, start: np.ndarray, ball: Ball, steps: int) -> Search:
    """Projected ascent with momentum (MI-FGSM's, Dong et al., 2018), in ever shorter steps.

        v <- 0.9 v + slope / mean |slope|,    x <- project(x + step * radius * direction(v))

    The steps shrink from 0.6 of the radius to 0.05, so that early ones outlast the rounding.

    Args:
      original: (H, W, 3) uint8.
      start: (H, W, 3) uint8, where to begin: the original, or the best of a smaller ball.
      ball: around the original.
      steps: number of steps; pictures looked at are one more.
    """
    at, velocity = start.astype(np.float32), np.zeros(original.shape, np.float32)
    for n in range(steps):
        seen = yield to_8_bits(at, original, ball)
        velocity = _MOMENTUM * velocity + _unit(seen.slope)
        at = project(at + _step(n, steps) * _direction(velocity, ball), original, ball)
    yield to_8_bits(at, original, ball)


def apgd(original: np.ndarray, start: np.ndarray, ball: Ball, steps: int) -> Search:
    """Auto-PGD (Croce and Hein, ICML 2020), as `ascent.apgd` has it, on pictures as saved.

        y = project(x_k + eta r direction(slope))
        x_{k+1} = project(x_k + 0.75 (y - x_k) + 0.25 (x_k - x_{k-1}))

    eta is 2 at first; at `checkpoints` it is halved, and the search goes on from the best
    picture, where too few steps have raised Phi. Arguments as of `pgd`.
    """
    at = before = start.astype(np.float32)
    best, best_value, best_slope, best_then = at, -math.inf, None, -math.inf
    eta, raised, since, halved, left = 2.0, 0, 0, False, math.inf
    for n in range(steps):
        seen = yield to_8_bits(at, original, ball)
        raised, left, slope = raised + (seen.value > left), seen.value, seen.slope
        if seen.value > best_value:
            best, best_value, best_slope = at, seen.value, slope
        best_then = best_then if n else best_value
        if n in checkpoints(steps):
            halved = raised < _RAISED * since or (not halved and best_value == best_then)
            raised, since, best_then = 0, 0, best_value
            if halved:
                eta, at, slope, left = eta / 2, best, best_slope, best_value
        since += 1
        ahead = project(at + eta * _direction(slope, ball), original, ball)
        share = _STEP_SHARE if n else 1.0
        moved = at + share * (ahead - at) + (1 - share) * (at - before)
        at, before = project(moved, original, ball), at
    yield to_8_bits(at, original, ball)


SEARCHES: Mapping[str, Callable[..., Search]] = {"pgd": pgd, "apgd": apgd}


def climb(searches: Sequence[Search], steps: int, look: Look) -> list[FoundPicture]:
    """Runs searches of as many steps side by side; of each the best picture by `rank`.

    What a search begins at is looked at as it is: where that lies in the ball, nothing worse
    is found.

    Args:
      searches: of `steps` steps each.
      steps: of each.
      look: what pictures are worth; a search's are always at the same place.
    """
    shown = [next(search) for search in searches]
    best: list[FoundPicture | None] = [None] * len(searches)
    for n in range(steps + 1):
        seen = look(shown, n / max(steps, 1))
        for place, (picture, worth) in enumerate(zip(shown, seen, strict=True)):
            so_far = best[place]
            if so_far is None or rank(worth) > rank(so_far.seen):
                best[place] = FoundPicture(picture, worth)
        if n < steps:
            shown = [search.send(worth) for search, worth in zip(searches, seen, strict=True)]
    return best  # type: ignore[return-value]


def rank(seen: Seen) -> tuple[float, float]:
    """What decides between two edits: the hit rate, then Phi."""
    return seen.hr, seen.value


def _step(n: int, steps: int) -> float:
    along = 0.5 * (1 + math.cos(math.pi * n / steps))
    return _SHORTEST_STEP + (_LONGEST_STEP - _SHORTEST_STEP) * along


def _unit(slope: np.ndarray) -> np.ndarray:
    """Of mean absolute value 1, so that steps of any steepness are remembered alike."""
    return slope / max(float(np.abs(slope).mean()), 1e-30)


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
