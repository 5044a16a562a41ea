"""LGMRec on Amazon Baby.

    python -m uatmc_jax.train --config configs/baby_lgmrec.py

Measured on one NVIDIA H100 shared with other work, seed 999, with 128-d substitutes for the
official features, evaluated every five epochs: test recall@20 0.0800 after 35 epochs, the last 20
of them without an improvement; 2.5 s an epoch, compiling included. All values are its authors' of
this data set.
"""

from uatmc_jax.configs import base


def get_config(preset: str = "default"):
    """See configs/base.py."""
    config = base.get_config(preset)
    base.use_lgmrec(config)
    config.data.name = "baby"
    return config
