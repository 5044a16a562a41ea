"""VBPR on Amazon Sports.

    python -m uatmc_jax.train --config configs/sports_vbpr.py

Measured on one NVIDIA H200 with 128-d substitutes for the official features, seeds 999, 1 and 2:
stage 1 ends after 30, 43 and 30 epochs, test recall@20 0.0727, 0.0717 and 0.0731; popularity has
0.0299. With the published mu = 0.1 it had 0.0519 after 14 epochs, where mu = 1 had 0.0716.
"""

from uatmc_jax.configs import base


def get_config(preset: str = "default"):
    """See configs/base.py."""
    config = base.get_config(preset)
    config.data.name = "sports"
    config.pretrain.alpha = 0.001
    if preset != "default":  # mu = 1 is better, but only where it is warmed up
        config.pretrain.mu = 0.1
    config.adversarial.lam = 9.0
    config.adversarial.beta = 0.1
    return config
