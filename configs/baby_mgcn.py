"""MGCN on Amazon Baby.

    python -m uatmc_jax.train --config configs/baby_mgcn.py

Measured on one CPU core shared with other work, seed 999, with 128-d substitutes for the official
features, evaluated every five epochs: test recall@20 0.0942 after 50 epochs, the best of them the
30th, 18 s an epoch. c_l = 0.01 is of its authors' first config; the published schedule of the
learning rate, 0.96^(epoch / 50), is not applied.
"""

from uatmc_jax.configs import base


def get_config(preset: str = "default"):
    """See configs/base.py."""
    config = base.get_config(preset)
    base.use_mgcn(config)
    config.data.name = "baby"
    return config
