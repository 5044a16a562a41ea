"""A recommender on a folder of your own, clean and hardened.

    python -m uatmc_jax.train --data data/shop
    python -m uatmc_jax.train --data data/shop --model mmgcn
    python -m uatmc_jax.train --data data/shop --model my_models:make_lightgcn

After the colon stands the model (`--config own:mmgcn`, which is what `--model mmgcn` chooses):
vbpr, linear_vbpr, mmgcn, lightgcn, freedom, bm3, mgcn, lattice, dragon, mmgcf, lgmrec, or a factory
of your own. Any value can be overridden; batch sizes and the K of the metrics are fitted to the
data if they are not: about `STEPS` steps an epoch, K no larger than the catalogue.

mu weighs as much as it does in batches of 2,048 (`training.fitting.mu_share`): on 300 clothes
(photos as 8 x 8 pixels, hashed words) mu = 1 in batches of 256 collapsed at epoch 11; mu = 0.35,
which is what that makes it there, gives test recall@20 0.6050 after stage 1.

mu = 1, warmed up, with alpha = 0.001 was chosen on validation recall@20 (VBPR, seed 999, after 14
epochs, 128-d substitutes for the features): Amazon Baby 0.0731, against 0.0671 at the published
alpha = 1; Sports 0.0706, against 0.0519 at its published mu = 0.1. On a synthetic shop of 150 items
mu = 0.1 is a little better: 0.796 against 0.773.
"""

from ml_collections import ConfigDict

from uatmc_jax.configs import base

VICTIMS = {
    "lightgcn": base.use_lightgcn,
    "freedom": base.use_freedom,
    "bm3": base.use_bm3,
    "mgcn": base.use_mgcn,
    "lattice": base.use_lattice,
    "dragon": base.use_dragon,
    "mmgcf": base.use_mmgcf,
    "lgmrec": base.use_lgmrec,
}
PRESETS = ("vbpr", "linear_vbpr", "mmgcn", *VICTIMS)
STEPS = 40


def get_config(model: str = "vbpr") -> ConfigDict:
    """Settings under which most data sets are learnt, for one model."""
    config = base.get_config()
    config.model.name = model
    config.pretrain.epochs = 60
    config.pretrain.patience = 10
    config.pretrain.alpha = 0.001
    config.adversarial.epochs = 15
    # In the attack's own ball.
    config.adversarial.norm = "linf"
    config.adversarial.eps = 0.05
    config.adversarial.lam = 1.0
    if model in VICTIMS:
        VICTIMS[model](config)
    elif model == "mmgcn":
        base.use_mmgcn(config)
        config.pretrain.alpha = 1.0
    elif model != "vbpr":
        config.adversarial.defense = "uat"  # z of unlike widths cannot be aligned
    if model == "linear_vbpr":
        config.pretrain.alpha = 0.0  # nor compared
    return config
