"""MMGCN on the embedded synthetic data.

    python -m uatmc_jax.train --config configs/synthetic_mmgcn.py

Measured on 2 CPU cores, seed 999: 138 s of training; test recall@20 0.192
pre-trained, 0.215 hardened (best epoch), against popularity's 0.115.
"""

from uatmc_jax.configs import base


def get_config(preset: str = "default"):
    """See configs/base.py."""
    config = base.get_config(preset)
    base.use_mmgcn(config, preset)
    base.use_synthetic(config)
    config.pretrain.optimizer.learning_rate = 1e-3
    config.adversarial.optimizer.learning_rate = 1e-3
    return config
