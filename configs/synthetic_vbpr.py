"""VBPR on the embedded synthetic data: the first thing to run."""

from configs import base


def get_config(preset: str = "published"):
    """See configs/base.py."""
    config = base.get_config(preset)
    base.use_synthetic(config)
    config.pretrain.mu = 0.1
    config.adversarial.mu = 0.1
    return config
