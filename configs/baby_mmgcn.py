"""MMGCN on Amazon Baby."""

from configs import base


def get_config(preset: str = "published"):
    """See configs/base.py."""
    config = base.get_config(preset)
    base.use_mmgcn(config)
    config.data.name = "baby"
    config.adversarial.lam = 6.0
    config.adversarial.beta = 0.1
    return config
