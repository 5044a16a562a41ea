"""VBPR on Amazon Baby."""

from configs import base


def get_config(preset: str = "published"):
    """See configs/base.py."""
    config = base.get_config(preset)
    config.data.name = "baby"
    return config
