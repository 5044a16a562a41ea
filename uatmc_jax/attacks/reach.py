"""What given perturbations of targets reach: their content, and the users who see them."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.attacks.batching import Options, in_batches, join
from uatmc_jax.attacks.perturb import perturbed_content
from uatmc_jax.attacks.record import Attack, as_compiled
from uatmc_jax.attacks.scoring.protocol import Scorer, Target
from uatmc_jax.attacks.victim import Victim, check_items, check_lists, recommendable, rows_of
from uatmc_jax.models import Modal
from uatmc_jax.numerics import EXACT


@functools.partial(jax.jit, static_argnames=("scorer", "k"))
def _user_hits(victim: Victim, scorer: Scorer, k: int, targets: Target, z: Modal) -> jax.Array:
    """(b, 2, n) whether each target is in each user's top K: clean, and with content z."""

    def one(target: Target, z: Modal) -> jax.Array:
        state = scorer.prepare(victim, target, k, (k,))
        both = jax.tree.map(lambda *x: jnp.stack(x), rows_of(victim.z, target.item), z)
        hits = jax.lax.map(lambda z: scorer.hits(victim, state, z)[:, 0], both)
        return jnp.where(recommendable(victim, target.item), hits.astype(jnp.float32), 0.0)

    with jax.default_matmul_precision(EXACT):
        return jax.vmap(one)(targets, z)


def user_hits(
    victim: Victim, items: np.ndarray, z: Modal, k: int, options: Options | None = None
) -> np.ndarray:
    """Which users have each target in their top K, clean and under attack.

    Args:
      victim: the clean model.
      items: (T,) targets.
      z: modal, (T, d), their content under attack.
      k: the K.
      options: scorer and memory.

    Returns:
      (T, 2, n) bool: before, after.

    Raises:
      InputError: an item that is none, or values that are not finite.
    """
    check_lists(victim, (k,))

    def run(scorer: Scorer, targets: Target, places: np.ndarray) -> jax.Array:
        return _user_hits(victim, scorer, k, targets, tuple(x[places][:, None] for x in z))

    parts = in_batches(victim, items, options or Options(), run, lambda hits: [hits])
    return join((places, hits > 0) for _, places, hits in parts)


def content_under(
    attack: Attack, victim: Victim, items: np.ndarray, delta: Sequence[np.ndarray]
) -> tuple[np.ndarray, ...]:
    """The targets' content under given perturbations.

    Args:
      attack: its level and modalities matter.
      victim: the clean model.
      items: (T,) targets.
      delta: (T, dim_m) for each of the attack's modalities, at its level.

    Returns:
      Modal, (T, d).

    Raises:
      InputError: an item that is none.
    """
    moved = tuple(jnp.asarray(x)[:, None] for x in delta)
    targets = jnp.asarray(check_items(victim, items))
    found = _contents(as_compiled(attack), victim, targets, moved)
    return tuple(np.asarray(x) for x in found)


@jax.jit
def _contents(attack: Attack, victim: Victim, items: jax.Array, delta: Modal) -> Modal:
    with jax.default_matmul_precision(EXACT):
        z = jax.vmap(lambda item, rows: perturbed_content(attack, victim, item, rows))(items, delta)
    return tuple(x[:, 0] for x in z)
