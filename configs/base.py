"""What all experiments share: the published hyper-parameters (Section 5.1, B.1).

A config file is one experiment: `python -m uatmc_jax.train --config configs/baby_vbpr.py`.
Any value can be overridden: `--config.adversarial.eps=0.05`. Readings of the
method are presets, chosen after a colon: `--config configs/baby_vbpr.py:paper`.

  default       the published hyper-parameters where they learn: mu is warmed up over six
                epochs, InfoNCE is over 2,048 drawn items, stage 1 stops after ten epochs
                without a better one (all chosen on validation, docs/fidelity.md).
  published     to the letter: z is perturbed, one l2 step of length eps * ||z_i||_2;
                all-item InfoNCE, mu at once, up to 1,000 epochs, patience 100. The bugs of
                the published code are not copied.
  as_published  the same with them: gradients of the max phase leak into the parameters'
                update, the modalities are swapped in training, L_align is averaged over all
                items (in MMGCN it moves nothing), every tenth epoch is kept.
  paper         what the paper says: the raw features v and t are perturbed,
                within eps of their own 2-norm; else as published.
"""

from ml_collections import ConfigDict

PRESETS = ("default", "published", "as_published", "paper")


def get_config(preset: str = "default") -> ConfigDict:
    """The shared defaults under one of `PRESETS`."""
    if preset not in PRESETS:
        raise ValueError(f"no preset {preset!r}: presets are {', '.join(PRESETS)}")
    config = ConfigDict()
    config.seed = 999

    config.data = ConfigDict()
    config.data.source = "mmrec"
    config.data.name = ""
    config.data.root = "data"  # UATMC_DATA in the environment replaces this default
    config.data.modalities = ("visual:image_feat.npy", "textual:text_feat.npy")
    config.data.synthetic_seed = 0

    config.model = ConfigDict()
    config.model.name = "vbpr"
    config.model.dim = 64
    config.model.hidden = ConfigDict({"visual": (1024, 256), "textual": (256,)})
    config.model.default_hidden = (256,)
    config.model.temperature = 0.07

    config.pretrain = ConfigDict()
    config.pretrain.init_from = ""
    config.pretrain.epochs = 100
    config.pretrain.patience = 10
    config.pretrain.batch_size = 2048
    config.pretrain.mu = 1.0
    config.pretrain.mu_warmup_epochs = 6
    config.pretrain.alpha = 1.0
    config.pretrain.nce_items = 2048  # 0 for all items; drawn ones are several times faster
    config.pretrain.optimizer = _adam(1e-3)

    config.adversarial = ConfigDict()
    config.adversarial.defense = "uat_mc"
    config.adversarial.level = "projected"
    config.adversarial.norm = "l2"
    config.adversarial.steps = 1
    config.adversarial.step_size = 1.0
    config.adversarial.epochs = 50
    config.adversarial.patience = 1000
    config.adversarial.batch_size = 2048
    config.adversarial.mu = 1.0
    config.adversarial.lam = 5.0
    config.adversarial.beta = 4.0
    config.adversarial.eps = 0.1
    config.adversarial.random_start = False
    config.adversarial.modalities = ()  # all
    config.adversarial.content_weight = 0.0
    config.adversarial.eps_tail = config.adversarial.content_tail = 0.0
    config.adversarial.ramp_epochs = 0
    config.adversarial.train_projector_head = False
    config.adversarial.align_over = "rows"
    config.adversarial.detach_align = False
    config.adversarial.leak = False
    config.adversarial.swap_modalities = False
    config.adversarial.harmless = ""
    config.adversarial.optimizer = _adam(1e-3)

    config.eval = ConfigDict()
    config.eval.ks = (5, 10, 20, 50)
    config.eval.every = 1
    config.eval.sample = 0  # all users
    config.eval.block_users = 2048
    config.eval.block_items = 8192

    config.checkpoint = ConfigDict()
    config.checkpoint.every_seconds = 30.0
    config.checkpoint.keep_every = 0
    config.checkpoint.chunk_steps = 0

    config.mesh = ConfigDict()
    config.mesh.devices = 1  # -1 for all that there are (docs/scale.md)
    config.mesh.row_multiple = 64
    config.mesh.features = "float32"
    if preset != "default":
        _to_the_letter(config)
    if preset == "as_published":
        config.adversarial.leak = config.adversarial.swap_modalities = True
        config.adversarial.align_over = "items"
        config.checkpoint.keep_every = 10
    if preset == "paper":
        config.adversarial.level = "feature"
    return config


def _to_the_letter(config: ConfigDict) -> None:
    config.pretrain.epochs, config.pretrain.patience = 1000, 100
    config.pretrain.mu_warmup_epochs = config.pretrain.nce_items = 0


def use_mmgcn(config: ConfigDict, preset: str = "default") -> None:
    """MMGCN in place of VBPR, with what all its published configs share."""
    config.model.name = "mmgcn"
    config.model.latent_dims = ConfigDict({"visual": 256})
    config.model.n_layers = 3
    config.model.fuse = "concat"
    # Frozen, as the published code has it, P^m does not overfit (configs/baby_mmgcn.py).
    config.model.train_preference = preset in ("published", "paper")
    for stage in (config.pretrain, config.adversarial):
        stage.mu = 0.01
        stage.optimizer.learning_rate = 5e-4
    # The published MMGCN takes these gradients without a graph.
    config.adversarial.detach_align = preset == "as_published"


def use_lightgcn(config: ConfigDict, content: bool = False) -> None:
    """LightGCN in place of VBPR, with content or without."""
    _use_plain(config, "lightgcn", mu=1e-3)
    config.model.n_layers = 2
    config.model.content = content


def use_freedom(config: ConfigDict) -> None:
    """FREEDOM in place of VBPR."""
    _use_plain(config, "freedom", mu=0.0)
    config.model.n_layers = 2
    config.model.n_neighbours = 10
    config.model.shares = ConfigDict({"visual": 0.1, "textual": 0.9})
    config.model.drop = 0.8
    config.model.content_weight = 1e-3


def use_bm3(config: ConfigDict) -> None:
    """BM3 in place of VBPR."""
    _use_plain(config, "bm3", mu=0.1)
    config.model.n_layers = 1
    config.model.dropout = 0.5


def use_mgcn(config: ConfigDict) -> None:
    """MGCN in place of VBPR."""
    _use_plain(config, "mgcn", mu=1e-4)
    config.model.n_layers = 2
    config.model.n_neighbours = 10
    config.model.contrast = 0.01
    config.model.trained_features = False


def use_lattice(config: ConfigDict) -> None:
    """LATTICE in place of VBPR."""
    _use_plain(config, "lattice", mu=1e-4)
    config.model.n_layers = 2
    config.model.n_neighbours = 10
    config.model.raw_share = 0.9
    config.model.trained_features = False


def use_dragon(config: ConfigDict) -> None:
    """DRAGON in place of VBPR."""
    _use_plain(config, "dragon", mu=1e-3)
    config.pretrain.optimizer.learning_rate = 1e-4
    config.model.n_layers = 2
    config.model.n_neighbours = 10
    config.model.n_cobuyers = 40
    config.model.shares = ConfigDict({"visual": 0.1, "textual": 0.9})
    config.model.mlp_width = 256
    config.model.pad = "resample"


def use_mmgcf(config: ConfigDict) -> None:
    """MMGCF in place of VBPR."""
    _use_plain(config, "mmgcf", mu=1e-3)
    config.model.n_layers = 2
    config.model.weighting = "equal"
    config.model.fusion = "mean"
    config.model.drop = 0.5


def use_lgmrec(config: ConfigDict) -> None:
    """LGMRec in place of VBPR."""
    _use_plain(config, "lgmrec", mu=1e-6)
    config.model.n_layers = config.model.n_content_layers = 2
    config.model.n_hyper_layers = 1
    config.model.n_edges = 4
    config.model.keep = 0.5
    config.model.hyper_weight = 0.3
    config.model.contrast = 1e-4
    config.model.noise = True


def _use_plain(config: ConfigDict, name: str, mu: float) -> None:
    """What those share that have no contrast of modalities and are not hardened."""
    config.model.name = name
    config.pretrain.mu = config.adversarial.mu = mu
    config.pretrain.alpha = 0.0
    config.pretrain.mu_warmup_epochs = 0
    config.pretrain.epochs = 1000
    config.pretrain.patience = 20
    config.adversarial.defense = "none"
    config.adversarial.epochs = 0
    config.adversarial.leak = config.adversarial.swap_modalities = False


def use_synthetic(config: ConfigDict) -> None:
    """The embedded data, in minutes: smaller batches, fewer epochs."""
    config.data.source = "synthetic"
    config.data.name = "synthetic"
    config.pretrain.patience = 100
    for stage, epochs in ((config.pretrain, 60), (config.adversarial, 10)):
        stage.epochs = epochs
        stage.batch_size = 512


def _adam(learning_rate: float) -> ConfigDict:
    return ConfigDict(
        {
            "learning_rate": learning_rate,
            "schedule": "constant",
            "warmup_epochs": 0,
            "clip_norm": 0.0,
            "rows": "dense",  # or "deferred", the same results to rounding (docs/scale.md)
            "shuffle": "sort",
        }
    )
