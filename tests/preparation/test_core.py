"""Every step against the plainest way to say it."""

import collections
import contextlib
import pathlib
import tempfile

import duckdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from uatmc_jax.errors import InputError
from uatmc_jax.preparation import kept
from uatmc_jax.preparation.core import (
    split,
    split_by_global_time,
    split_by_user_time,
    time_places,
)
from uatmc_jax.preparation.lines import Tally
from uatmc_jax.preparation.stage import (
    Event,
    Has,
    add,
    first_of_pairs,
    k_core,
    open_stage,
    settle,
)

PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 2)), max_size=60)
HAS = Has(times=False, ratings=False, labels=False)
# Each example opens the engine.
FEW = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@contextlib.contextmanager
def staged(rows, timed=True):
    """A stage with rows of (user, item, time), their ids settled."""
    with tempfile.TemporaryDirectory() as folder:
        has = Has(times=timed, ratings=False, labels=False)
        with open_stage(pathlib.Path(folder), has) as stage:
            events = (Event(f"u{user}", f"i{item}", float(t), None) for user, item, t in rows)
            add(stage, enumerate(events, start=1))
            tally = Tally("rows", records=len(rows))
            assert settle(stage, tally, 0).read == len(rows)
            yield stage


def numbers(stage):
    return [n for (n,) in stage.db.execute("select n from pairs order by n").fetchall()]


@FEW
@given(PAIRS, st.booleans())
def test_the_first_row_of_each_pair_stays(rows, timed):
    seen, triples, expected, repeated = set(), set(), [], 0
    for number, (user, item, time) in enumerate(rows, start=1):
        expected += [number] * ((user, item) not in seen)
        repeated += (user, item, time) in triples
        seen.add((user, item))
        triples.add((user, item, time))
    with staged(rows, timed) as stage:
        counts = first_of_pairs(stage)
        assert numbers(stage) == expected
    assert counts == (len(rows), repeated if timed else 0, len(expected))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(kept, "_BLOCK_ROWS", 3)


@FEW
@given(PAIRS, st.integers(0, 5))
def test_the_core_is_what_repeated_counting_leaves(rows, k):
    pairs = list(dict.fromkeys((user, item) for user, item, _ in rows))
    rows = [(user, item, 0) for user, item in pairs]
    left = list(enumerate(rows, start=1))
    sweeps = 0
    while True:
        users = collections.Counter(user for _, (user, _, _) in left)
        items = collections.Counter(item for _, (_, item, _) in left)
        stay = [(n, row) for n, row in left if users[row[0]] >= k and items[row[1]] >= k]
        if len(stay) == len(left):
            break
        left, sweeps = stay, sweeps + 1
    with staged(rows) as stage:
        first_of_pairs(stage)
        assert k_core(stage, k) == sweeps
        assert numbers(stage) == [n for n, _ in left]
        if left:
            kept.number(stage)
            ids = [list(kept.names(stage, what)) for what in ("items", "users")]
            found = [block for block in kept.blocks(stage, "random", 7)]
            check_blocks(found, *ids, left)


def check_blocks(found, items, users, left):
    """Numbers are by first appearance, rows by user and then as they came, keys in their order."""
    for names, place, letter in ((users, 0, "u"), (items, 1, "i")):
        assert names == list(dict.fromkeys(f"{letter}{row[place]}" for _, row in left))
    rows = [(users.index(f"u{user}"), items.index(f"i{item}")) for _, (user, item, _) in left]
    columns = [np.concatenate([getattr(b, name) for b in found]) for name in ("users", "items")]
    order = sorted(range(len(rows)), key=lambda n: rows[n][0])
    assert list(zip(*map(np.ndarray.tolist, columns), strict=True)) == [rows[n] for n in order]
    keys = np.random.default_rng(7).random(len(rows))
    labels = split(np.array([user for user, _ in rows]), keys)
    assert np.concatenate([b.labels for b in found]).tolist() == labels[order].tolist()


@pytest.mark.parametrize("kind", [duckdb.IOException, duckdb.OutOfMemoryException])
def test_a_full_disk_is_one_error(tmp_path, kind):
    with pytest.raises(InputError, match=r"no room to sort .*Make room"), open_stage(tmp_path, HAS):
        raise kind("could not write: No space left on device\nmore of it")


def drawn(users, seed):
    return split(users, np.random.default_rng(seed).random(len(users)))


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
    users = np.unique(users, return_inverse=True)[1]
    labels = drawn(users, seed)
    for user in range(users.max() + 1):
        valid, test = held_out((users == user).sum())
        assert np.bincount(labels[users == user], minlength=3)[1:].tolist() == [valid, test]
    np.testing.assert_array_equal(labels, drawn(users, seed))


@pytest.mark.parametrize(("n", "valid", "test"), [(9, 1, 1), (10, 1, 1), (15, 2, 1), (20, 2, 2)])
def test_shares_seen_in_the_published_split(n, valid, test):
    labels = drawn(np.zeros(n, np.int32), 0)
    assert ((labels == 1).sum(), (labels == 2).sum()) == (valid, test)


def test_the_seed_decides_who_is_held_out_and_each_row_is_as_likely():
    users = np.repeat(np.arange(4000, dtype=np.int32), 5)
    first, second = drawn(users, 1), drawn(users, 2)
    assert (first != second).any()
    for label in (1, 2):
        shares = (first.reshape(-1, 5) == label).mean(axis=0)
        # Five standard deviations of a share of 1/5 among 4,000 users.
        np.testing.assert_allclose(shares, 0.2, atol=5 * (0.16 / 4000) ** 0.5)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=80))
def test_the_latest_of_each_user_are_held_out(rows):
    users, times = np.array(rows).T
    users, times = np.unique(users, return_inverse=True)[1], times.astype(np.float64)
    labels = split_by_user_time(users, times)
    for user in range(users.max() + 1):
        mine = sorted(np.flatnonzero(users == user), key=lambda row: (times[row], row))
        valid, test = held_out(len(mine))
        expected = [0] * (len(mine) - valid - test) + [1] * valid + [2] * test
        assert labels[mine].tolist() == expected


@given(st.lists(st.integers(0, 50), min_size=1, max_size=80))
def test_the_latest_of_all_are_held_out(times):
    times = np.array(times, np.float64)
    limits = (np.sort(times)[place] for place in time_places(len(times)))
    labels = split_by_global_time(times, *limits)
    for earlier, later in ((0, 1), (1, 2), (0, 2)):
        if (labels == earlier).any() and (labels == later).any():
            assert times[labels == earlier].max() < times[labels == later].min()
    assert (labels == 2).sum() >= max(len(times) // 10, 1)
