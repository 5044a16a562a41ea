"""FREEDOM on Amazon Baby.

    python -m uatmc_jax.train --config configs/baby_freedom.py

Not measured yet. p = 0.8 and lambda = 0.001 are of the published grid, whose winners are not
published.
"""

from uatmc_jax.configs import base


def get_config(preset: str = "default"):
    """See configs/base.py."""
    config = base.get_config(preset)
    base.use_freedom(config)
    config.data.name = "baby"
    return config
