"""What one edit can reach at most, against every edit of small balls, and against searches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uatmc_jax.attacks.one_edit import Reachable, most_users, per_user


def problem(seed, n=40, width=6, norm="linf", scale=1.0):
    """Users with slopes of a few directions, and gaps that some edit can close."""
    rng = np.random.default_rng(seed)
    slopes = rng.normal(size=(n, 3)) @ rng.normal(size=(3, width)) + 0.3 * rng.normal(
        size=(n, width)
    )
    starts = np.arange(width) if norm == "linf" else np.array([0, width // 2])
    reach = np.abs(slopes).sum(axis=1)
    gap = -rng.uniform(-0.1, 1.2, n) * reach
    return Reachable(scale * gap, scale * slopes, starts)


def reached(problem, edits):
    """The most users that any of the edits (E, D) reaches."""
    return int((problem.gap + edits @ problem.slopes.T >= 0).sum(axis=1).max())


def in_the_ball(problem, edits):
    groups = np.split(edits, problem.starts[1:], axis=1)
    return np.concatenate(
        [g / np.maximum(np.linalg.norm(g, axis=1, keepdims=True), 1.0) for g in groups], axis=1
    )


def search(problem, seed=0, restarts=64):
    """Edits found by ascent on a smoothed count, from many starts."""
    rng = np.random.default_rng(seed)
    edits = in_the_ball(problem, rng.normal(size=(restarts, problem.slopes.shape[1])))
    edits[0] = 0
    best = reached(problem, edits)
    size = np.abs(problem.slopes).sum(axis=1)
    for width in (0.5, 0.2, 0.1, 0.05):
        for _ in range(40):
            margins = (problem.gap + edits @ problem.slopes.T) / size / width
            weight = 1 / np.cosh(np.clip(margins, -20, 20)) ** 2
            gradient = (weight / size) @ problem.slopes
            length = np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-12)
            edits = in_the_ball(problem, edits + 0.3 * gradient / length)
            best = max(best, reached(problem, edits))
    return best


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 4, 16]))
def test_it_is_never_below_the_best_of_all_edits_on_a_line(seed, branches):
    """With one coordinate the best edit is where some user is just reached, or at an end."""
    one = problem(seed, n=25, width=1)
    with np.errstate(divide="ignore"):
        meets = -one.gap / one.slopes[:, 0]
    edits = np.clip(np.concatenate([meets, [-1.0, 0.0, 1.0]]), -1, 1)[:, None]
    edits = np.concatenate([edits, np.clip(edits * (1 + 1e-12), -1, 1)])
    assert reached(one, edits) <= most_users(one, branches) <= per_user(one)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 8]))
def test_it_is_never_below_the_best_of_all_edits_in_the_plane(seed, branches):
    """Where the best edits lie, the lines of two users cross, or one meets the ball's edge."""
    two = problem(seed, n=14, width=2)
    rows = np.concatenate([two.slopes, np.eye(2), np.eye(2)])
    ends = np.concatenate([-two.gap, [1.0, 1.0], [-1.0, -1.0]])
    first, second = np.triu_indices(len(rows), 1)
    pairs = np.stack([rows[first], rows[second]], axis=1)
    crossing = np.abs(np.linalg.det(pairs)) > 1e-9
    sides = np.stack([ends[first], ends[second]], axis=1)[crossing]
    edits = np.linalg.solve(pairs[crossing], sides[..., None])[..., 0]
    edits = edits[np.abs(edits).max(axis=1) <= 1 + 1e-9]
    # Rounding must not lose a user who is just reached there.
    near = problem(seed, n=14, width=2)._replace(gap=two.gap + 1e-9)
    exact = reached(near, np.clip(edits, -1, 1))
    assert exact <= most_users(near, branches) <= per_user(near)


@settings(max_examples=10, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from(["linf", "l2"]),
    st.sampled_from([1, 6]),
    st.sampled_from([1e-12, 1.0, 1e9]),
)
def test_no_search_exceeds_it_in_either_ball_at_any_scale(seed, norm, branches, scale):
    hard = problem(seed, n=60, width=12, norm=norm, scale=scale)
    assert search(hard) <= most_users(hard, branches) <= per_user(hard)


def test_it_is_much_tighter_than_an_edit_for_each():
    hard = problem(3, n=400, width=20)
    bounds = [most_users(hard, branches) for branches in (1, 8, 32)]
    assert bounds == sorted(bounds, reverse=True)
    found = search(hard)
    assert found <= bounds[-1] < bounds[0] < 0.75 * per_user(hard)
    assert bounds[-1] < 1.5 * found


def test_users_who_want_opposite_edits_are_not_both_counted():
    """Half want delta up, half down, all just within reach: one edit has one half."""
    slopes = np.repeat([[1.0], [-1.0]], 50, axis=0)
    opposed = Reachable(np.full(100, -0.9), slopes, np.array([0]))
    assert per_user(opposed) == 100
    assert most_users(opposed, 4) == 50


def test_users_who_agree_are_all_counted():
    agreed = Reachable(np.full(30, -0.9), np.ones((30, 3)) / 3, np.arange(3))
    assert most_users(agreed, 1) == most_users(agreed, 8) == 30


@pytest.mark.parametrize("gap", [-2.0, 2.0, 0.0])
def test_whoever_no_edit_moves_is_counted_as_she_is(gap):
    still = Reachable(np.full(5, gap), np.zeros((5, 4)), np.arange(4))
    assert most_users(still, 4) == (0 if gap < 0 else 5)
    none = Reachable(np.zeros(0), np.zeros((0, 4)), np.arange(4))
    assert most_users(none, 4) == 0
