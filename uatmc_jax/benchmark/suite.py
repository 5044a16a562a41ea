"""The fixed suite of attacks under one threat model: what a model's robustness is judged by.

Attackers differ in the utility they ascend, in how they search and in what they
know. A single one may fail because its utility is flat where it starts or its
steps are too long; the suite has several, in a fixed order, and the strongest on
each target counts (`verdict.suite_rows`).
"""

from collections.abc import Iterable, Sequence

from uatmc_jax.attacks import Attack, apgd, choosing, copying, fgsm, pgd, random_search

# The gradient attacks within the whole radius make 339 looks at the model, more than
# the random search's 301, so that the verdict may compare them.
_APGD = {"steps": 35, "restarts": 2}
_RANDOM_STEPS = 300
# The narrower, the nearer to the hit rate, and the fewer users with a slope: docs/attacks.md.
_SIGMOID_WIDTH = 0.05


def suite_settings(
    norm: str = "linf",
    eps: float = 0.1,
    k: int = 50,
    level: str = "projected",
    modalities: tuple[str, ...] = (),
    surrogates: Sequence[str] = (),
) -> dict[str, Attack]:
    """The suite's members by name, in the order in which ties are decided.

    fgsm and pgd are the published attacks (at the default threat model exactly
    those of configs/attack.py:published); fgsm_narrow is FGSM with PGD's hinge;
    pgd_half is PGD within half the radius; apgd_* ascend three utilities from
    zero and from two random points each; random knows Phi's values alone;
    transfer_NAME is apgd_elu on the surrogate NAME.

    >>> list(suite_settings(surrogates=("other",)))[-3:]
    ['apgd_sigmoid', 'random', 'transfer_other']

    Args:
      norm: of the ball, "l2" or "linf".
      eps: radius as a share of the perturbed row's 2-norm.
      k: K of the threshold that the attacks want to pass.
      level: perturb z ("projected") or the raw features ("feature").
      modalities: names of those perturbed; empty for all.
      surrogates: names of models to transfer from.

    Raises:
      InputError: a value out of range.
    """
    shared = {"k": k, "norm": norm, "eps": eps, "level": level, "modalities": tuple(modalities)}
    searched = shared | _APGD
    members = {
        "fgsm": fgsm(**shared),
        "fgsm_narrow": fgsm(margin=1.0, **shared),
        "pgd": pgd(**shared),
        "pgd_half": pgd(**shared | {"eps": eps / 2}),
        "apgd_elu": apgd(utility="elu", **searched),
        "apgd_hinge": apgd(utility="hinge", **searched),
        "apgd_sigmoid": apgd(utility="sigmoid", margin=_SIGMOID_WIDTH, **searched),
        "random": random_search(steps=_RANDOM_STEPS, **shared),
    }
    return members | transfers(members["apgd_elu"], surrogates)


def list_suite(eps: float = 0.1, k: int = 50, choose: bool = False) -> dict[str, Attack]:
    """The suite for models whose content acts through lists of neighbours, where ascent is blind.

    relist copies other listings as far as the budget lets it, relist_half half as far; neighbours
    also looks for lists that no copy has, in models in which that is searched.

    Args:
      eps: radius in raw features, l2, as a share of the row's 2-norm; from 2 on any content.
      k: the K.
      choose: with neighbours.

    Raises:
      InputError: a value out of range.
    """
    members = {"relist": copying(eps=eps, k=k), "relist_half": copying(eps=eps / 2, k=k)}
    return members | ({"neighbours": choosing(eps=eps, k=k)} if choose else {})


def transfers(attack: Attack, surrogates: Sequence[str]) -> dict[str, Attack]:
    """The same attack crafted on each surrogate, {"transfer_NAME": ...}.

    Args:
      attack: to carry over.
      surrogates: their names.
    """
    return {f"transfer_{name}": attack.replace(surrogate=name) for name in surrogates}


ORDER = tuple(suite_settings())


def in_order(names: Iterable[str]) -> list[str]:
    """The names as the suite has them, then the others, transfers among them, as they come.

    >>> in_order(["transfer_other", "random", "fgsm"])
    ['fgsm', 'random', 'transfer_other']
    """
    return sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))
