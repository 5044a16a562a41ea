"""VBPR on Amazon Sports.

    python -m uatmc_jax.train --config configs/sports_vbpr.py

Measured on 2 CPU cores shared with other work, seed 999, with 128-d substitutes
for the official features: stage 1 has validation recall@20 0.0706 after 14 epochs,
test 0.0716 and still rising, against 0.0519 with the published mu = 0.1; popularity
has 0.0299.
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
