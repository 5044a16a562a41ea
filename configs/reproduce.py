"""How much of the paper is computed, and how closely to its protocol.

    python -m experiments.reproduce --config configs/baby_vbpr.py
    python -m experiments.reproduce --config configs/baby_vbpr.py \
        --plan configs/reproduce.py:published

Presets, chosen after the colon:

  cpu        hours on two CPU cores, three training seeds.
  cpu_mmgcn  the same for MMGCN, whose epoch takes half a minute: 4 hardened epochs, targets of
             one seed, every second point of the lambda and beta grids, epoch by epoch the
             variants that differ in MMGCN.
  gpu_mmgcn  the same with 10 hardened epochs, in minutes of one GPU.
  published  nothing is shortened; for a GPU, or days.
  quick      minutes, on the synthetic default; says nothing about the paper.
"""

from ml_collections import ConfigDict

PRESETS = ("cpu", "cpu_mmgcn", "gpu_mmgcn", "published", "quick")


def get_config(preset: str = "cpu") -> ConfigDict:
    """The plan under one of `PRESETS`."""
    if preset not in PRESETS:
        raise ValueError(f"no preset {preset!r}: presets are {', '.join(PRESETS)}")
    plan = ConfigDict()
    # Of the training config, what is replaced; 0 leaves it.
    plan.pretrain_epochs = 12 if preset == "quick" else 0
    plan.nce_items = 0
    plan.adversarial_epochs = {"cpu_mmgcn": 4, "gpu_mmgcn": 10, "quick": 2}.get(preset, 50)
    plan.vmapped = 1 if preset == "cpu_mmgcn" else 4  # trainings under one vmap
    plan.training_seeds = (999, 1, 2)  # of what is said of a defence
    plan.alphas = (0.0, 0.001, 0.1, 1.0)  # of InfoNCE, where the mismatch is looked for
    plan.curve_variants = ()  # of experiments/paper/epochs.py; all
    plan.curve_epochs = (1, 2, 3, 4, 6, 8, 10, 12, 14, 16, 20, 25, 30, 40, 50)

    plan.target_seeds = tuple(range(10))  # of Table 2
    plan.grid_seeds = (0, 1, 2)  # of everything else
    plan.targets = 100
    plan.bootstrap = 10_000
    plan.permutations = 3 if preset == "quick" else 20  # behind sensitivity
    plan.eps = (0.025, 0.05, 0.075, 0.1)
    plan.lams = (0.1, *map(float, range(1, 11)))
    plan.betas = tuple(map(float, range(1, 11)))
    plan.attack_beta = 1.0  # of the attacks with L_align; the paper does not say
    plan.attack_betas = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    plan.rho = 0.1  # share of the users in U_v and U_t; the paper does not say
    plan.rhos = (0.01, 0.05, 0.1, 0.2, 0.5)
    plan.case_item = "B004203QQ4"  # where the data set has no such item, the first target
    plan.cost_users = (1_000, 2_000, 4_000, 8_000, 16_000)
    if preset in ("cpu_mmgcn", "gpu_mmgcn"):
        plan.lams, plan.betas = (0.1, 1.0, 3.0, 5.0, 7.0, 9.0), (1.0, 2.0, 4.0, 6.0, 8.0, 10.0)
        plan.target_seeds, plan.grid_seeds, plan.alphas = (0,), (0,), ()
        # The published MMGCN takes the max phase's gradients without a graph, so no other leak.
        plan.curve_variants = ("UAT", "UAT-MC", "leak, beta 0")
        plan.curve_epochs = (1, 2, 3, 4, 6, 8, 10)
    if preset == "quick":
        plan.target_seeds, plan.grid_seeds, plan.targets = (0, 1), (0,), 8
        plan.bootstrap = 500
        plan.eps, plan.lams, plan.betas = (0.05, 0.1), (1.0, 5.0), (1.0, 4.0)
        plan.cost_users = (100, 200)
        plan.training_seeds, plan.curve_epochs = (999, 1), (1, 2)
        plan.curve_variants, plan.alphas = ("UAT", "UAT-MC", "leak, beta 4"), (0.0,)
    return plan
