"""Every step against the plainest way to say it."""

import collections

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uatmc_jax.preparation.core import Rows, first_of_pairs, k_core, renumber, split, take

PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 2)), max_size=60)


def columns(rows):
    users, items, times = np.array(rows, np.int32).reshape(-1, 3).T
    return Rows(users, items, times.astype(np.float64))


@given(PAIRS, st.booleans())
def test_the_first_row_of_each_pair_stays(rows, timed):
    seen, triples, expected, repeated = set(), set(), [], 0
    for user, item, time in rows:
        expected.append((user, item) not in seen)
        repeated += (user, item, time) in triples
        seen.add((user, item))
        triples.add((user, item, time))
    data = columns(rows)
    keep, n_repeated = first_of_pairs(data if timed else data._replace(times=None))
    assert keep.tolist() == expected
    assert n_repeated == (repeated if timed else 0)


@given(PAIRS, st.integers(0, 5))
def test_the_core_is_what_repeated_counting_leaves(rows, k):
    left = list(enumerate(rows))
    sweeps = 0
    while True:
        users = collections.Counter(user for _, (user, _, _) in left)
        items = collections.Counter(item for _, (_, item, _) in left)
        stay = [(n, row) for n, row in left if users[row[0]] >= k and items[row[1]] >= k]
        if len(stay) == len(left):
            break
        left, sweeps = stay, sweeps + 1
    data = columns(rows)
    mask, n_sweeps = k_core(data.users, data.items, k)
    assert np.flatnonzero(mask).tolist() == [n for n, _ in left]
    assert n_sweeps == sweeps


@given(st.lists(st.integers(0, 1000)))
def test_ids_are_numbered_by_first_appearance(ids):
    order = list(dict.fromkeys(ids))
    new, old = renumber(np.array(ids, np.int64))
    assert new.tolist() == [order.index(i) for i in ids]
    assert old.tolist() == order


def held_out(n):
    """(validation, test) of a user with n interactions, from the recipe's words."""
    if n < 3:
        return 0, 0
    if n < 10:
        return 1, 1
    held = n // 5
    return held - held // 2, held // 2


@given(st.lists(st.integers(0, 5), min_size=1, max_size=120), st.integers(0, 2**32))
def test_every_user_is_split_by_the_rule(users, seed):
    users = renumber(np.array(users))[0]
    labels = split(users, seed)
    for user in range(users.max() + 1):
        valid, test = held_out((users == user).sum())
        assert np.bincount(labels[users == user], minlength=3)[1:].tolist() == [valid, test]
    np.testing.assert_array_equal(labels, split(users, seed))


@pytest.mark.parametrize(("n", "valid", "test"), [(9, 1, 1), (10, 1, 1), (15, 2, 1), (20, 2, 2)])
def test_shares_seen_in_the_published_split(n, valid, test):
    labels = split(np.zeros(n, np.int32), 0)
    assert ((labels == 1).sum(), (labels == 2).sum()) == (valid, test)


def test_the_seed_decides_who_is_held_out_and_each_row_is_as_likely():
    users = np.repeat(np.arange(4000, dtype=np.int32), 5)
    first, second = split(users, 1), split(users, 2)
    assert (first != second).any()
    for label in (1, 2):
        shares = (first.reshape(-1, 5) == label).mean(axis=0)
        # Five standard deviations of a share of 1/5 among 4,000 users.
        np.testing.assert_allclose(shares, 0.2, atol=5 * (0.16 / 4000) ** 0.5)


def test_take_keeps_columns_together_and_absent_ones_absent():
    rows = Rows(np.array([1, 2, 3]), np.array([4, 5, 6]), None, np.array([7.0, 8.0, 9.0]))
    taken = take(rows, np.array([2, 0]))
    assert taken.users.tolist() == [3, 1] and taken.ratings.tolist() == [9.0, 7.0]
    assert taken.times is None and taken.labels is None
