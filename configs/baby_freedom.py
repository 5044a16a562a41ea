"""FREEDOM on Amazon Baby.

    python -m uatmc_jax.train --config configs/baby_freedom.py

Measured on 2 CPU cores shared with much other work, seed 999, with 128-d substitutes for the
official features, evaluated every five epochs: recall@20 0.0939 (test 0.0917) after epoch 50 and
still improving, where the run was cut off; 8 to 58 s an epoch. p = 0.8 and lambda = 0.001 are
of the published grid, whose winners are not published.
"""

from uatmc_jax.configs import base


def get_config(preset: str = "default"):
    """See configs/base.py."""
    config = base.get_config(preset)
    base.use_freedom(config)
    config.data.name = "baby"
    return config
