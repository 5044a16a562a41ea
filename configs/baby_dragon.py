"""DRAGON on Amazon Baby.

    python -m uatmc_jax.train --config configs/baby_dragon.py

Not measured yet. The learning rate of 1e-4 and mu = 1e-3 are its authors'.
"""

from uatmc_jax.configs import base


def get_config(preset: str = "default"):
    """See configs/base.py."""
    config = base.get_config(preset)
    base.use_dragon(config)
    config.data.name = "baby"
    return config
