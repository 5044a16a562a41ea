"""An attack step by step (Appendix B.4): coverage and gradient alignment at every iterate."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax import ascent
from uatmc_jax.attacks.batching import hit_rates, in_batches, join, path_of
from uatmc_jax.attacks.perturb import Attack, Strength, make_objective, make_utility, source_rows
from uatmc_jax.attacks.scoring.protocol import Path, Target
from uatmc_jax.attacks.victim import EXACT, Victim, recommendable
from uatmc_jax.losses import gradient_alignment
from uatmc_jax.models import Adjacency, Modal, Model


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
    model: Model,
    attack: Attack,
    strength: Strength,
    victim: Victim,
    items: np.ndarray,
    ks: Sequence[int],
    *,
    adjacency: Adjacency | None = None,
    path: str = "auto",
    memory_mib: float = 1024.0,
) -> Trajectory:
    """Ascends from zero as `attack` does and looks at every iterate.

    Args:
      model: the recommender.
      attack: static choices; neither restarts nor `keep` play a part.
      strength: eps, step size, margin, beta.
      victim: the clean model, with `list_depth` best items kept.
      items: (T,) targets.
      ks: K of the hit rates.
      adjacency: of the training graph; needed by models with `field`.
      path: "auto" or "dense".
      memory_mib: for a batch.

    Raises:
      InputError: values that are not finite.
    """
    ks = tuple(ks)

    def run(path: Path, targets: Target, places: np.ndarray) -> Trajectory:
        del places
        return _batch(model, path, attack, ks, victim, strength, targets)

    parts = in_batches(
        model, victim, adjacency, items, path_of(model, path), memory_mib, run, lambda t: t
    )
    return join((places, found) for _, places, found in parts)


@functools.partial(jax.jit, static_argnames=("model", "path", "attack", "ks"))
def _batch(
    model: Model,
    path: Path,
    attack: Attack,
    ks: tuple[int, ...],
    victim: Victim,
    strength: Strength,
    targets: Target,
) -> Trajectory:
    def one(target: Target) -> Trajectory:
        item = target.item
        site = path.prepare(model, victim, target, attack.k, ks)
        weights = recommendable(victim, item).astype(jnp.float32)
        given = (victim, strength, site, item, weights)
        objective = make_objective(model, path, attack, *given)
        utility = make_utility(model, path, attack, victim, strength, site, weights)
        rows = source_rows(attack, victim, item)
        radius = ascent.radii(rows, strength.eps)

        def look(delta: Modal, _: None) -> tuple[Modal, Trajectory]:
            seen = objective(delta)
            gradients = jax.grad(utility)(seen.z)
            gradient = tuple(gradients[m] for m in attack.modalities)
            rates = hit_rates(model, path, victim, site, item, seen.z)
            cosine = gradient_alignment(gradient, jnp.ones(1, bool))
            after = ascent.move(delta, seen.direction, radius, strength.step_size, attack.norm)
            return after, Trajectory(seen.value, rates, cosine)

        start = jax.tree.map(jnp.zeros_like, rows)
        return jax.lax.scan(look, start, length=attack.steps + 1)[1]

    with jax.default_matmul_precision(EXACT):
        return jax.vmap(one)(targets)
