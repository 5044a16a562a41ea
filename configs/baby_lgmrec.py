"""LGMRec on Amazon Baby.

    python -m uatmc_jax.train --config configs/baby_lgmrec.py

Not measured yet. All values are its authors' of this data set.
"""

from uatmc_jax.configs import base


def get_config(preset: str = "default"):
    """See configs/base.py."""
    config = base.get_config(preset)
    base.use_lgmrec(config)
    config.data.name = "baby"
    return config
