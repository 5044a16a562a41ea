"""The scorer of any model: encode the whole graph and rank every item, for each look.

The item at place K is found without a gradient, in blocks of users; then the
threshold s_u^(K) = <h_u, h_kappa(u)> is differentiated like any other score. The
other scorers are tested against this one.
"""

import flax.struct
import jax
import jax.numpy as jnp

from uatmc_jax.attacks.scoring.protocol import Scorer, Target
from uatmc_jax.attacks.victim import Victim
from uatmc_jax.evaluation.ranking import count_at_least, top_k
from uatmc_jax.models import Embeddings, Modal


@flax.struct.dataclass
class ScorerState:
    """What does not change while a target is perturbed.

    Attributes:
      item: () int32.
      k: of the attack (static).
      ks: of the evaluation (static).
    """

    item: jax.Array
    k: int = flax.struct.field(pytree_node=False)
    ks: tuple[int, ...] = flax.struct.field(pytree_node=False)


def _prepare(victim: Victim, target: Target, k: int, ks: tuple[int, ...]) -> ScorerState:
    del victim
    return ScorerState(target.item, k, ks)


def _embed(victim: Victim, state: ScorerState, z: Modal) -> Embeddings:
    replaced = tuple(
        table.at[state.item].set(row[0]) for table, row in zip(victim.z, z, strict=True)
    )
    user, item = victim.model.encode(victim.encoder, replaced, victim.graph)
    return Embeddings(user[victim.users], item)


def _excess(victim: Victim, state: ScorerState, z: Modal) -> jax.Array:
    user, item = _embed(victim, state, z)
    fixed = jax.lax.stop_gradient((user, item))
    _, best = top_k(*fixed, victim.plan, state.k)
    return jnp.sum(user * (item[state.item] - item[best[:, -1]]), axis=1)


def _hits(victim: Victim, state: ScorerState, z: Modal) -> jax.Array:
    user, item = _embed(victim, state, z)
    scores = user @ item[state.item]
    ahead = count_at_least(user, item, victim.plan, scores[:, None], state.item[None])
    return ahead < jnp.array(state.ks)


def _bytes_per_target(victim: Victim, sizes: tuple[int, ...]) -> int:
    """Activations of a forward and a backward pass, and one block of scores."""
    del sizes
    n_nodes = victim.graph.n_users + victim.graph.n_items
    width = victim.item.shape[1] + sum(z.shape[1] for z in victim.z)
    scores = victim.plan.block_users * victim.plan.block_items
    return 4 * (20 * n_nodes * width + 3 * scores)


DENSE = Scorer("dense", _prepare, _excess, _hits, _embed, _bytes_per_target)
