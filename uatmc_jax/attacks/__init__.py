"""Promotion attacks: what they want, how they search, what they reach, what none can.

Reading order: `utility` and `victim` -> `path` and its three answers (`direct`,
`receptive`, `dense`) -> `craft` -> `evaluate` -> `transfer` -> `certificate` ->
`targets`, `results` and `run` -> `suite` and `verdict`.
"""

from uatmc_jax.attacks.batching import Outcome, attack_targets, join, list_depth
from uatmc_jax.attacks.certificates import Certificate, certify
from uatmc_jax.attacks.perturb import Attack, Strength
from uatmc_jax.attacks.victim import Victim, make_victim

__all__ = [
    "Attack",
    "Certificate",
    "Outcome",
    "Strength",
    "Victim",
    "attack_targets",
    "certify",
    "join",
    "list_depth",
    "make_victim",
]
