"""VBPR on Amazon Sports.

    python -m uatmc_jax.train --config configs/sports_vbpr.py

Measured on 2 CPU cores shared with other work, seed 999, with 128-d substitutes
for the official features and --config.pretrain.nce_items=2048
--config.pretrain.epochs=25 --config.adversarial.epochs=10: 957 s in all, about
30 s an epoch of stage 1. Stage 1 was still rising: validation recall@20 0.0614,
test 0.0612. Stage 2 (UAT-MC): validation 0.0640, test 0.0649; popularity has
0.0299.
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
