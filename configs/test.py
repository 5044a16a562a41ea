"""Seconds on one core; for the project's own tests.

python -m uatmc_jax.train --config configs/test.py
"""

from uatmc_jax.configs import base


def get_config(preset: str = "default"):
    """See configs/base.py."""
    config = base.get_config(preset)
    base.use_synthetic(config)
    config.model.dim = 8
    config.model.hidden.visual = (16,)
    config.model.hidden.textual = (16,)
    config.pretrain.batch_size = config.adversarial.batch_size = 200
    config.pretrain.epochs = 2
    config.pretrain.mu = 0.1
    config.adversarial.epochs = 2
    config.adversarial.mu = 0.1
    return config
