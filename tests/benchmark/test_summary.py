"""Averages, gains and intervals."""

import numpy as np
import pytest

from uatmc_jax.benchmark.summary import compare, mean_with_interval, summarize


def make_rows(before, after, seeds=None, **more):
    seeds = [0] * len(before) if seeds is None else seeds
    return [
        {"seed": s, "item": n, "hr_before": {"10": b}, "hr_after": {"10": a}, **more}
        for n, (s, b, a) in enumerate(zip(seeds, before, after, strict=True))
    ]


def test_gain_is_of_the_averages_not_the_average_of_gains():
    rows = make_rows([0.1, 0.0, 0.3], [0.2, 0.5, 0.5])
    entry = summarize(rows, (10,), 200)["hr@10"]
    assert entry["before"]["value"] == pytest.approx(0.4 / 3)
    assert entry["gain"]["value"] == pytest.approx(1.2 / 0.4 - 1)


def test_undefined_gain_is_none_and_never_infinite():
    entry = summarize(make_rows([0.0] * 4, [0.1] * 4), (10,), 100)["hr@10"]
    assert entry["gain"] == {"value": None, "over_targets": [None, None]}
    # One hit in few targets: some resamples have none, so the upper end is undefined.
    entry = summarize(make_rows([0.1, 0, 0], [0.1, 0.1, 0.1]), (10,), 500)["hr@10"]
    assert entry["gain"]["value"] == pytest.approx(2.0)
    low, high = entry["gain"]["over_targets"]
    assert high is None and 0 <= low <= 2


def test_intervals_cover_the_mean_at_their_rate():
    """Over many samples of a known distribution about 95 % of the intervals hold its mean."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        values = rng.exponential(size=60)
        entry = summarize(make_rows(values, values), (10,), 300)["hr@10"]["before"]
        covered += entry["over_targets"][0] <= 1.0 <= entry["over_targets"][1]
    assert 0.86 <= covered / 200 <= 0.99


def test_over_seeds_resamples_whole_seeds():
    before = [0.1, 0.1, 0.3, 0.3]
    rows = make_rows(before, before, seeds=[1, 1, 2, 2])
    entry = summarize(rows, (10,), 400)["hr@10"]["before"]
    assert entry["over_seeds"] == pytest.approx([0.1, 0.3])
    assert "over_seeds" not in summarize(make_rows([0.1], [0.1]), (10,), 10)["hr@10"]["before"]


def test_constant_values_have_no_width_and_everything_is_summarized():
    more = {"rank_before": 9.0, "rank_after": 3.0, "budget_certificate": {"10": 0.6},
            "any_content_certificate": {"10": 0.7}}  # fmt: skip
    summary = summarize(make_rows([0.2] * 5, [0.4] * 5, **more), (10,), 50)
    assert summary["targets"] == 5 and summary["seeds"] == 1
    assert summary["hr@10"]["gain"]["over_targets"] == pytest.approx([1.0, 1.0])
    assert summary["hr@10"]["budget_certificate"]["value"] == pytest.approx(0.6)
    assert summary["rank"]["after"]["over_targets"] == pytest.approx([3.0, 3.0])


def rows_of(item_rates, seed=0):
    return [
        {"seed": seed, "item": n, "hr_before": {"10": b}, "hr_after": {"10": a}}
        for n, (b, a) in enumerate(item_rates)
    ]


def test_comparison_is_of_averages_target_by_target():
    ours, theirs = rows_of([(0.1, 0.2), (0.3, 0.2)]), rows_of([(0.1, 0.3), (0.3, 0.3)])
    found = compare(ours, theirs, 10, 200)
    assert found["after"]["value"] == pytest.approx(0.5)
    assert found["gain"]["value"] == pytest.approx(0.5)
    # Resampled together, a constant factor has an interval without width.
    assert found["after"]["over_targets"] == pytest.approx([0.5, 0.5])
    assert compare(ours, ours, 10, 200)["gain"]["over_targets"] == [0.0, 0.0]


def test_comparison_of_undefined_gains_is_undefined():
    found = compare(rows_of([(0.0, 0.1)] * 3), rows_of([(0.1, 0.1)] * 3), 10, 50)
    assert found["gain"] == {"value": None, "over_targets": [None, None]}


def test_other_targets_are_not_compared():
    with pytest.raises(ValueError, match="same targets"):
        compare(rows_of([(0.1, 0.2)]), rows_of([(0.1, 0.2)], seed=1), 10, 50)


def test_mean_with_interval():
    found = mean_with_interval([1.0, 2.0, 3.0, 4.0], 2_000)
    low, high = found["over_targets"]
    assert found["value"] == 2.5 and 1.0 <= low < 2.0 and 3.0 < high <= 4.0


def trainings(values, noise=0.0):
    """Rows of one seed's 40 targets on a model each training seed; HR after by training."""
    rng = np.random.default_rng(1)
    hard = rng.uniform(0.2, 0.4, size=40)
    return [
        {
            "training_seed": seed,
            "seed": 0,
            "item": item,
            "hr_before": {"50": 0.1},
            "hr_after": {"50": float(value + noise * hard[item])},
        }
        for seed, value in enumerate(values)
        for item in range(40)
    ]


def test_an_interval_over_trainings_covers_seeds_and_targets():
    entry = summarize(trainings([0.2, 0.3, 0.4]), [50], 2000)["hr@50"]["after"]
    assert entry["by_training"] == pytest.approx([0.2, 0.3, 0.4])
    # Targets are alike: only which trainings are drawn moves the mean, from all first to all last.
    assert entry["over_trainings"] == pytest.approx([0.2, 0.4])
    assert entry["over_targets"] == pytest.approx([0.3, 0.3])
    same = summarize(trainings([0.3] * 3, noise=1.0), [50], 4000)["hr@50"]["after"]
    # Trainings are alike: it is the interval over targets.
    np.testing.assert_allclose(same["over_trainings"], same["over_targets"], atol=3e-3)
    both = summarize(trainings([0.2, 0.3, 0.4], noise=1.0), [50], 4000)["hr@50"]["after"]
    width = np.diff(both["over_trainings"])[0]
    assert width > 3 * np.diff(same["over_trainings"])[0] and width == pytest.approx(0.2, abs=0.04)


def test_the_crossed_bootstrap_is_that_of_its_definition():
    """Against resampling by hand, with the same draws."""
    from uatmc_jax.bootstrap import resample_crossed

    rng = np.random.default_rng(3)
    outer, inner = np.repeat([7, 9], 3), np.tile([1, 2, 5], 2)
    values = rng.normal(size=(6, 2))
    means = resample_crossed(values, outer, inner, 5)
    draws = np.random.default_rng(0)
    # Weights of all resamples of one group come before those of the other.
    first = [np.bincount(draws.integers(2, size=2), minlength=2) for _ in range(5)]
    second = [np.bincount(draws.integers(3, size=3), minlength=3) for _ in range(5)]
    for mean, a, b in zip(means, first, second, strict=True):
        weights = np.outer(a, b).reshape(-1)
        np.testing.assert_allclose(mean, weights @ values / weights.sum())


def test_one_training_is_as_if_none_was_named():
    rows = trainings([0.3], noise=1.0)
    plain = [{k: v for k, v in row.items() if k != "training_seed"} for row in rows]
    assert summarize(rows, [50], 200) == summarize(plain, [50], 200)


def test_hit_rates_won_are_defined_where_no_gain_is():
    rows, others = (make_rows([0.0] * 4, after) for after in ([0.1] * 4, [0.1, 0.3, 0.2, 0.2]))
    entry = summarize(others, (10,), 100)["hr@10"]
    assert entry["gain"]["value"] is None and entry["points"]["value"] == pytest.approx(0.2)
    found = compare(rows, others, 10, 500)
    assert found["gain"]["value"] is None
    assert found["points"]["value"] == pytest.approx(0.1)
    low, high = found["points"]["over_targets"]
    assert 0 <= low < 0.1 < high <= 0.2
