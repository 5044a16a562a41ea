"""VBPR on the embedded synthetic data: the first thing to run."""

from configs import base


def get_config(preset: str = "published"):
    """See configs/base.py."""
    config = base.get_config(preset)
    config.data.source = "synthetic"
    config.data.name = "synthetic"
    config.pretrain.epochs = 60
    config.pretrain.batch_size = 512
    config.pretrain.mu = 0.1
    config.adversarial.epochs = 10
    config.adversarial.batch_size = 512
    config.adversarial.mu = 0.1
    return config
