"""The recommenders that are compared, how they are trained, attacked and hardened.

    python -m experiments.victims

Presets, chosen after the colon:

  cpu    Amazon Baby on two CPU cores, one training seed; in three:
         --plan.seeds="(999,1,2)". About 11 hours by what `--list` expects, of which LGMRec,
         DRAGON and LATTICE are 3 and the attacks on MGCN and LightGCN with content 4. These are
         upper ends: trainings stop once they no longer improve. Training and attacks keep little
         more than one core busy, so two of them side by side take hardly longer than one. A
         model that is trained already is taken as it is: --runs freedom=runs/baby_freedom. On
         Sports: --plan.data.name=sports.
  quick  two minutes, on the synthetic default; says nothing about the models.

A victim is {"config": a training config; "model", "pretrain", "eval": what is replaced in it;
"hardened": names of `defenses`; "hardened_epochs"; "members" in place of the plan's, if any;
"seconds": about what an epoch, one of a hardening and a target of PGD take on two cores, for
`--list` alone}. An entry of `defenses` is
{field of config.adversarial: value}; which of them a model can be trained with is said in
docs/victims.md.
"""

from ml_collections import ConfigDict

PRESETS = ("cpu", "quick")


def get_config(preset: str = "cpu") -> ConfigDict:
    """The plan under one of `PRESETS`."""
    if preset not in PRESETS:
        raise ValueError(f"no preset {preset!r}: presets are {', '.join(PRESETS)}")
    quick = preset == "quick"
    plan = ConfigDict()
    plan.data = ConfigDict({"source": "mmrec", "name": "baby", "root": "data"})
    if quick:
        plan.data.source = plan.data.name = "synthetic"
    plan.seeds = (999,)

    plan.policies = ("frozen", "own_row", "full")
    plan.k = 50
    # Two threats: a share of the raw features' length, which every victim's content is; and of
    # each coordinate of z, as published, for those that read z.
    plan.threats = ConfigDict(
        {
            "raw": {"level": "feature", "norm": "l2", "eps": 0.1},
            "z": {"level": "projected", "norm": "linf", "eps": 0.1},
        }
    )
    # Of the suites, those that see what a model reads under the policy; the best on each target.
    plan.members = ("pgd", "relist") if quick else ("pgd", "apgd_elu", "relist")
    plan.target_seed = 0
    plan.targets = 4 if quick else 40
    plan.quantiles = (0.0, 0.5)  # of popularity: the less popular half
    plan.user_share = 0.4
    plan.masked = True  # users who own an item are not shown it
    plan.permutations = 2 if quick else 5  # behind sensitivity
    plan.bootstrap = 100 if quick else 10_000
    plan.timed = 1 if quick else 2  # targets behind seconds a target

    plan.vmapped = 1  # trainings under one vmap
    plan.defenses = ConfigDict(
        {
            "uat_mc": {"defense": "uat_mc"},
            "linearized": {"defense": "linearized", "norm": "linf", "lam": 0.2, "eps": 0.1},
            "exact": {
                "defense": "exact",
                "norm": "linf",
                "lam": 0.1,
                "eps": 0.2,
                "train_projector_head": True,
            },
        }
    )
    plan.victims = ConfigDict(_quick() if quick else _baby())
    return plan


def _baby() -> dict[str, dict]:
    both, slow = ("uat_mc", "linearized"), ("pgd", "relist")
    victims = {
        "vbpr": _victim("vbpr", 100, (9, 1.5, 0.1), hardened=("uat_mc", "exact"), epochs_more=50),
        "mmgcn": _victim("mmgcn", 30, (45, 70, 1), hardened=both, epochs_more=4),
        "lightgcn": _victim("lightgcn", 200, (5, 0, 0.1)),
        "lightgcn_content": _victim(
            "lightgcn", 200, (9, 40, 1), hardened=both, epochs_more=5, model={"content": True}
        ),
        "mmgcf": _victim("mmgcf", 100, (8, 40, 0.1), hardened=both, epochs_more=5),
        "bm3": _victim("bm3", 100, (5, 0, 0.1)),
        "freedom": _victim("freedom", 150, (4, 0, 1)),
        "mgcn": _victim("mgcn", 60, (19, 60, 3), hardened=both, epochs_more=4),
        "lattice": _victim("lattice", 100, (11, 0, 15), members=slow),
        "lgmrec": _victim("lgmrec", 60, (42, 0, 15), members=slow),
        "dragon": _victim("dragon", 100, (23, 0, 10), members=slow),
    }
    victims["mmgcn"]["eval"] = {"every": 1}  # its best epoch is among the first ten
    return victims


def _victim(
    name: str,
    epochs: int,
    seconds: tuple[float, float, float],
    hardened: tuple[str, ...] = (),
    epochs_more: int = 0,
    model: dict | None = None,
    members: tuple[str, ...] = (),
) -> dict:
    """At most so many epochs, ranked every fifth; seconds of an epoch, a hardening's, a target."""
    epoch, hardening, target = map(float, seconds)
    return {
        "config": f"baby_{name}",
        "model": model or {},
        "pretrain": {"epochs": epochs},
        "eval": {"every": 5},
        "hardened": hardened,
        "hardened_epochs": epochs_more,
        "members": members,
        "seconds": {"epoch": epoch, "hardening": hardening, "target": target},
    }


def _quick() -> dict[str, dict]:
    small = {"epochs": 2, "batch_size": 4096}
    chosen = {
        "vbpr": _victim("vbpr", 2, (1, 1, 1), ("uat_mc",), 1),
        "lightgcn": _victim("lightgcn", 2, (1, 0, 1)),
        "freedom": _victim("freedom", 2, (1, 0, 1)),
        "mgcn": _victim("mgcn", 2, (1, 1, 1), ("linearized",), 1),
    }
    for victim in chosen.values():
        victim["pretrain"] = dict(small)
        victim["model"] = {"dim": 8}
        victim["eval"] = {"every": 1}
    chosen["vbpr"]["model"] = {"dim": 8, "hidden": {"visual": (16,), "textual": (16,)}}
    return chosen
