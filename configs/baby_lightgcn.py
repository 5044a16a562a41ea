"""LightGCN on Amazon Baby.

    python -m uatmc_jax.train --config configs/baby_lightgcn.py

Not measured yet. With content: --config.model.content=True. mu is of the published grid, whose
winner is not published.
"""

from uatmc_jax.configs import base


def get_config(preset: str = "default"):
    """See configs/base.py."""
    config = base.get_config(preset)
    base.use_lightgcn(config)
    config.data.name = "baby"
    return config
