"""FREEDOM on Amazon Baby.

    python -m uatmc_jax.train --config configs/baby_freedom.py

Measured on one CPU core shared with other work, seed 999, with 128-d substitutes for the official
features, evaluated every five epochs: test recall@20 0.0935 after 140 epochs of at most 150, 7.4 s
an epoch on the clock, about 4 s of processor time. p = 0.8 and lambda = 0.001 are of the published
grid, whose winners are not published.
"""

from uatmc_jax.configs import base


def get_config(preset: str = "default"):
    """See configs/base.py."""
    config = base.get_config(preset)
    base.use_freedom(config)
    config.data.name = "baby"
    return config
