"""BM3 on Amazon Baby.

    python -m uatmc_jax.train --config configs/baby_bm3.py

Not measured yet. L = 1, p = 0.5 and mu = 0.1 are what its authors published for Baby.
"""

from uatmc_jax.configs import base


def get_config(preset: str = "default"):
    """See configs/base.py."""
    config = base.get_config(preset)
    base.use_bm3(config)
    config.data.name = "baby"
    return config
