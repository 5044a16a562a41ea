"""Pixels without torch: rounding, balls, what is kept, and the two measures of a picture."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uatmc_jax import ascent
from uatmc_jax.edits import pixels
from uatmc_jax.edits.pixels import (
    SEARCHES,
    Ball,
    Seen,
    apgd,
    climb,
    distance,
    project,
    psnr,
    rank,
    ssim,
    to_8_bits,
)

BALLS = st.tuples(st.sampled_from(["linf", "l2"]), st.floats(1, 40)).map(lambda x: Ball(*x))


def drawn(seed, side=9):
    return np.random.default_rng(seed).integers(0, 256, (side, side + 2, 3), dtype=np.uint8)


@settings(deadline=None)
@given(st.integers(0, 99), BALLS, st.floats(0, 300))
def test_what_is_shown_is_whole_and_inside_the_ball(seed, ball, size):
    original = drawn(seed)
    moved = original + np.random.default_rng(seed + 1).normal(0, size, original.shape)
    shown = to_8_bits(project(moved, original, ball), original, ball)
    assert shown.dtype == np.uint8
    assert distance(shown, original, ball.norm) <= ball.radius * (1 + 1e-5)
    np.testing.assert_array_equal(to_8_bits(shown.astype(np.float32), original, ball), shown)


def linear(weights, original):
    """A recommender that likes pictures in a direction, in steps of the hit rate."""

    def look(picture):
        value = float(np.sum(weights * (picture.astype(float) - original)))
        return Seen(math.floor(value / 50) / 100, value, weights)

    return look


def search(name, original, start, ball, steps, look):
    """One search alone."""
    searches = [SEARCHES[name](original, start, ball, steps)]
    return climb(searches, steps, lambda pictures, along: [look(picture) for picture in pictures])[
        0
    ]


@pytest.mark.parametrize("name", SEARCHES)
def test_on_a_linear_value_the_corner_of_the_ball_is_found(name):
    original = np.clip(drawn(3), 20, 235)
    weights = np.random.default_rng(5).normal(size=original.shape)
    look = linear(weights, original)
    found = search(name, original, original, Ball("linf", 4.0), 20, look)
    np.testing.assert_array_equal(found.picture, original + 4 * np.sign(weights))


@pytest.mark.parametrize("name", SEARCHES)
def test_on_a_linear_value_l2_comes_near_its_bound(name):
    original = np.full((12, 12, 3), 128, np.uint8)
    weights = np.random.default_rng(5).normal(size=original.shape)
    found = search(name, original, original, Ball("l2", 8.0), 20, linear(weights, original))
    bound = 8.0 * math.sqrt(original.size) * np.linalg.norm(weights)
    assert 0.98 * bound < found.seen.value <= bound * (1 + 1e-6)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 99), st.sampled_from(["linf", "l2"]), st.sampled_from(sorted(SEARCHES)))
def test_a_larger_ball_begun_at_the_smaller_ones_best_is_never_worse(seed, norm, name):
    original = drawn(seed, 5)
    rng = np.random.default_rng(seed)

    def look(picture):  # nothing smooth: what is kept must not rest on the search
        value = float(np.sin(picture.astype(float)).sum())
        return Seen(round(value) / 100, value, rng.normal(size=picture.shape))

    at, worth = original, look(original)
    for radius in (1.0, 2.0, 4.0):
        found = search(name, original, at, Ball(norm, radius), 3, look)
        assert rank(found.seen) >= rank(worth)
        assert distance(found.picture, original, norm) <= radius * (1 + 1e-5)
        at, worth = found


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_apgd_is_that_of_the_features_where_nothing_is_rounded(norm, monkeypatch):
    monkeypatch.setattr(pixels, "to_8_bits", lambda picture, original, ball: picture)
    original, rng = np.full((4, 5, 3), 128, np.uint8), np.random.default_rng(0)
    ball, steps, centre = Ball(norm, 9.0), 22, rng.normal(0, 6, (60,)).astype(np.float32)
    scale = rng.uniform(0.1, 3, 60).astype(np.float32)
    values = []

    def objective(x):
        return -(scale * (x - centre) ** 2).sum(), -2 * scale * (x - centre)

    def look(picture):
        value, slope = objective(picture.reshape(-1) - 128)
        values.append(float(value))
        return Seen(0.0, float(value), slope.reshape(4, 5, 3))

    searches = [apgd(original, original, ball, steps)]
    climb(searches, steps, lambda pictures, along: [look(pictures[0])])
    radius = np.float32(9.0 if norm == "linf" else 9.0 * math.sqrt(60))
    found = ascent.apgd(
        lambda x: (objective(x[0][0])[0], (objective(x[0][0])[1][None],)),
        (np.zeros((1, 60), np.float32),), (np.full((1,), radius),), steps=steps, norm=norm,
    )  # fmt: skip
    np.testing.assert_allclose(values, np.asarray(found[2]), rtol=2e-4, atol=1e-2)


def test_searches_side_by_side_are_those_alone():
    pictures = [np.clip(drawn(n), 20, 235) for n in (1, 2)]
    weights = [np.random.default_rng(n).normal(size=pictures[0].shape) for n in (5, 6)]
    looks = [linear(w, p) for w, p in zip(weights, pictures, strict=True)]
    alone = [
        search("pgd", picture, picture, Ball("l2", 5.0), 4, look)
        for picture, look in zip(pictures, looks, strict=True)
    ]
    seen_along = []

    def together(shown, along):
        seen_along.append(along)
        return [look(picture) for look, picture in zip(looks, shown, strict=True)]

    searches = [SEARCHES["pgd"](picture, picture, Ball("l2", 5.0), 4) for picture in pictures]
    for one, other in zip(climb(searches, 4, together), alone, strict=True):
        np.testing.assert_array_equal(one.picture, other.picture)
    assert seen_along == [0.0, 0.25, 0.5, 0.75, 1.0]


def windows(picture, original):
    """SSIM by loops."""
    found = []
    rows, columns, colours = original.shape
    for c in range(colours):
        for i in range(rows - 7):
            for j in range(columns - 7):
                a = picture[i : i + 8, j : j + 8, c].astype(float)
                b = original[i : i + 8, j : j + 8, c].astype(float)
                covariance = np.mean((a - a.mean()) * (b - b.mean()))
                c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
                above = (2 * a.mean() * b.mean() + c1) * (2 * covariance + c2)
                below = (a.mean() ** 2 + b.mean() ** 2 + c1) * (a.var() + b.var() + c2)
                found.append(above / below)
    return np.mean(found)


def test_ssim_is_the_mean_over_windows():
    original, other = drawn(1, 12), drawn(2, 12)
    near = np.clip(original + 6.0 * np.sign(other - 128.0), 0, 255)
    for picture in (other, near, original):
        assert ssim(picture, original) == pytest.approx(windows(picture, original), abs=1e-9)
    assert ssim(original, original) == pytest.approx(1.0)
    assert ssim(other[:3, :3], other[:3, :3]) == pytest.approx(1.0)


def test_psnr_is_the_formula():
    original = np.full((4, 4, 3), 100, np.uint8)
    assert psnr(original + 4, original) == pytest.approx(20 * math.log10(255 / 4))
    assert psnr(original, original) == math.inf
