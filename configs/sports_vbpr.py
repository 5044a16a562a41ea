"""VBPR on Amazon Sports.

    python -m uatmc_jax.train --config configs/sports_vbpr.py

@SPORTS@
"""

from configs import base


def get_config(preset: str = "published"):
    """See configs/base.py."""
    config = base.get_config(preset)
    config.data.name = "sports"
    config.pretrain.mu = 0.1  # mu = alpha = 1 stays at chance level on Sports
    config.pretrain.alpha = 0.001
    config.adversarial.mu = 0.1
    config.adversarial.lam = 9.0
    config.adversarial.beta = 0.1
    return config
