"""VBPR on Amazon Baby.

    python -m uatmc_jax.train --config configs/baby_vbpr.py

Measured on 2 CPU cores, seed 999, with 128-d substitutes for the official
features and --config.pretrain.nce_items=2048 --config.pretrain.epochs=25:
254 s for 25 epochs of stage 1, 88 s for 50 of stage 2. Stage 1: validation
recall@20 0.0674 at the best epoch (15), test 0.0650. Stage 2 (UAT-MC): test
0.0676 at its best epoch (49), 0.0682 at its last; popularity has 0.0463.
"""

from uatmc_jax.configs import base


def get_config(preset: str = "default"):
    """See configs/base.py."""
    config = base.get_config(preset)
    config.data.name = "baby"
    return config
