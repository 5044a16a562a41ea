import numpy as np
import pytest

from experiments import benchmark, lift_features


@pytest.mark.long
def test_benchmark_times_every_stage(settings):
    result = benchmark.measure(settings, ["pretrain", "adversarial"], epochs=1)
    assert result["dataset"] == "synthetic" and result["peak_memory_mib"] > 0
    assert result["propagation"]["grouped_ms"] > 0 and result["propagation"]["one_by_one_ms"] > 0
    for stage in ("pretrain", "adversarial"):
        timed = result["stages"][stage]
        assert timed["ms_per_step"] > 0 and len(timed["ms_per_step_all"]) == 1
        assert timed["steps_per_epoch"] > 1


@pytest.mark.slow
def test_benchmark_times_trainings_together(settings):
    result = benchmark.measure_vmapped(settings, [1, 2], epochs=1)
    assert result.keys() == {"1", "2"} and all(ms > 0 for ms in result.values())


def test_lifting_keeps_inner_products(dataset):
    features = dataset.features[0]
    lifted = lift_features.lift(features, 200, np.random.default_rng(0))
    assert lifted.shape == (dataset.n_items, 200)
    np.testing.assert_allclose(lifted @ lifted.T, features @ features.T, rtol=1e-4, atol=1e-4)


def test_a_common_part_is_one_vector_for_all_rows(dataset):
    features = dataset.features[0] / np.linalg.norm(dataset.features[0], axis=1, keepdims=True)
    found = lift_features.with_common(features, 0.5, np.random.default_rng(3))
    common = np.random.default_rng(3).normal(size=features.shape[1])
    common *= 0.5 / np.sqrt(np.sum(common**2))
    for row, x in zip(found, features.astype(np.float64), strict=True):
        moved = x + common
        np.testing.assert_allclose(row, moved / np.sqrt(np.sum(moved**2)), atol=1e-6)
