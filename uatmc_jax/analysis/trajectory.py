"""An attack step by step (Appendix B.4): coverage and gradient alignment at every iterate."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax import ascent
from uatmc_jax.attacks.batching import Options, in_batches, join
from uatmc_jax.attacks.outcome import hit_rates
from uatmc_jax.attacks.perturb import aim_at, make_objective, make_utility, source_rows
from uatmc_jax.attacks.record import Attack, as_compiled, require_one_budget
from uatmc_jax.attacks.scoring.protocol import Scorer, Target
from uatmc_jax.attacks.victim import Victim, check_lists, chosen_modalities
from uatmc_jax.losses import gradient_alignment
from uatmc_jax.models import Modal
from uatmc_jax.numerics import EXACT


class Trajectory(NamedTuple):
    """T attacks of S steps each; entry 0 is the clean content.

    Attributes:
      utility: (T, S + 1) Phi.
      hit_rates: (T, S + 1, Ks) user coverage.
      cosine: (T, S + 1) cos(g^v, g^t), g^m = dPhi / dz'_t^m, the mean over pairs.
    """

    utility: np.ndarray
    hit_rates: np.ndarray
    cosine: np.ndarray


def follow(
    attack: Attack, victim: Victim, items: np.ndarray, options: Options | None = None
) -> Trajectory:
    """Ascends from zero as `attack` does and looks at every iterate.

    Args:
      attack: one budget; neither restarts nor `keep` play a part.
      victim: the clean model.
      items: (T,) targets.
      options: K of the hit rates, scorer and memory.

    Raises:
      InputError: several budgets, or values that are not finite.
    """
    require_one_budget(attack)
    options, attack = options or Options(), as_compiled(attack)
    ks = options.ks or (attack.k,)
    check_lists(victim, (*ks, attack.k))

    def run(scorer: Scorer, targets: Target, places: np.ndarray) -> Trajectory:
        del places
        return _batch(attack, victim, scorer, ks, targets)

    parts = in_batches(victim, items, options, run, lambda t: t)
    return join((places, found) for _, places, found in parts)


@functools.partial(jax.jit, static_argnames=("scorer", "ks"))
def _batch(
    attack: Attack, victim: Victim, scorer: Scorer, ks: tuple[int, ...], targets: Target
) -> Trajectory:
    moved = chosen_modalities(victim, attack.modalities)

    def one(target: Target) -> Trajectory:
        aim = aim_at(victim, scorer, target, attack.k, ks)
        objective, utility = (make(attack, victim, aim) for make in (make_objective, make_utility))
        rows = source_rows(attack, victim, target.item)
        radius = ascent.radii(rows, attack.eps)

        def look(delta: Modal, _: None) -> tuple[Modal, Trajectory]:
            seen = objective(delta)
            gradients = jax.grad(utility)(seen.z)
            gradient = tuple(gradients[m] for m in moved)
            rates = hit_rates(victim, aim, seen.z)
            cosine = gradient_alignment(gradient, jnp.ones(1, bool))
            after = ascent.move(delta, seen.direction, radius, attack.step_size, attack.norm)
            return after, Trajectory(seen.value, rates, cosine)

        start = jax.tree.map(jnp.zeros_like, rows)
        return jax.lax.scan(look, start, length=attack.steps + 1)[1]

    with jax.default_matmul_precision(EXACT):
        return jax.vmap(one)(targets)
