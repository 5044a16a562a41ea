"""MMGCN on Amazon Sports.

    python -m uatmc_jax.train --config configs/sports_mmgcn.py

Measured on 2 CPU cores, one for each training, seeds 999, 1 and 2, with 128-d substitutes for
the official features: stage 1 has its best validation recall@20, 0.0535, 0.0544 and 0.0569, at
epochs 4, 4 and 8 (test 0.0546, 0.0542, 0.0574), 236 to 250 s an epoch; an epoch of UAT-MC takes
225 to 269 s. What the attacks win is in docs/paper.md.
"""

from uatmc_jax.configs import base


def get_config(preset: str = "default"):
    """See configs/base.py."""
    config = base.get_config(preset)
    base.use_mmgcn(config, preset)
    config.data.name = "sports"
    config.adversarial.mu = 0.001
    config.adversarial.lam = 10.0
    config.adversarial.beta = 1.0
    return config
