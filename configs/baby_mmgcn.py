"""MMGCN on Amazon Baby.

    python -m uatmc_jax.train --config configs/baby_mmgcn.py

Measured on 2 CPU cores, seeds 999, 1 and 2, with 128-d substitutes for the official
features: stage 1 has its best validation recall@20, 0.0606, 0.0638 and 0.0611, at
epochs 6, 7 and 5 (test 0.0625, 0.0629, 0.0609), about 20 s an epoch alone. With P^m
trained (--config.model.train_preference=True) it overfits sooner: 0.0567 (seed 999).
A step of UAT-MC is 431 ms, one of stage 1 345 ms.
"""

from uatmc_jax.configs import base


def get_config(preset: str = "default"):
    """See configs/base.py."""
    config = base.get_config(preset)
    base.use_mmgcn(config, preset)
    config.data.name = "baby"
    config.adversarial.lam = 6.0
    config.adversarial.beta = 0.1
    return config
