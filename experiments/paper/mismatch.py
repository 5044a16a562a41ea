"""What Figures 1, 3 and 8 share: the undefended model, its targets, the users behind gradients."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from experiments.study import UNDEFENDED, Study, attack_settings, open_case
from uatmc_jax.analysis.mismatch import Mismatch, measure_mismatch
from uatmc_jax.attacks.victim import Victim
from uatmc_jax.benchmark.run import Case, batch_memory_mib, static_attack, victim_of
from uatmc_jax.benchmark.targets import choose_targets
from uatmc_jax.settings import AttackRunSettings


class Scene(NamedTuple):
    """One seed's targets and users on the undefended model."""

    seed: int
    case: Case
    victim: Victim
    items: np.ndarray


def scenes(study: Study, settings: AttackRunSettings) -> Iterator[Scene]:
    """One scene for each of the settings' seeds."""
    case = open_case(study, UNDEFENDED)
    for seed in settings.seeds:
        items = choose_targets(settings.targets, study.dataset, seed)
        yield Scene(seed, case, victim_of(case, settings, settings.attacks, seed), items)


def analysed(study: Study) -> AttackRunSettings:
    """FGSM under the two utilities whose gradients Eqs. 5 to 7 are taken of, K = 50.

    The published hinge counts every user within its margin of 10 alike; CLeaR's elu
    weights her by exp(x_u), by how near the target is to her list.
    """
    elu = {"base": "fgsm", "utility": "elu", "margin": 0.0}
    return attack_settings(
        study, study.plan.grid_seeds, {"fgsm": {"base": "fgsm"}, "fgsm_elu": elu}
    )


UTILITIES = {"fgsm": "hinge with margin 10", "fgsm_elu": "elu"}


def mismatch_of(study: Study, scene: Scene, name: str) -> Mismatch:
    """Every user's contribution to the gradients of the scene's targets, for one of `UTILITIES`."""
    settings = analysed(study)
    attack, strength = static_attack(settings.attacks[name], study.dataset.modalities)
    return measure_mismatch(
        scene.case.restored.model,
        attack,
        strength,
        scene.victim,
        scene.items,
        adjacency=scene.case.adjacency,
        memory_mib=batch_memory_mib(settings),
    )
