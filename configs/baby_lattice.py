"""LATTICE on Amazon Baby.

    python -m uatmc_jax.train --config configs/baby_lattice.py

Measured on one CPU core shared with other work, seed 999, with 128-d substitutes for the official
features, evaluated every five epochs: test recall@20 0.0863 after 90 epochs of at most 100, 8.3 s
an epoch. mu = 1e-4 is of the published grid, whose winners are not published; the published
schedule of the learning rate, 0.96^(epoch / 50), is not applied.
"""

from uatmc_jax.configs import base


def get_config(preset: str = "default"):
    """See configs/base.py."""
    config = base.get_config(preset)
    base.use_lattice(config)
    config.data.name = "baby"
    return config
