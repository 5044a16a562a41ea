"""Minutes long, on real data; run by name: pytest -m slow."""

import pytest

from configs import baby_vbpr, synthetic_vbpr
from uatmc_jax.settings import from_config
from uatmc_jax.training import train_and_evaluate


@pytest.mark.slow
def test_baby_vbpr_reaches_its_recall(real_data, tmp_path):
    config = baby_vbpr.get_config()
    config.data.root = str(real_data)
    config.pretrain.nce_items = 2048
    config.pretrain.epochs = 20
    config.adversarial.epochs = 0
    summary = train_and_evaluate(from_config(config), tmp_path / "run")
    best = summary["stages"]["pretrain"]
    assert best["test"]["recall@20"] >= 0.060 and best["valid"]["recall@20"] >= 0.064
    assert summary["peak_memory_mib"] < 4096


@pytest.mark.slow
def test_the_synthetic_default_is_learnable(tmp_path):
    summary = train_and_evaluate(from_config(synthetic_vbpr.get_config()), tmp_path / "run")
    popularity = summary["popularity"]["test"]["recall@20"]
    for stage in ("pretrain", "adversarial"):
        assert summary["stages"][stage]["test"]["recall@20"] >= 2 * popularity
