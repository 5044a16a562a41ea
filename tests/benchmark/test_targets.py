"""Who is attacked, and for whom."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.attacks.cases import DATASET
from uatmc_jax.benchmark.targets import by_number, choose_targets, choose_users
from uatmc_jax.data import ItemNames
from uatmc_jax.errors import InputError
from uatmc_jax.settings import TargetSettings

COUNT = int(np.bincount(DATASET.item_counts).argmax())


def rule(**changes):
    chosen = {"rule": "count", "count": COUNT, "quantiles": (0.0, 0.5), "ids": (), "sample": 0}
    return TargetSettings(**(chosen | changes))


@given(st.integers(0, 1000), st.integers(1, 3))
def test_targets_have_the_count_are_distinct_and_seeded(seed, sample):
    drawn = choose_targets(rule(sample=sample), DATASET, seed)
    assert len(set(drawn.tolist())) == sample and np.all(np.diff(drawn) > 0)
    assert np.all(DATASET.item_counts[drawn] == COUNT)
    np.testing.assert_array_equal(drawn, choose_targets(rule(sample=sample), DATASET, seed))


def test_all_candidates_and_quantiles():
    every = choose_targets(rule(), DATASET, 0)
    np.testing.assert_array_equal(every, np.flatnonzero(DATASET.item_counts == COUNT))
    low = choose_targets(rule(rule="quantile", quantiles=(0.0, 0.3)), DATASET, 0)
    high = choose_targets(rule(rule="quantile", quantiles=(0.9, 1.0)), DATASET, 0)
    assert DATASET.item_counts[low].max() <= np.quantile(DATASET.item_counts, 0.3)
    assert DATASET.item_counts[high].min() >= np.quantile(DATASET.item_counts, 0.9)


NAMED = dataclasses.replace(DATASET, names=ItemNames({7: "B00X", 9: "12", 99: "B00Z"}, {3: "Mug"}))


def named(*ids, **changes):
    return rule(rule="ids", ids=ids, **changes)


def test_named_targets_are_ascending_and_all_taken():
    chosen = named("#20", "B00X", "mug", "12", sample=100)
    np.testing.assert_array_equal(choose_targets(chosen, NAMED, 0), [3, 7, 9, 20])


def test_targets_by_number_are_the_same_however_they_were_called():
    by_names = by_number(named("Mug,B00X"), NAMED)
    assert by_names.ids == ("#3", "#7") == by_number(named("#7", "#3"), NAMED).ids
    np.testing.assert_array_equal(choose_targets(by_names, NAMED, 0), [3, 7])
    moved = dataclasses.replace(NAMED, names=ItemNames({8: "B00X"}, {3: "Mug"}))
    assert by_number(named("Mug,B00X"), moved).ids == ("#3", "#8")
    drawn = rule(sample=2)
    assert by_number(drawn, NAMED) is drawn


REFUSED = {
    "unknown name": (named("B00Y"), r"^config\.targets\.ids \(--items\): item 'B00Y': no item has"),
    "name of no item": (named("B00Z"), "says item 99, but the items are #0 to #49"),
    "twice": (named("#7", "B00X"), "'B00X': is item #7, which '#7' names already"),
    "names not read": (rule(ids=("B00X",)), "config.targets.rule = 'count' does not read them"),
    "empty pool": (rule(count=10_000), "has 0 items with exactly 10000 interactions"),
    "empty pool, all": (rule(count=10_000, sample=0), "has 0 items"),
    "small pool": (rule(sample=49), "config.targets.sample = 49"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_targets_refused(name):
    chosen, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        choose_targets(chosen, NAMED, 0)


def test_users_are_a_share_of_the_trained_ones():
    everyone = choose_users(DATASET, 1.0, 0)
    np.testing.assert_array_equal(everyone, np.unique(DATASET.train.users))
    some = choose_users(DATASET, 0.4, 0)
    assert len(some) == round(0.4 * len(everyone)) and set(some) <= set(everyone)
    np.testing.assert_array_equal(some, choose_users(DATASET, 0.4, 0))
    assert not np.array_equal(some, choose_users(DATASET, 0.4, 1))
    assert len(choose_users(DATASET, 1e-9, 0)) == 1
    idle = dataclasses.replace(DATASET, train=DATASET.train.keep(DATASET.train.users > 3))
    assert choose_users(idle, 1.0, 0).min() == 4
