"""VBPR on the embedded synthetic data: the first thing to run.

    python -m uatmc_jax.train --config configs/synthetic_vbpr.py

Measured on 2 CPU cores shared with other work, seed 999: 125 s from start to end;
test recall@20 0.335 pre-trained, 0.347 hardened (best epoch), against popularity's
0.115.
"""

from uatmc_jax.configs import base


def get_config(preset: str = "default"):
    """See configs/base.py."""
    config = base.get_config(preset)
    base.use_synthetic(config)
    if preset != "default":  # at once in full force mu = 1 shrinks all embeddings to nothing
        config.pretrain.mu = config.adversarial.mu = 0.1
    return config
