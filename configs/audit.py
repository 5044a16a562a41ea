"""An audit: train a recommender, attack it, certify it, harden it, attack again, report.

    python -m uatmc_jax.audit                       # the embedded synthetic data
    python -m uatmc_jax.audit --data data/baby      # a catalogue of your own
    python -m uatmc_jax.audit --data data/baby --config configs/audit.py:mmgcn
    python -m uatmc_jax.audit --data data/baby --config.attack.attacks.pgd.eps=0.05

Presets, chosen after the colon:

  vbpr     VBPR, hardened on its exact worst case within 2, 5, 10 and 20 % (`exact_NN`, the
           projectors' last layer trained too) and by UAT-MC within 5 %.
  mmgcn    MMGCN, hardened by UAT-MC and by the first-order worst case.
  general  any model (--config.experiment.model.name=module:function, or --victim RUN),
           hardened by UAT and by the first-order worst case; VBPR if none is named.
  quick    half a minute, to see a report; a tiny VBPR that says nothing.
  lightgcn, mgcn   LightGCN with content, and MGCN, hardened by UAT-MC and the first-order worst
           case.
  freedom, bm3     models that read no projected features when they serve, which are not hardened:
           what happens to an edit today, and after the next re-indexing (docs/victims.md).

Measured on 2 CPU cores, seed 999: the synthetic data 199 s from start to end, recall@20 0.3691
audited, 0.3681 recommended (exact_05), HR@50 under attack 23.2 % and 11.6 %, at most 47.3 % and
18.8 %. Results on Amazon Baby are in docs/audit.md. FREEDOM on Baby (128-d substitutes), a
trained one given (--victim), took 32 minutes of processor time.
"""

from ml_collections import ConfigDict

from uatmc_jax.attacks import copying
from uatmc_jax.benchmark.suite import suite_settings
from uatmc_jax.configs import attack, base
from uatmc_jax.settings import to_dict

PRESETS = ("vbpr", "mmgcn", "general", "quick", "lightgcn", "freedom", "bm3", "mgcn")
_OWN_OBJECTIVE = {"freedom": base.use_freedom, "bm3": base.use_bm3, "mgcn": base.use_mgcn}


def get_config(preset: str = "vbpr") -> ConfigDict:
    """The audit under one of `PRESETS`."""
    if preset not in PRESETS:
        raise ValueError(f"no preset {preset!r}: presets are {', '.join(PRESETS)}")
    config = ConfigDict()

    experiment = config.experiment = base.get_config()
    # The published weights of L_reg and L_NCE: on some data only one of the two learns.
    config.victims = ConfigDict({"aligned": {"mu": 1.0, "alpha": 1.0}})
    config.victims.free = ConfigDict({"mu": 1.0, "alpha": 0.001})
    if preset == "mmgcn":
        base.use_mmgcn(experiment)
        config.victims = ConfigDict({"published": {"mu": 0.01, "alpha": 1.0}})
    elif preset == "lightgcn":
        base.use_lightgcn(experiment, content=True)
    elif preset in _OWN_OBJECTIVE:
        _OWN_OBJECTIVE[preset](experiment)
    if preset == "lightgcn" or preset in _OWN_OBJECTIVE:
        config.victims = ConfigDict({"published": {"mu": experiment.pretrain.mu, "alpha": 0.0}})
    experiment.data.source = "synthetic"  # --data DIR replaces the three
    experiment.data.name = "synthetic"
    experiment.pretrain.epochs = 60
    experiment.pretrain.patience = 8
    experiment.pretrain.nce_items = 2048
    experiment.adversarial.epochs = 0 if preset in ("freedom", "bm3") else 15
    experiment.adversarial.norm = "linf"
    experiment.adversarial.defense = "none"  # every entry of harden names its own

    listed = preset in ("freedom", "bm3")
    config.attack = attack.get_config("lists" if listed else "suite")
    config.attack.targets.rule = "quantile"
    config.attack.targets.quantiles = (0.0, 0.5)  # the less popular half
    config.attack.ranks = False
    config.attack.masked = True  # users who own an item are not shown it
    config.attack.collateral = False  # of the strongest attack, on the page
    config.steps_of = "relist" if listed else "pgd"
    config.other_threats = ("copied",) if listed else ("raw_pgd",)
    if listed:
        config.attack.attacks.copied = ConfigDict(to_dict(copying(eps=2.0)))
    elif preset == "mgcn":  # whose raw features choose neighbours, which no ascent sees
        config.other_threats = ()
    else:
        raw = suite_settings()["pgd"].replace(level="feature", norm="l2")
        config.attack.attacks.raw_pgd = ConfigDict(to_dict(raw))

    config.harden = ConfigDict()
    if not listed:
        _harden(config, preset)

    config.fit_steps = 40
    config.fit_users = 8000
    config.survey = 1000
    config.branches = 4
    config.accept_recall = 0.95
    config.accept_content = 0.5
    config.accept_reach = 0.9
    config.listed = 20
    config.trial = preset == "quick"
    if preset == "quick":
        _shrink(config)
    return config


def _harden(config: ConfigDict, preset: str) -> None:
    within = {"lam": 1.0, "eps": 0.05}
    if preset == "general":
        config.harden.uat = ConfigDict({"defense": "uat", **within})
    else:
        config.harden.uat_mc = ConfigDict({"defense": "uat_mc", **within})
    if preset in ("vbpr", "quick"):
        for percent, lam in ((2, 0.2), (5, 0.2), (10, 0.2), (20, 0.1)):
            config.harden[f"exact_{percent:02}"] = ConfigDict(
                {"defense": "exact", "train_projector_head": True, "lam": lam, "eps": percent / 100}
            )
    else:
        config.harden.linearized = ConfigDict({"defense": "linearized", "lam": 0.2, "eps": 0.1})
    config.harden.trained_on = ConfigDict({"defense": "none"})  # as long, without a defence


def _shrink(config: ConfigDict) -> None:
    tiny = config.experiment
    tiny.model.dim = 8
    tiny.model.hidden = ConfigDict({"visual": (16,), "textual": (16,)})
    tiny.pretrain.epochs = 6
    tiny.adversarial.epochs = 2
    del config.victims.aligned
    for name in set(config.attack.attacks) - {"fgsm", "pgd", "apgd_sigmoid", "raw_pgd"}:
        del config.attack.attacks[name]
    for name in set(config.harden) - {"exact_05", "trained_on"}:
        del config.harden[name]
    config.attack.targets.sample = 12
    config.attack.bootstrap = 500
    config.survey = 100
