"""MMGCN on the embedded synthetic data."""

from configs import base


def get_config(preset: str = "published"):
    """See configs/base.py."""
    config = base.get_config(preset)
    base.use_mmgcn(config)
    base.use_synthetic(config)
    config.pretrain.optimizer.learning_rate = 1e-3
    config.adversarial.optimizer.learning_rate = 1e-3
    return config
