"""One evaluation by attacks, as its config file names it."""

import dataclasses
from collections.abc import Mapping

from uatmc_jax.attacks.batching import SCORERS
from uatmc_jax.attacks.record import Attack, check
from uatmc_jax.checks import at_least, is_count, one_of, require
from uatmc_jax.models import POLICIES
from uatmc_jax.settings.mesh import MeshSettings

RULES = ("count", "quantile", "ids", "pool")


@dataclasses.dataclass(frozen=True)
class TargetSettings:
    """Which items are attacked.

    Attributes:
      rule: "count": items with exactly `count` interactions, all splits counted;
        "quantile": items between two quantiles of popularity; "ids": those named; "pool":
        drawn of those named.
      count: interactions.
      quantiles: (low, high) of the number of interactions, 0 the least popular.
      ids: the shop's ids (ASINs) of the items, their titles, or '#908' for item number 908;
        see `data.resolve_items`.
      sample: how many to draw, anew for each seed; 0 for all, as always with "ids".
      file: of a pool: JSON, a list of item numbers as in the data's .inter, or of the names
        that `ids` takes.
    """

    rule: str
    count: int
    quantiles: tuple[float, ...]
    ids: tuple[str, ...]
    sample: int
    file: str = ""

    def __post_init__(self):
        one_of("targets.rule", self.rule, RULES)
        at_least("targets.count", self.count, 0)
        at_least("targets.sample", self.sample, 0)
        numbers = [q for q in self.quantiles if isinstance(q, int | float)]
        right = len(numbers) == len(self.quantiles) == 2 and 0 <= numbers[0] <= numbers[1] <= 1
        wanted = "(low, high) with 0 <= low <= high <= 1"
        require(right, "targets.quantiles", self.quantiles, wanted)
        right = self.rule != "pool" or (len(self.ids) > 0) != bool(self.file)
        wanted = "items in targets.ids, or a targets.file, and not both, under rule = 'pool'"
        require(right, "targets.ids", self.ids, wanted)
        require(
            not self.file or self.rule == "pool", "targets.file", self.file, "'' under other rules"
        )
        right = self.rule != "ids" or len(self.ids) > 0
        require(right, "targets.ids", self.ids, "at least one item under targets.rule = 'ids'")


@dataclasses.dataclass(frozen=True)
class AttackRunSettings:
    """What is attacked, how, and how it is measured.

    Attributes:
      seeds: each draws its own targets, users and random starts.
      targets: which items.
      user_share: share of the users the attacks are crafted on and measured on.
      redraw: attack the model with new draws of what its published checkpoints leave out
        (MMGCN's P^m), as the published attack does. Use of content is measured of the
        model as it was trained.
      masked: leave training items out of the ranking (the published code does not).
      ks: K of the hit rates.
      ranks: also report mean ranks.
      scorer: "auto", or "dense" to encode and rank everything at every step.
      memory_mib: for a batch of targets; 0 picks 64 on a CPU, 4096 elsewhere.
      bootstrap: resamples behind each interval.
      cold_count: items with at most this many training interactions are cold.
      attacks: by name.
      permutations: exchanges of the items' contents that sensitivity is the mean of.
      mesh: the devices that share rankings and targets.
      serving: of `POLICIES`, what the recommender computes anew once an item is edited.
      collateral: also measure which other items and users an edit moves, under "full".
    """

    seeds: tuple[int, ...]
    targets: TargetSettings
    user_share: float
    masked: bool
    ks: tuple[int, ...]
    ranks: bool
    scorer: str
    memory_mib: float
    bootstrap: int
    cold_count: int
    attacks: Mapping[str, Attack]
    redraw: bool = False
    permutations: int = 20
    mesh: MeshSettings = dataclasses.field(default_factory=MeshSettings)
    serving: str = "full"
    collateral: bool = False

    def __post_init__(self):
        right = len(self.seeds) > 0 and all(
            isinstance(s, int) and not isinstance(s, bool) and 0 <= s < 2**32 for s in self.seeds
        )
        require(right, "seeds", self.seeds, "at least one integer in [0, 2^32)")
        require(len(set(self.seeds)) == len(self.seeds), "seeds", self.seeds, "each seed once")
        require(0 < self.user_share <= 1, "user_share", self.user_share, "a number in (0, 1]")
        right = len(self.ks) > 0 and all(is_count(k) for k in self.ks)
        require(right and len(set(self.ks)) == len(self.ks), "ks", self.ks, "positive integers")
        one_of("scorer", self.scorer, SCORERS)
        one_of("serving", self.serving, POLICIES)
        right = not self.collateral or self.serving == "full"
        wanted = "False under serving = " + repr(self.serving) + ", where no other item moves"
        require(right, "collateral", self.collateral, wanted)
        for field in ("memory_mib", "cold_count"):
            at_least(field, getattr(self, field), 0)
        for field in ("bootstrap", "permutations"):
            at_least(field, getattr(self, field), 1)
        require(len(self.attacks) > 0, "attacks", dict(self.attacks), "at least one attack")
        for name, attack in self.attacks.items():
            check(attack, f"SECTION.attacks.{name}")
