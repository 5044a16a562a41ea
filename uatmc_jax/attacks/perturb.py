"""Crafting one target's perturbation: FGSM, PGD and stronger searches on Phi (Section 4).

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
from uatmc_jax.attacks.scoring.protocol import Path
from uatmc_jax.attacks.utility import promotion_utility
from uatmc_jax.attacks.victim import Victim, rows_of
from uatmc_jax.losses import gradient_alignment
from uatmc_jax.models import Modal, Model
from uatmc_jax.models.protocol import PyTree


class Attack(NamedTuple):
    """What shapes the compiled attack.

    Attributes:
      utility: g, "elu", "hinge" or "sigmoid".
      k: K of the threshold s_u^(K).
      norm: of the ball and the steps, "l2" or "linf".
      steps: number of steps n; 1 for FGSM; a random search's proposals.
      restarts: searches from random points of the ball, beside the one from zero.
      keep: of PGD alone: "last" iterate, or the "best" on the way (`ascent.pgd`).
      aligned: add beta * cos(g^v, g^t).
      level: what is perturbed, z ("projected") or the raw features ("feature").
      modalities: indices of the perturbed ones, in order.
      search: "pgd" (`ascent.pgd`), "apgd" or "random" (those of `ascent`).
    """

    utility: str
    k: int
    norm: str
    steps: int
    restarts: int
    keep: str
    aligned: bool
    level: str
    modalities: tuple[int, ...]
    search: str = "pgd"


@flax.struct.dataclass
class Strength:
    """Scalars of an attack; arrays, so that a grid over them compiles once.

    Attributes:
      eps: radius as a share of the perturbed row's 2-norm.
      step_size: of PGD alone: length of a step as a share of the radius.
      margin: of the hinge; the sigmoid's width.
      beta: weight of the alignment term.
    """

    eps: jax.Array
    step_size: jax.Array
    margin: jax.Array
    beta: jax.Array


class Crafted(NamedTuple):
    """One target's perturbation.

    Attributes:
      delta: (1, dim_m) for each perturbed modality, at the attack's level.
      z: modal, (1, d), the target's content under attack.
      utility: () Phi at `z`.
      values: (steps + 1,) Phi along the search that was kept; of a random search
        the highest so far.
    """

    delta: Modal
    z: Modal
    utility: jax.Array
    values: jax.Array


def perturbed_content(
    model: Model, attack: Attack, victim: Victim, item: jax.Array, delta: Modal
) -> Modal:
    """z'_t, modal (1, d), of a target whose rows are moved by delta.

    Args:
      model: the recommender.
      attack: names level and modalities.
      victim: the model's clean tables.
      item: () int32 target.
      delta: (1, dim_m) for each of the attack's modalities.
    """
    z = list(rows_of(victim.z, item))
    if attack.level == "projected":
        for m, change in zip(attack.modalities, delta, strict=True):
            z[m] = z[m] + change
        return tuple(z)
    raw = list(rows_of(victim.features, item))
    for m, change in zip(attack.modalities, delta, strict=True):
        raw[m] = raw[m] + change
    projected = model.project(victim.projectors, tuple(raw))
    return tuple(projected[m] if m in attack.modalities else z[m] for m in range(len(z)))


def source_rows(attack: Attack, victim: Victim, item: jax.Array) -> Modal:
    """The rows whose 2-norms set the radii, (1, dim_m) for each of the attack's modalities."""
    tables = victim.z if attack.level == "projected" else victim.features
    rows = rows_of(tables, item)
    return tuple(rows[m] for m in attack.modalities)


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


def make_utility(
    model: Model,
    path: Path,
    attack: Attack,
    victim: Victim,
    strength: Strength,
    site: PyTree,
    weights: jax.Array,
) -> Callable[[Modal], jax.Array]:
    """z'_t, modal (1, d) -> () Phi; arguments as of `craft`."""

    def utility(z: Modal) -> jax.Array:
        excess = path.excess(model, victim, site, z)
        return promotion_utility(excess, weights, attack.utility, strength.margin)

    return utility


def make_objective(
    model: Model,
    path: Path,
    attack: Attack,
    victim: Victim,
    strength: Strength,
    site: PyTree,
    item: jax.Array,
    weights: jax.Array,
) -> Callable[[Modal], Look]:
    """delta -> what one step of the attack on this target goes by; arguments as of `craft`."""

    utility = make_utility(model, path, attack, victim, strength, site, weights)

    def ascended(delta: Modal) -> tuple[jax.Array, tuple[jax.Array, Modal]]:
        z = perturbed_content(model, attack, victim, item, delta)
        if not attack.aligned:
            value = utility(z)
            return value, (value, z)
        value, gradients = jax.value_and_grad(utility)(z)
        chosen = tuple(gradients[m] for m in attack.modalities)
        alignment = gradient_alignment(chosen, jnp.ones(1, bool))
        return value + strength.beta * alignment, (value, z)

    def look(delta: Modal) -> Look:
        direction, (value, z) = jax.grad(ascended, has_aux=True)(delta)
        return Look(value, direction, z)

    return look


def craft(
    model: Model,
    path: Path,
    attack: Attack,
    victim: Victim,
    strength: Strength,
    site: PyTree,
    item: jax.Array,
    weights: jax.Array,
    key: jax.Array,
) -> Crafted:
    """The strongest perturbation found for one target.

    Args:
      model: the recommender.
      path: how its scores are got.
      attack: static choices.
      victim: the clean model and the users.
      strength: eps, step size, margin, beta.
      site: `path.prepare` of the target.
      item: () int32 target.
      weights: (n,) of the users in Phi.
      key: of the random starts and of a random search.
    """
    given = (model, path, attack, victim, strength, site)
    utility = make_utility(*given, weights)
    objective = make_objective(*given, item, weights)
    rows = source_rows(attack, victim, item)
    radius = ascent.radii(rows, strength.eps)
    shared = {"steps": attack.steps, "norm": attack.norm}

    def value_of(delta: Modal) -> jax.Array:
        return utility(perturbed_content(model, attack, victim, item, delta))

    def look(delta: Modal) -> tuple[jax.Array, Modal]:
        return objective(delta)[:2]

    def run(start: Modal, key: jax.Array) -> tuple[Modal, jax.Array, jax.Array]:
        if attack.search == "random":
            return ascent.random_search(value_of, start, radius, key, **shared)
        if attack.search == "apgd":
            return ascent.apgd(look, start, radius, **shared)
        step_size, keep_best = strength.step_size, attack.keep == "best"
        return ascent.pgd(look, start, radius, step_size=step_size, keep_best=keep_best, **shared)

    starts = [jax.tree.map(jnp.zeros_like, rows)] + [
        ascent.random_start(jax.random.fold_in(key, n), radius, rows, attack.norm)
        for n in range(attack.restarts)
    ]
    keys = jax.random.split(jax.random.fold_in(key, attack.restarts), len(starts))
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *starts)
    found = jax.lax.map(lambda given: run(*given), (stacked, keys))
    best = jnp.argmax(found[1])  # a value that is not a number comes first, and so surfaces
    delta, value, values = jax.tree.map(lambda x: x[best], found)
    z = perturbed_content(model, attack, victim, item, delta)
    return Crafted(delta, z, value, values)
