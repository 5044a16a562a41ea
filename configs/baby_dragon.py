"""DRAGON on Amazon Baby.

    python -m uatmc_jax.train --config configs/baby_dragon.py

Not trained to its end yet. After two epochs, on 2 CPU cores shared with much other work, with 128-d
substitutes for the official features, seed 999: test recall@20 0.0578, still improving; 337 s an
epoch. The learning rate of 1e-4 and mu = 1e-3 are its authors'.
"""

from uatmc_jax.configs import base


def get_config(preset: str = "default"):
    """See configs/base.py."""
    config = base.get_config(preset)
    base.use_dragon(config)
    config.data.name = "baby"
    return config
