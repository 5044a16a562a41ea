"""LGMRec on Amazon Baby.

    python -m uatmc_jax.train --config configs/baby_lgmrec.py

Not trained to its end yet. After two epochs, on 2 CPU cores shared with much other work, with 128-d
substitutes for the official features, seed 999: test recall@20 0.0742, still improving; 196 s an
epoch. All values are its authors' of this data set.
"""

from uatmc_jax.configs import base


def get_config(preset: str = "default"):
    """See configs/base.py."""
    config = base.get_config(preset)
    base.use_lgmrec(config)
    config.data.name = "baby"
    return config
