"""MMGCN on Amazon Sports.

    python -m uatmc_jax.train --config configs/sports_mmgcn.py

Not measured yet.
"""

from uatmc_jax.configs import base


def get_config(preset: str = "default"):
    """See configs/base.py."""
    config = base.get_config(preset)
    base.use_mmgcn(config, preset)
    config.data.name = "sports"
    config.adversarial.mu = 0.001
    config.adversarial.lam = 10.0
    config.adversarial.beta = 1.0
    return config
