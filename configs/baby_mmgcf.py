"""MMGCF on Amazon Baby.

    python -m uatmc_jax.train --config configs/baby_mmgcf.py

Not trained to its end yet. After two epochs, on 2 CPU cores shared with much other work, with 128-d
substitutes for the official features, seed 999: test recall@20 0.0434, still improving; 57 s an
epoch. L, p and mu are of the published grids, whose winners are not published; nor
is any score.
"""

from uatmc_jax.configs import base


def get_config(preset: str = "default"):
    """See configs/base.py."""
    config = base.get_config(preset)
    base.use_mmgcf(config)
    config.data.name = "baby"
    return config
