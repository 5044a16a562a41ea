"""Who is attacked, and for whom."""

import dataclasses
import json

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


def pool(tmp_path, listed, **changes):
    file = tmp_path / "pool.json"
    file.write_text(listed if isinstance(listed, str) else json.dumps(listed))
    return rule(rule="pool", file=str(file), **changes)


def test_a_pool_is_drawn_from_by_number_or_by_name(tmp_path):
    listed = pool(tmp_path, [7, 3, 12, 20], sample=2)
    drawn = choose_targets(listed, NAMED, 5)
    assert len(drawn) == 2 and set(drawn) <= {3, 7, 12, 20}
    assert set(choose_targets(pool(tmp_path, ["mug", "B00X", 9]), NAMED, 0)) == {3, 7, 9}
    assert set(choose_targets(rule(rule="pool", ids=("Mug", "#4")), NAMED, 0)) == {3, 4}


def test_a_pool_is_what_its_file_lists_and_not_where_it_is(tmp_path):
    identity = by_number(pool(tmp_path, [20, 3], sample=1), NAMED)
    assert identity.ids == ("#3", "#20") and not identity.file
    again = dataclasses.replace(identity)
    listed = pool(tmp_path, [20, 3], sample=1)
    for seed in range(5):
        np.testing.assert_array_equal(
            choose_targets(again, NAMED, seed), choose_targets(listed, NAMED, seed)
        )


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ([1, 50], "pool.json'.*items are #0 to #49"),
        ('{"a": 1}', "pool.json'.*wanted a list"),
        ("[1, ", "pool.json'.*cannot be read as JSON"),
        ([1.5], "wanted a list of item numbers"),
        ([1, 2], "has 2 items in the pool, but config.targets.sample = 3"),
    ],
)
def test_pools_refused(tmp_path, listed, message):
    with pytest.raises(InputError, match=message):
        choose_targets(pool(tmp_path, listed, sample=3), NAMED, 0)


def test_a_pool_has_one_source():
    for fields in ({"ids": (), "file": ""}, {"ids": ("#1",), "file": "pool.json"}):
        with pytest.raises(InputError, match=r"targets\.ids"):
            rule(rule="pool", **fields)
    with pytest.raises(InputError, match=r"targets\.file"):
        rule(file="pool.json")


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
