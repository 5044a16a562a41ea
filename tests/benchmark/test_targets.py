"""Who is attacked, and for whom."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.attacks.cases import DATASET
from uatmc_jax.benchmark.targets import choose_targets, choose_users
from uatmc_jax.data import load_item_names
from uatmc_jax.errors import InputError
from uatmc_jax.settings import TargetSettings

COUNT = int(np.bincount(DATASET.item_counts).argmax())


def rule(**changes):
    chosen = {"rule": "count", "count": COUNT, "quantiles": (0.0, 0.5), "ids": (), "sample": 0}
    return TargetSettings(**(chosen | changes))


def no_names():
    raise AssertionError("names are not needed")


@given(st.integers(0, 1000), st.integers(1, 3))
def test_targets_have_the_count_are_distinct_and_seeded(seed, sample):
    drawn = choose_targets(rule(sample=sample), DATASET, seed, no_names)
    assert len(set(drawn.tolist())) == sample and np.all(np.diff(drawn) > 0)
    assert np.all(DATASET.item_counts[drawn] == COUNT)
    np.testing.assert_array_equal(drawn, choose_targets(rule(sample=sample), DATASET, seed, dict))


def test_all_candidates_and_quantiles():
    every = choose_targets(rule(), DATASET, 0, no_names)
    np.testing.assert_array_equal(every, np.flatnonzero(DATASET.item_counts == COUNT))
    low = choose_targets(rule(rule="quantile", quantiles=(0.0, 0.3)), DATASET, 0, no_names)
    high = choose_targets(rule(rule="quantile", quantiles=(0.9, 1.0)), DATASET, 0, no_names)
    assert DATASET.item_counts[low].max() <= np.quantile(DATASET.item_counts, 0.3)
    assert DATASET.item_counts[high].min() >= np.quantile(DATASET.item_counts, 0.9)


def test_ids_and_names():
    names = {"B00X": 7, "0000000013": 9}
    chosen = rule(rule="ids", ids=("12", "B00X", 3, "0000000013"), sample=100)
    np.testing.assert_array_equal(choose_targets(chosen, DATASET, 0, lambda: names), [3, 7, 9, 12])


REFUSED = {
    "unknown name": ({"rule": "ids", "ids": ("B00Y",)}, "'B00Y' is neither an item id below 50"),
    "id too large": ({"rule": "ids", "ids": ("50",)}, "neither an item id"),
    "negative id": ({"rule": "ids", "ids": (-1,)}, "neither an item id"),
    "name of no item": ({"rule": "ids", "ids": ("B00Z",)}, "neither an item id"),
    "twice": ({"rule": "ids", "ids": ("7", "B00X")}, "names an item twice"),
    "empty pool": ({"count": 10_000}, "has 0 items with exactly 10000 interactions"),
    "empty pool, all": ({"count": 10_000, "sample": 0}, "has 0 items"),
    "small pool": ({"sample": 49}, "config.targets.sample = 49"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_targets_refused(name):
    changes, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        choose_targets(rule(**changes), DATASET, 0, lambda: {"B00X": 7, "B00Z": 99})


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


@pytest.mark.parametrize("separator", ["\t", ","])
def test_names_file(tmp_path, separator):
    rows = [("asin", "itemID"), ("B00X", 0), ("0000000012", 1)]
    text = "".join(separator.join(map(str, row)) + "\n" for row in rows)
    (tmp_path / "i_id_mapping.csv").write_text(text)
    assert load_item_names(tmp_path) == {"B00X": 0, "0000000012": 1}


@pytest.mark.parametrize(
    "text,message",
    [
        (None, "i_id_mapping.csv: no such file"),
        ("name\tnumber\nB\t0\n", "wanted asin and itemID"),
        ("asin\titemID\nB\tx\n", "line 2"),
        ("asin\titemID\nB\n", "line 2"),
    ],
)
def test_bad_names_file(tmp_path, text, message):
    if text is not None:
        (tmp_path / "i_id_mapping.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        load_item_names(tmp_path)


def test_the_case_study_item_is_known(real_data):
    names = load_item_names(real_data / "baby")
    assert 0 <= names["B004203QQ4"] < 7050
