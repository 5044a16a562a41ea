"""Defences: what the adversarial stage adds to L_BPR + mu L_reg so that the model resists.

In reading order: `step` (one batch as every defence sees it), `perturbed` (train on
perturbed items: UAT, UAT-MC, noise, dropout), `worst_case` (train on a bound of all
perturbations: exact, shaped, linearized), `shapes` (the balls of shaped), `balance` (one
modality holds what another can lose: balancing), `penalties` (spectral, mirror), `objective`
(their sum), `settings` (stage 2's, and what a training takes of them), `kinds` (each by its
name).
"""

from uatmc_jax.defenses.kinds import (
    balancing,
    dropout,
    exact,
    linearized,
    mirror,
    noise,
    none,
    shaped,
    spectral,
    uat,
    uat_mc,
)
from uatmc_jax.defenses.objective import DEFENSES, ON_FEATURES, adversarial_objective
from uatmc_jax.defenses.settings import (
    SCALARS,
    AdversarialSettings,
    check_model,
    coefficients,
    static_defense,
)
from uatmc_jax.defenses.step import LEVELS, Coefficients, Defense, Frozen, Trained, Whole

__all__ = [
    "DEFENSES",
    "LEVELS",
    "ON_FEATURES",
    "SCALARS",
    "AdversarialSettings",
    "Coefficients",
    "Defense",
    "Frozen",
    "Trained",
    "Whole",
    "adversarial_objective",
    "balancing",
    "check_model",
    "coefficients",
    "dropout",
    "exact",
    "linearized",
    "mirror",
    "noise",
    "none",
    "shaped",
    "spectral",
    "static_defense",
    "uat",
    "uat_mc",
]
