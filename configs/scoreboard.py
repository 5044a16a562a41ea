"""The defences that are compared, how they are trained and how they are judged.

    python -m experiments.scoreboard --config configs/baby_vbpr.py

Presets, chosen after the colon:

  cpu        VBPR on two CPU cores: the training config's stage 1, three seeds, 50 hardened
             epochs, the whole suite on 100 targets. On Baby about a minute for an entry and
             seed, fifteen for a stage 1.
  cpu_mmgcn  MMGCN, whose epoch takes a minute: one seed, 6 + 2 epochs, 10 targets, the
             suite's cheaper members.
  gpu_mmgcn  the same in minutes of one GPU: the config's stage 1, three seeds, 10 hardened
             epochs, 100 targets.
  quick      minutes, on the synthetic default; says nothing about defences.

An entry is {field of config.adversarial: value}; what is not named is the training
config's. `--board.entries.exact_half.eps=0.03` and the like change one.
"""

from ml_collections import ConfigDict

PRESETS = ("cpu", "cpu_mmgcn", "gpu_mmgcn", "quick")


def get_config(preset: str = "cpu") -> ConfigDict:
    """The board under one of `PRESETS`."""
    if preset not in PRESETS:
        raise ValueError(f"no preset {preset!r}: presets are {', '.join(PRESETS)}")
    board = ConfigDict()
    # Of the training config, what is replaced; 0 leaves it.
    board.pretrain_epochs = {"cpu_mmgcn": 6, "quick": 12}.get(preset, 0)
    board.nce_items = 2048 if preset == "cpu_mmgcn" else 0
    board.adversarial_epochs = {"cpu": 50, "cpu_mmgcn": 2, "gpu_mmgcn": 10, "quick": 2}[preset]
    board.vmapped = 1 if preset == "cpu_mmgcn" else 4  # trainings under one vmap
    board.seeds = {"cpu_mmgcn": (999,), "quick": (999, 1)}.get(preset, (999, 1, 2))

    board.target_seed = 0
    board.targets = {"cpu_mmgcn": 10, "quick": 12}.get(preset, 100)
    board.bootstrap = 500 if preset == "quick" else 10_000
    board.norm = "linf"
    board.eps = 0.1
    board.k = 50
    board.members = ()  # of the suite; all
    entries = _vbpr()
    if preset in ("cpu_mmgcn", "gpu_mmgcn"):
        board.members = ("fgsm", "pgd", "apgd_elu")
        entries = _mmgcn()
    if preset == "quick":
        chosen = ("uat_mc", "exact_half", "exact_half_learned_z")
        entries = {name: entries[name] for name in chosen}
    board.entries = ConfigDict(entries)
    return board


def _vbpr() -> dict[str, dict]:
    whole_z = {"train_projector_head": True}
    return {
        # The paper's, as published, and in the attack's own ball.
        "uat": {"defense": "uat"},
        "uat_mc": {"defense": "uat_mc"},
        "uat_mc_linf_half": _linf("uat_mc", 1.0, 0.05),
        # What people would ask for.
        "amr": {"defense": "uat", "lam": 1.0, "eps": 0.1, "modalities": ("visual",)},
        "noise": _linf("noise", 1.0, 0.1),
        "mirror": {"defense": "mirror", "lam": 0.5, "eps": 0.1},
        "balancing": _balancing(0.01),
        "balancing_strong": _balancing(1.0),
        # The closed form, by the size of its ball; smaller for unpopular items.
        "exact_mild": _linf("exact", 1.0, 0.03),
        "exact_half": _linf("exact", 1.0, 0.05),
        "exact_wide": _linf("exact", 0.2, 0.2),
        "exact_half_tail": _linf("exact", 1.0, 0.05, eps_tail=0.5),
        # z learned anew, without a defence and with one.
        "learned_z": {"defense": "none", **whole_z},
        "exact_half_learned_z": _linf("exact", 1.0, 0.05, **whole_z),
        "exact_light_learned_z": _linf("exact", 0.1, 0.2, **whole_z),
    }


def _balancing(lam: float) -> dict:
    """Pictures are the sensitive content; steps as of the re-implementation that was read."""
    chosen = {"modalities": ("visual",), "norm": "linf", "eps": 0.1, "steps": 10, "step_size": 0.1}
    return {"defense": "balancing", "lam": lam, **chosen}


def _mmgcn() -> dict[str, dict]:
    return {
        "uat_mc": {"defense": "uat_mc"},
        "uat_linf": _linf("uat", 0.2, 0.1),
        "uat_linf_strong": _linf("uat", 1.0, 0.1),
        "uat_linf_wide": _linf("uat", 0.2, 0.2),
        "uat_linf_strong_learned_z": _linf("uat", 1.0, 0.1, train_projector_head=True),
        "linearized": _linf("linearized", 0.2, 0.1),
        "linearized_content": _linf("linearized", 0.2, 0.1, content_weight=0.2),
        "linearized_learned_z": _linf("linearized", 0.2, 0.1, train_projector_head=True),
    }


def _linf(kind: str, lam: float, eps: float, **more) -> dict:
    return {"defense": kind, "norm": "linf", "lam": lam, "eps": eps, **more}
