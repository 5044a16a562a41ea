"""VBPR on Amazon Clothing.

    python -m uatmc_jax.train --config configs/clothing_vbpr.py

Not measured: no features of this set were at hand.
"""

from uatmc_jax.configs import base


def get_config(preset: str = "default"):
    """See configs/base.py."""
    config = base.get_config(preset)
    config.data.name = "clothing"
    config.adversarial.lam = 5.0
    config.adversarial.beta = 3.0
    return config
