"""MMGCF on Amazon Baby.

    python -m uatmc_jax.train --config configs/baby_mmgcf.py

Measured on one CPU core shared with other work, seed 999, with 128-d substitutes for the official
features, evaluated every five epochs: test recall@20 0.0724 after 80 epochs of at most 100, 17 s an
epoch on the clock. L, p and mu are of the published grids, whose winners are not published; nor is
any score.
"""

from uatmc_jax.configs import base


def get_config(preset: str = "default"):
    """See configs/base.py."""
    config = base.get_config(preset)
    base.use_mmgcf(config)
    config.data.name = "baby"
    return config
