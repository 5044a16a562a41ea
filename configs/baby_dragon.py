"""DRAGON on Amazon Baby.

    python -m uatmc_jax.train --config configs/baby_dragon.py

Measured on one NVIDIA H100 shared with other work, seed 999, with 128-d substitutes for the
official features, evaluated every five epochs: test recall@20 0.0932 after 65 epochs of at most
100, 1.7 s an epoch, compiling included; on two CPU cores with nothing else a step takes 300 ms. The
learning rate of 1e-4 and mu = 1e-3 are its authors'.
"""

from uatmc_jax.configs import base


def get_config(preset: str = "default"):
    """See configs/base.py."""
    config = base.get_config(preset)
    base.use_dragon(config)
    config.data.name = "baby"
    return config
