"""The page of curves by epoch, of rows that were not all measured alike."""

from experiments.paper.epochs import PUBLISHED, WITH_5
from experiments.paper.epochs_page import LEAK, UAT, UAT_MC, _claims, _section


def row(variant, seed, epoch, which, pools, gain):
    attacked = {
        p: {"targets": 100, "before": 0.001, "gain": gain + (p == PUBLISHED)} for p in pools
    }
    return {
        "variant": variant, "seed": seed, "epoch": epoch, "which": which, "attacked": attacked,
        "valid": {"recall@20": 0.07 - epoch / 1e4}, "test": {"recall@20": 0.06},
        "contribution": 0.007, "sensitivity": 0.02, "slope_cosine": 0.9, "slope_length": 9.0,
        "cosine_of_z": 0.99,
    }  # fmt: skip


def rows_of(pools):
    """Of two training seeds, the pools of each given."""
    gains = {UAT: 6.0, UAT_MC: 6.1, LEAK: 2.0}
    return [
        row(variant, seed, epoch, which, pools[seed], gain)
        for variant, gain in gains.items()
        for seed in pools
        for epoch, which in ((0, "way"), (10, "way"), (10, "best"))
    ]


def test_seeds_are_compared_on_a_pool_that_all_have():
    """A pool that one of the seeds lacks is shown for the other, and decides nothing."""
    both = {1: (WITH_5, PUBLISHED), 2: (WITH_5, PUBLISHED)}
    some = {1: (WITH_5,), 2: (WITH_5, PUBLISHED)}
    for pools, gain in ((both, "700 %, 700 %"), (some, "600 %, 600 %")):
        page, claims = "\n".join(_section(rows_of(pools))), _claims(rows_of(pools))
        assert f"{UAT} at epoch 10, 10: gain {gain}," in claims[0].evidence
        assert "700 %" in page and "600 %" in page
        alone = f"100 {PUBLISHED} (training seed 2 alone)"
        assert (alone in page) == (pools is some)
