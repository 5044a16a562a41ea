"""The path of any model: encode the whole graph and rank every item, for each look.

The item at place K is found without a gradient, in blocks of users; then the
threshold s_u^(K) = <h_u, h_kappa(u)> is differentiated like any other score. The
other paths are tested against this one.
"""

import flax.struct
import jax
import jax.numpy as jnp

from uatmc_jax.attacks.scoring.protocol import Path, Target
from uatmc_jax.attacks.victim import Victim
from uatmc_jax.evaluation.ranking import count_at_least, top_k
from uatmc_jax.models import Embeddings, Modal, Model


@flax.struct.dataclass
class Site:
    """What does not change while a target is perturbed.

    Attributes:
      item: () int32.
      k: of the attack (static).
      ks: of the evaluation (static).
    """

    item: jax.Array
    k: int = flax.struct.field(pytree_node=False)
    ks: tuple[int, ...] = flax.struct.field(pytree_node=False)


def _prepare(model: Model, victim: Victim, target: Target, k: int, ks: tuple[int, ...]) -> Site:
    del model, victim
    return Site(target.item, k, ks)


def _embed(model: Model, victim: Victim, site: Site, z: Modal) -> Embeddings:
    replaced = tuple(
        table.at[site.item].set(row[0]) for table, row in zip(victim.z, z, strict=True)
    )
    user, item = model.encode(victim.encoder, replaced, victim.graph)
    return Embeddings(user[victim.users], item)


def _excess(model: Model, victim: Victim, site: Site, z: Modal) -> jax.Array:
    user, item = _embed(model, victim, site, z)
    fixed = jax.lax.stop_gradient((user, item))
    _, best = top_k(*fixed, victim.plan, site.k)
    return jnp.sum(user * (item[site.item] - item[best[:, -1]]), axis=1)


def _hits(model: Model, victim: Victim, site: Site, z: Modal) -> jax.Array:
    user, item = _embed(model, victim, site, z)
    scores = user @ item[site.item]
    ahead = count_at_least(user, item, victim.plan, scores[:, None], site.item[None])
    return ahead < jnp.array(site.ks)


def _bytes_per_target(model: Model, victim: Victim, sizes: tuple[int, ...]) -> int:
    """Activations of a forward and a backward pass, and one block of scores."""
    del model, sizes
    n_nodes = victim.graph.n_users + victim.graph.n_items
    width = victim.item.shape[1] + sum(z.shape[1] for z in victim.z)
    scores = victim.plan.block_users * victim.plan.block_items
    return 4 * (20 * n_nodes * width + 3 * scores)


DENSE = Path("dense", _prepare, _excess, _hits, _embed, _bytes_per_target)
