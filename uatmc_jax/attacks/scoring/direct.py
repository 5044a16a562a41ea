"""The scorer of models in which an item's content reaches nothing but its own score.

Only y_ut moves. With o_1 >= o_2 >= ... the clean scores of the *other* items,

    s_u^(K) = clip(y'_ut, o_K, o_{K-1}),    the target is in the top K  <=>  y'_ut > o_K

and the o_k are known from the clean top K + 1: no item-wide work per step.
"""

import flax.struct
import jax
import jax.numpy as jnp

from uatmc_jax.attacks.scoring.protocol import Scorer, Target
from uatmc_jax.attacks.victim import Victim
from uatmc_jax.models import Embeddings, Modal, select
from uatmc_jax.models.protocol import PyTree


@flax.struct.dataclass
class ScorerState:
    """What does not change while a target is perturbed.

    Attributes:
      item: () int32.
      selected: the model's `select` for the target.
      above: (n,) o_{K-1}, of the attack's K.
      below: (n,) o_K.
      bars: (n, Ks) o_K of the evaluation.
    """

    item: jax.Array
    selected: PyTree
    above: jax.Array
    below: jax.Array
    bars: jax.Array


def _prepare(victim: Victim, target: Target, k: int, ks: tuple[int, ...]) -> ScorerState:
    row = target.item[None]
    selected = select(victim.model, victim.encoder, victim.graph, victim.users[:1], row)
    return ScorerState(target.item, selected, *bars(victim, target.item, k, ks))


def bars(
    victim: Victim, target: jax.Array, k: int, ks: tuple[int, ...]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`ScorerState`'s `above`, `below` and `bars`, of rivals that do not move.

    Args:
      victim: the clean model.
      target: () int32.
      k: of the attack.
      ks: of the evaluation.
    """
    others = jnp.stack([nth_other(victim, target, n) for n in ks], axis=1)
    return nth_other(victim, target, k - 1), nth_other(victim, target, k), others


def nth_other(victim: Victim, target: jax.Array, k: int) -> jax.Array:
    """(n,) o_k, each user's k-th largest clean score among the items other than the target.

    o_0 is infinite. Past the last item the score is -inf.

    Args:
      victim: with more than k best items kept.
      target: () int32.
      k: at least 0.
    """
    if k == 0:
        return jnp.full(victim.users.shape, jnp.inf)
    ahead = (victim.best_items[:, :k] == target).any(axis=1)
    return jnp.where(ahead, victim.best_scores[:, k], victim.best_scores[:, k - 1])


def target_item(victim: Victim, state: ScorerState, z: Modal) -> jax.Array:
    """(D,) the target's embedding with content z, modal (1, d)."""
    return victim.model.encode_rows(state.selected, z).item[0]


def _scores(victim: Victim, state: ScorerState, z: Modal) -> jax.Array:
    return victim.user @ target_item(victim, state, z)


def _excess(victim: Victim, state: ScorerState, z: Modal) -> jax.Array:
    scores = _scores(victim, state, z)
    return scores - jnp.clip(scores, state.below, state.above)


def _hits(victim: Victim, state: ScorerState, z: Modal) -> jax.Array:
    return _scores(victim, state, z)[:, None] > state.bars


def _embed(victim: Victim, state: ScorerState, z: Modal) -> Embeddings:
    return Embeddings(victim.user, victim.item.at[state.item].set(target_item(victim, state, z)))


def _bytes_per_target(victim: Victim, sizes: tuple[int, ...]) -> int:
    del sizes
    return 4 * 24 * victim.users.shape[0]


DIRECT = Scorer("direct", _prepare, _excess, _hits, _embed, _bytes_per_target)
