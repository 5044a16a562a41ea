"""MMGCN on Amazon Baby.

    python -m uatmc_jax.train --config configs/baby_mmgcn.py

Measured on 2 CPU cores, seed 999, with 128-d substitutes for the official
features and --config.pretrain.nce_items=2048: 27 s an epoch of stage 1, 61 s of
stage 2. As configured stage 1 overfits: best validation recall@20 0.0566 at
epoch 5, 0.0455 at epoch 29. With --config.model.train_preference=False
--config.pretrain.epochs=9 --config.adversarial.epochs=2 stage 1 was still rising
at its end: validation 0.0615, test 0.0611, and 0.0665 and 0.0657 after the first
epoch of UAT-MC (400 s in all).
"""

from uatmc_jax.configs import base


def get_config(preset: str = "default"):
    """See configs/base.py."""
    config = base.get_config(preset)
    base.use_mmgcn(config)
    config.data.name = "baby"
    config.adversarial.lam = 6.0
    config.adversarial.beta = 0.1
    return config
