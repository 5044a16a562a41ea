"""One target's perturbation: FGSM, PGD and stronger searches on Phi (Section 4).

    delta <- project(delta + step * direction(grad [ Phi + beta * cos(g^v, g^t) ]))

with g^m = dPhi / dz'_t^m. FGSM is one step of the radius's length. APGD chooses
its own steps, the random search sees Phi alone. Only the target's row is
perturbed; r = eps * ||row||_2 in the ball's own norm.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from uatmc_jax import ascent
from uatmc_jax.attacks.record import Attack, Compiled
from uatmc_jax.attacks.scoring.protocol import Scorer, Target
from uatmc_jax.attacks.utility import promotion_utility
from uatmc_jax.attacks.victim import Victim, chosen_modalities, recommendable, rows_of
from uatmc_jax.losses import gradient_alignment
from uatmc_jax.models import Modal
from uatmc_jax.models.protocol import PyTree


@flax.struct.dataclass
class Aim:
    """A target as an attack on it sees it.

    Attributes:
      scorer: how its scores are got (static).
      state: the scorer's, with the target's `item`.
      weights: (n,) of the users in Phi.
    """

    scorer: Scorer = flax.struct.field(pytree_node=False)
    state: PyTree
    weights: jax.Array


def aim_at(
    victim: Victim,
    scorer: Scorer,
    target: Target,
    k: int,
    ks: tuple[int, ...],
    weights: jax.Array | None = None,
) -> Aim:
    """What does not change while the target is perturbed.

    Args:
      victim: the clean model and the users.
      scorer: how scores are got.
      target: the item.
      k: K of the attack.
      ks: K of the hit rates.
      weights: (n,) of the users in Phi; by default all alike. A user the item cannot
        be recommended to never counts.
    """
    state = scorer.prepare(victim, target, k, ks)
    counted = recommendable(victim, target.item).astype(jnp.float32)
    return Aim(scorer, state, counted if weights is None else counted * weights)


class Perturbed(NamedTuple):
    """One target's perturbation.

    Attributes:
      delta: (1, dim_m) for each perturbed modality, at the attack's level.
      z: modal, (1, d), the target's content under attack.
      utility: () Phi at `z`.
      values: (steps + 1,) Phi along the search that was kept, 0 past the last step
        taken; of a random search the highest so far.
    """

    delta: Modal
    z: Modal
    utility: jax.Array
    values: jax.Array


def perturbed_content(attack: Attack, victim: Victim, item: jax.Array, delta: Modal) -> Modal:
    """z'_t, modal (1, d), of a target whose rows are moved by delta.

    Args:
      attack: names level and modalities.
      victim: the model's clean tables.
      item: () int32 target.
      delta: (1, dim_m) for each of the attack's modalities.
    """
    moved = chosen_modalities(victim, attack.modalities)
    z = list(rows_of(victim.z, item))
    if attack.level == "projected":
        for m, change in zip(moved, delta, strict=True):
            z[m] = z[m] + change
        return tuple(z)
    raw = list(rows_of(victim.features, item))
    for m, change in zip(moved, delta, strict=True):
        raw[m] = raw[m] + change
    projected = victim.model.project(victim.projectors, tuple(raw))
    return tuple(projected[m] if m in moved else z[m] for m in range(len(z)))


def source_rows(attack: Attack, victim: Victim, item: jax.Array) -> Modal:
    """The rows whose 2-norms set the radii, (1, dim_m) for each of the attack's modalities."""
    tables = victim.z if attack.level == "projected" else victim.features
    rows = rows_of(tables, item)
    return tuple(rows[m] for m in chosen_modalities(victim, attack.modalities))


class Look(NamedTuple):
    """What an ascent sees at one perturbation.

    Attributes:
      value: () Phi.
      direction: gradient of the ascended objective, as delta.
      z: modal, (1, d), the content there.
    """

    value: jax.Array
    direction: Modal
    z: Modal


def make_utility(attack: Compiled, victim: Victim, aim: Aim) -> Callable[[Modal], jax.Array]:
    """z'_t, modal (1, d) -> () Phi; arguments as of `perturb`."""
    kind = attack.utility if attack.gain is None else attack.gain

    def utility(z: Modal) -> jax.Array:
        excess = aim.scorer.excess(victim, aim.state, z)
        return promotion_utility(excess, aim.weights, kind, attack.margin)

    return utility


def make_objective(attack: Compiled, victim: Victim, aim: Aim) -> Callable[[Modal], Look]:
    """delta -> what one step of the attack on this target goes by; arguments as of `perturb`."""
    utility = make_utility(attack, victim, aim)

    def ascended(delta: Modal) -> tuple[jax.Array, tuple[jax.Array, Modal]]:
        z = perturbed_content(attack, victim, aim.state.item, delta)
        if attack.beta is None:
            value = utility(z)
            return value, (value, z)
        value, gradients = jax.value_and_grad(utility)(z)
        chosen = tuple(gradients[m] for m in chosen_modalities(victim, attack.modalities))
        alignment = gradient_alignment(chosen, jnp.ones(1, bool))
        return value + attack.beta * alignment, (value, z)

    def look(delta: Modal) -> Look:
        direction, (value, z) = jax.grad(ascended, has_aux=True)(delta)
        return Look(value, direction, z)

    return look


def perturb(attack: Compiled, victim: Victim, aim: Aim, key: jax.Array) -> Perturbed:
    """The strongest perturbation found for one target.

    Args:
      attack: as `record.as_compiled` or `record.in_one_program` gives it, one budget.
      victim: the clean model and the users.
      aim: the target.
      key: of the random starts and of a random search.
    """
    item = aim.state.item
    utility, objective = make_utility(attack, victim, aim), make_objective(attack, victim, aim)
    rows = source_rows(attack, victim, item)
    radius = ascent.radii(rows, attack.eps)
    shared = {"steps": attack.steps, "norm": attack.norm}

    def value_of(delta: Modal) -> jax.Array:
        return utility(perturbed_content(attack, victim, item, delta))

    def look(delta: Modal) -> tuple[jax.Array, Modal]:
        return objective(delta)[:2]

    def run(start: Modal, key: jax.Array) -> tuple[Modal, jax.Array, jax.Array]:
        if attack.search == "random":
            return ascent.random_search(value_of, start, radius, key, **shared)
        if attack.search == "apgd":
            return ascent.apgd(look, start, radius, **shared)
        taken = attack.steps if attack.steps_taken is None else attack.steps_taken
        chosen = shared | {"steps": ascent.Steps(taken, attack.steps)}
        keep_best = attack.keep == "best"
        return ascent.pgd(
            look, start, radius, step_size=attack.step_size, keep_best=keep_best, **chosen
        )

    starts = [jax.tree.map(jnp.zeros_like, rows)] + [
        ascent.random_start(jax.random.fold_in(key, n), radius, rows, attack.norm)
        for n in range(attack.restarts)
    ]
    keys = jax.random.split(jax.random.fold_in(key, attack.restarts), len(starts))
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *starts)
    found = jax.lax.map(lambda given: run(*given), (stacked, keys))
    best = jnp.argmax(found[1])  # a value that is not a number comes first, and so surfaces
    delta, value, values = jax.tree.map(lambda x: x[best], found)
    z = perturbed_content(attack, victim, item, delta)
    return Perturbed(delta, z, value, values)
