"""VBPR on Amazon Clothing."""

from configs import base


def get_config(preset: str = "published"):
    """See configs/base.py."""
    config = base.get_config(preset)
    config.data.name = "clothing"
    config.adversarial.lam = 5.0
    config.adversarial.beta = 3.0
    return config
