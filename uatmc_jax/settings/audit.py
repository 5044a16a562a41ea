"""One audit, as its config file names it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from uatmc_jax.checks import at_least, require
from uatmc_jax.settings.attack import AttackRunSettings
from uatmc_jax.settings.experiment import AdversarialSettings, PretrainSettings, Settings

VICTIM = "victim"  # what an audit calls the model audited, among those of `harden`


@dataclasses.dataclass(frozen=True)
class AuditSettings:
    """What is trained, how it is attacked, what hardening is tried, what may be recommended.

    Attributes:
      experiment: the victim's training, and stage 2's defaults.
      victims: {candidate: {field of config.pretrain: value}}; the one with the best
        validation recall@20 is the victim.
      attack: the suite that judges every model, and the attacks named in `other_threats`.
      other_threats: attacks under a threat model of their own, shown beside the suite.
      steps_of: the attack whose utility is shown step by step.
      harden: {entry: {field of config.adversarial: value}}; may be empty. What is not
        named is the experiment's, and mu the victim's in stage 1.
      fit_steps: batch sizes are set so that an epoch has about this many steps; 0
        leaves them.
      fit_users: at most this many users are attacked (a random share); 0 leaves
        `attack.user_share`. With fewer items than K or targets wanted, both are lowered.
      branches: parts that the ball is cut into for the certificate of one edit that is the same
        for all users; more are tighter and take longer.
      survey: random items of any popularity whose certificates are computed.
      accept_recall: a hardened model is recommended only with at least this share of
        the victim's recall@20 on the validation split, ...
      accept_content: ... and of what content contributes to it, on the same split, ...
      accept_reach: ... and with at most this share of the victim's HR under attack.
      listed: items in the report's tables.
      trial: the report is to say that the models are too small to mean anything.
    """

    experiment: Settings
    victims: Mapping[str, Any]
    attack: AttackRunSettings
    other_threats: tuple[str, ...]
    steps_of: str
    harden: Mapping[str, Any]
    fit_steps: int
    fit_users: int
    survey: int
    accept_recall: float
    accept_content: float
    accept_reach: float
    listed: int
    trial: bool
    branches: int = 4

    def __post_init__(self):
        for field in ("fit_steps", "fit_users", "survey"):
            at_least(field, getattr(self, field), 0)
        for field in ("accept_recall", "accept_content", "accept_reach"):
            at_least(field, getattr(self, field), 0)
        at_least("listed", self.listed, 1)
        at_least("branches", self.branches, 1)
        attacks = tuple(self.attack.attacks)
        wanted = f"some of config.attack.attacks: {', '.join(attacks)}"
        require(
            set(self.other_threats) < set(attacks),
            "other_threats",
            self.other_threats,
            wanted + ", but not all",
        )
        require(self.steps_of in attacks, "steps_of", self.steps_of, "one " + wanted[5:])
        one_seed = len(self.attack.seeds) == 1
        require(one_seed, "attack.seeds", self.attack.seeds, "one seed: its users are listed")
        require(len(self.victims) > 0, "victims", dict(self.victims), "at least one candidate")
        for section, kind in (("victims", PretrainSettings), ("harden", AdversarialSettings)):
            known = {field.name for field in dataclasses.fields(kind)}
            for name, fields in getattr(self, section).items():
                right = isinstance(fields, Mapping) and set(fields) <= known
                require(right, f"{section}.{name}", fields, f"fields of {kind.__name__}")
                plain = name.replace("_", "").isalnum() and name != VICTIM
                wanted = f"names of letters, digits and _, other than {VICTIM!r}"
                require(plain, section, name, wanted)
