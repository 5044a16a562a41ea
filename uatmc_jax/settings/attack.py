"""One evaluation by attacks, as its config file names it."""

import dataclasses
from collections.abc import Mapping

from uatmc_jax.ascent import NORMS
from uatmc_jax.defenses import LEVELS
from uatmc_jax.settings.reading import at_least, is_count, one_of, positive, require

RULES = ("count", "quantile", "ids")
UTILITIES = ("elu", "hinge", "sigmoid")
SEARCHES = ("pgd", "apgd", "random")
KEEPS = ("last", "best")
PATHS = ("auto", "dense")


@dataclasses.dataclass(frozen=True)
class TargetSettings:
    """Which items are attacked.

    Attributes:
      rule: "count": items with exactly `count` interactions, all splits counted;
        "quantile": items between two quantiles of popularity; "ids": those named.
      count: interactions.
      quantiles: (low, high) of the number of interactions, 0 the least popular.
      ids: the shop's ids (ASINs) of the items, their titles, or '#908' for item number 908;
        see `data.resolve_items`.
      sample: how many to draw, anew for each seed; 0 for all, as always with "ids".
    """

    rule: str
    count: int
    quantiles: tuple[float, ...]
    ids: tuple[str, ...]
    sample: int

    def __post_init__(self):
        one_of("targets.rule", self.rule, RULES)
        at_least("targets.count", self.count, 0)
        at_least("targets.sample", self.sample, 0)
        numbers = [q for q in self.quantiles if isinstance(q, int | float)]
        right = len(numbers) == len(self.quantiles) == 2 and 0 <= numbers[0] <= numbers[1] <= 1
        wanted = "(low, high) with 0 <= low <= high <= 1"
        require(right, "targets.quantiles", self.quantiles, wanted)
        right = self.rule != "ids" or len(self.ids) > 0
        require(right, "targets.ids", self.ids, "at least one item under targets.rule = 'ids'")


@dataclasses.dataclass(frozen=True)
class AttackSettings:
    """One attack: its threat model and how it searches.

    Attributes:
      utility: g of Eq. 3, "elu", "hinge" or "sigmoid".
      margin: of the hinge; the sigmoid's width, above 0. In units of the scores.
      k: K of the threshold s_u^(K) that the attack wants to pass.
      norm: of the ball and the steps, "l2" or "linf".
      eps: radius as a share of the perturbed row's 2-norm.
      steps: number of steps; 1 for FGSM; a random search's proposals.
      step_size: of "pgd" alone: length of a step as a share of the radius.
      restarts: searches from random points of the ball beside the one from zero.
      keep: of "pgd" alone: "last" iterate, or the "best" among the iterates and
        FGSM's point. The other searches keep the best.
      beta: weight of the alignment term; 0 leaves it out. None in a random search.
      level: perturb z ("projected") or the raw features ("feature").
      modalities: names of those perturbed; empty for all.
      search: "pgd" in steps of one length, "apgd" (`ascent.apgd`), or "random", by
        values of Phi alone (`ascent.random_search`).
      surrogate: name of the model that the perturbation is crafted on and carried
        over from; empty for the model under attack itself.
    """

    utility: str
    margin: float
    k: int
    norm: str
    eps: float
    steps: int
    step_size: float
    restarts: int
    keep: str
    beta: float
    level: str
    modalities: tuple[str, ...]
    search: str = "pgd"
    surrogate: str = ""

    def __post_init__(self):
        one_of("SECTION.utility", self.utility, UTILITIES)
        one_of("SECTION.search", self.search, SEARCHES)
        one_of("SECTION.norm", self.norm, NORMS)
        one_of("SECTION.keep", self.keep, KEEPS)
        one_of("SECTION.level", self.level, LEVELS)
        for field in ("margin", "eps", "beta", "restarts"):
            at_least(f"SECTION.{field}", getattr(self, field), 0)
        for field in ("k", "steps"):
            at_least(f"SECTION.{field}", getattr(self, field), 1)
        positive("SECTION.step_size", self.step_size)
        width = self.utility != "sigmoid" or self.margin > 0
        require(width, "SECTION.margin", self.margin, "a width > 0 under utility = 'sigmoid'")
        plain = self.search != "random" or self.beta == 0
        require(plain, "SECTION.beta", self.beta, "0 under search = 'random', without gradients")
        once = len(set(self.modalities)) == len(self.modalities)
        require(once, "SECTION.modalities", self.modalities, "each modality once")


@dataclasses.dataclass(frozen=True)
class AttackRunSettings:
    """What is attacked, how, and how it is measured.

    Attributes:
      seeds: each draws its own targets, users and random starts.
      targets: which items.
      user_share: share of the users the attacks are crafted on and measured on.
      masked: leave training items out of the ranking (the published code does not).
      ks: K of the hit rates.
      ranks: also report mean ranks.
      path: "auto", or "dense" to encode and rank everything at every step.
      memory_mib: for a batch of targets; 0 picks 64 on a CPU, 4096 elsewhere.
      bootstrap: resamples behind each interval.
      cold_count: items with at most this many training interactions are cold.
      attacks: by name.
    """

    seeds: tuple[int, ...]
    targets: TargetSettings
    user_share: float
    masked: bool
    ks: tuple[int, ...]
    ranks: bool
    path: str
    memory_mib: float
    bootstrap: int
    cold_count: int
    attacks: Mapping[str, AttackSettings]

    def __post_init__(self):
        right = len(self.seeds) > 0 and all(
            isinstance(s, int) and not isinstance(s, bool) and 0 <= s < 2**32 for s in self.seeds
        )
        require(right, "seeds", self.seeds, "at least one integer in [0, 2^32)")
        require(len(set(self.seeds)) == len(self.seeds), "seeds", self.seeds, "each seed once")
        require(0 < self.user_share <= 1, "user_share", self.user_share, "a number in (0, 1]")
        right = len(self.ks) > 0 and all(is_count(k) for k in self.ks)
        require(right and len(set(self.ks)) == len(self.ks), "ks", self.ks, "positive integers")
        one_of("path", self.path, PATHS)
        for field in ("memory_mib", "cold_count"):
            at_least(field, getattr(self, field), 0)
        at_least("bootstrap", self.bootstrap, 1)
        require(len(self.attacks) > 0, "attacks", dict(self.attacks), "at least one attack")
