"""BM3 on Amazon Baby.

    python -m uatmc_jax.train --config configs/baby_bm3.py

Measured on one CPU core shared with other work, seed 999, with 128-d substitutes for the official
features, evaluated every five epochs: test recall@20 0.0808 after 100 epochs, the last of them the
best; 16 s an epoch on the clock, about 5 s of processor time. L = 1, p = 0.5 and mu = 0.1 are what
its authors published for Baby.
"""

from uatmc_jax.configs import base


def get_config(preset: str = "default"):
    """See configs/base.py."""
    config = base.get_config(preset)
    base.use_bm3(config)
    config.data.name = "baby"
    return config
