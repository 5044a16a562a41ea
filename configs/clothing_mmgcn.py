"""MMGCN on Amazon Clothing.

    python -m uatmc_jax.train --config configs/clothing_mmgcn.py

Not measured: no features of this set were at hand.
"""

from uatmc_jax.configs import base


def get_config(preset: str = "default"):
    """See configs/base.py."""
    config = base.get_config(preset)
    base.use_mmgcn(config, preset)
    config.data.name = "clothing"
    config.pretrain.optimizer.learning_rate = 1e-4
    config.adversarial.optimizer.learning_rate = 1e-4
    config.adversarial.lam = 8.0
    config.adversarial.beta = 8.0
    return config
