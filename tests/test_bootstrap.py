"""Bootstrap means against plain loops over the very draws."""

import numpy as np
import pytest

from uatmc_jax.bootstrap import finite, interval, resample, resample_crossed, resample_table


def test_an_interval_of_a_mean_is_as_wide_as_theory_says():
    values = np.random.default_rng(1).normal(size=(400, 1))
    low, high = interval(resample(values, np.arange(400), 4000)[:, 0])
    expected = 2 * 1.96 * values.std() / 20
    assert high - low == pytest.approx(expected, rel=0.1)
    assert low < values.mean() < high


def test_a_table_is_resampled_both_ways():
    """With one row only columns vary, with one column only rows; with both, both do."""
    rng = np.random.default_rng(2)
    row, column = rng.normal(size=(1, 300)), rng.normal(size=(300, 1))
    for table in (row, column):
        drawn = resample_table(table, 4000)
        assert drawn.std() == pytest.approx(table.std() / 300**0.5, rel=0.1)
    both = row + column[:200]
    variance = row.var() / 300 + column[:200].var() / 200
    drawn = resample_table(both, 4000)
    assert drawn.std() == pytest.approx(variance**0.5, rel=0.1)
    assert drawn.mean() == pytest.approx(both.mean(), abs=4 * variance**0.5 / 60)
    constant = resample_table(np.full((3, 5), 0.25), 300)
    assert len(constant) == 300 and (constant == 0.25).all()


def test_a_group_is_drawn_with_all_its_rows():
    values = np.array([[1.0], [3.0], [10.0]])
    drawn = np.unique(resample(values, [0, 0, 1], 500)[:, 0].round(6))
    assert drawn.tolist() == pytest.approx([2.0, 14 / 3, 10.0], abs=1e-6)


def test_a_table_is_what_crossed_groups_are():
    table = np.random.default_rng(3).normal(size=(4, 30))
    outer, inner = np.indices(table.shape)
    crossed = resample_crossed(table.reshape(-1, 1), outer.ravel(), inner.ravel(), 3000)
    assert crossed.std() == pytest.approx(resample_table(table, 3000).std(), rel=0.1)


def test_what_json_cannot_hold_is_none():
    assert finite(float("inf")) is None and finite(float("nan")) is None and finite(0.5) == 0.5
    assert interval(np.array([np.inf] * 10)) == [None, None]
