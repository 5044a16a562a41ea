"""MMGCF on Amazon Baby.

    python -m uatmc_jax.train --config configs/baby_mmgcf.py

Not measured yet. L, p and mu are of the published grids, whose winners are not published; nor
is any score.
"""

from uatmc_jax.configs import base


def get_config(preset: str = "default"):
    """See configs/base.py."""
    config = base.get_config(preset)
    base.use_mmgcf(config)
    config.data.name = "baby"
    return config
