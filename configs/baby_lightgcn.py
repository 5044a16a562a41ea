"""LightGCN on Amazon Baby.

    python -m uatmc_jax.train --config configs/baby_lightgcn.py

Measured on one CPU core shared with other work, seed 999, evaluated every five epochs: test
recall@20 0.0747 after 70 epochs of at most 200, 31 s an epoch on the clock. With content
(--config.model.content=True, 128-d substitutes for the official features) on one NVIDIA H100:
0.0665 after 85 epochs, 1.1 s an epoch. mu is of the published grid, whose winner is not published.
"""

from uatmc_jax.configs import base


def get_config(preset: str = "default"):
    """See configs/base.py."""
    config = base.get_config(preset)
    base.use_lightgcn(config)
    config.data.name = "baby"
    return config
