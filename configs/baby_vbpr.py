"""VBPR on Amazon Baby.

    python -m uatmc_jax.train --config configs/baby_vbpr.py

Measured on 2 CPU cores shared with other work, seed 999, with 128-d substitutes
for the official features. Stage 1: validation recall@20 0.0685, test 0.0686, 478 s.
Stage 2 (UAT-MC): test 0.0668 at its best epoch (5), 0.0638 at its last (50);
popularity has 0.0463. `:published` collapses at once and says so.
"""

from uatmc_jax.configs import base


def get_config(preset: str = "default"):
    """See configs/base.py."""
    config = base.get_config(preset)
    config.data.name = "baby"
    return config
