"""Many targets attacked in one call, within one budget or several."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from uatmc_jax.attacks.batching import Options, join
from uatmc_jax.attacks.outcome import attack_batches
from uatmc_jax.attacks.record import Attack, as_compiled, budgets, checked
from uatmc_jax.attacks.victim import Victim, check_items
from uatmc_jax.seeds import starts_key


@dataclasses.dataclass(frozen=True, eq=False)
class Attacked:
    """What an attack made of T targets.

    With several budgets what depends on them (marked *) has their axis E first; with
    several K of the hit rates these have the axis Ks last.

    Attributes:
      attack: with its budgets.
      ks: K of the hit rates.
      items: (T,) int32.
      hr_before: (T,) share of the users with the item in their top K.
      hr_after: (T,)*.
      utility_before: (T,) Phi.
      utility_after: (T,)*.
      rank_before: (T,) mean rank; None unless asked for.
      rank_after: (T,)*.
      delta: (T, dim_m)* for each perturbed modality.
      z: modal, (T, d)*, content under attack.
      labels: {"id": (T,), "title": (T,)} names of the items, None where there are none.
    """

    attack: Attack
    ks: tuple[int, ...]
    items: np.ndarray
    hr_before: np.ndarray
    hr_after: np.ndarray
    utility_before: np.ndarray
    utility_after: np.ndarray
    rank_before: np.ndarray | None
    rank_after: np.ndarray | None
    delta: tuple[np.ndarray, ...]
    z: tuple[np.ndarray, ...]
    labels: dict[str, list[str | None]]

    def rows(self) -> list[dict[str, Any]]:
        """One plain dict a budget, target and K: "eps", "item", "id", "title", "k", numbers."""
        eps = np.atleast_1d(np.asarray(self.attack.eps, float))
        several = np.ndim(self.utility_after) == 2
        found = []
        for e in range(len(self.utility_after) if several else 1):
            at = e if several else ...
            for n, item in enumerate(self.items.tolist()):
                for i, k in enumerate(self.ks):
                    rates = (np.atleast_2d(x.T).T for x in (self.hr_before, self.hr_after[at]))
                    before, after = (float(x[n, i]) for x in rates)
                    row = {
                        "eps": float(eps[e if len(eps) > 1 else 0]),
                        "item": item,
                        **{name: column[n] for name, column in self.labels.items()},
                        "k": k,
                        "hr_before": before,
                        "hr_after": after,
                        "utility_before": float(self.utility_before[n]),
                        "utility_after": float(self.utility_after[at][n]),
                    }
                    if self.rank_before is not None:
                        row["rank_before"] = float(self.rank_before[n])
                        row["rank_after"] = float(self.rank_after[at][n])
                    found.append(row)
        return found


def attack(
    attack: Attack,
    victim: Victim,
    items: Sequence[int] | np.ndarray,
    *,
    eps: float | Sequence[float] | None = None,
    seed: int = 0,
    weights: np.ndarray | None = None,
    options: Options | None = None,
) -> Attacked:
    """Attacks each target alone; all budgets in one compiled call.

    Args:
      attack: threat model and search.
      victim: the clean model and its users.
      items: (T,) targets.
      eps: budget or (E,) budgets in place of the attack's, as shares of the perturbed
        row's 2-norm.
      seed: of the random starts, as `uatmc attack` has it in config.seeds.
      weights: (T, n) of the users in Phi; by default all alike.
      options: what is measured and how; by default HR at the attack's own K.

    Returns:
      What became of the targets; the axis of the budgets is there if `eps` is a
      sequence, that of the K if `options.ks` names them.

    Raises:
      InputError: a K beyond the lists that the victim keeps, an eps that is no budget, data
        of unlike length, an item or a modality that is none, an attack crafted on a
        surrogate, or values that are not finite.
    """
    options, items = options or Options(), check_items(victim, items)
    if eps is not None:
        several = not isinstance(eps, int | float)
        attack = checked(attack.replace(eps=np.asarray(eps, float) if several else eps))
    parts = attack_batches(attack, victim, items, starts_key(seed), weights, options)
    found = join(list(parts))
    names = victim.dataset.names
    labels = {
        "id": [names.ids.get(item) for item in items.tolist()],
        "title": [names.titles.get(item) for item in items.tolist()],
    }

    def lead(x: np.ndarray) -> np.ndarray:
        return x if budgets(as_compiled(attack)) is None else np.moveaxis(x, 1, 0)

    def rate(x: np.ndarray) -> np.ndarray:
        return x if options.ks else x[..., 0]

    return Attacked(
        attack=attack,
        ks=options.ks or (attack.k,),
        items=items,
        hr_before=rate(found.hr_before),
        hr_after=rate(lead(found.hr_after)),
        utility_before=found.utility_before,
        utility_after=lead(found.utility_after),
        rank_before=found.rank_before,
        rank_after=None if found.rank_after is None else lead(found.rank_after),
        delta=tuple(map(lead, found.delta)),
        z=tuple(map(lead, found.z)),
        labels=labels,
    )
