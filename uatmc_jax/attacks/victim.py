"""The model under attack as the attacker finds it: everything that does not change with the target.

The users are those the attack is crafted on and measured on, in the order
given; "position" is a place in that order.
"""

import functools

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.data import CSR, Interactions, contains, make_csr
from uatmc_jax.data.device import DeviceData
from uatmc_jax.errors import InputError
from uatmc_jax.evaluation.ranking import RankingPlan, make_plan, top_k
from uatmc_jax.models import Graph, Modal, Model, Params
from uatmc_jax.models.projection import project_all
from uatmc_jax.models.protocol import PyTree

# A GPU's shortened products would decide near hits differently on each path.
EXACT = "highest"


@flax.struct.dataclass
class Victim:
    """A trained model, clean, with n users to attack.

    Attributes:
      encoder: its parameters.
      projectors: those of its projectors.
      features: modal, raw, (|I|, dim_m).
      z: modal, (|I|, d), clean.
      graph: the training graph.
      users: (n,) int32 ids.
      user: (n, D) their clean embeddings.
      item: (|I|, D) clean embeddings.
      plan: ranks these users, with the masked items left out.
      masked: items never recommended, by position; None if there are none.
      best_scores: (n, L) each user's best clean scores, descending; -inf past the last.
      best_items: (n, L) int32 the items they belong to.
      trace: what the model's `field` keeps of the clean pass; None if it has none.
    """

    encoder: PyTree
    projectors: PyTree
    features: Modal
    z: Modal
    graph: Graph
    users: jax.Array
    user: jax.Array
    item: jax.Array
    plan: RankingPlan
    masked: CSR | None
    best_scores: jax.Array
    best_items: jax.Array
    trace: PyTree


def make_victim(
    model: Model,
    params: Params,
    data: DeviceData,
    users: np.ndarray,
    depth: int,
    seen: Interactions | None = None,
    block_users: int = 2048,
    block_items: int = 8192,
) -> Victim:
    """Encodes the clean model and ranks each user's best items once.

    Args:
      model: the recommender.
      params: its parameters.
      data: on the device.
      users: (n,) distinct user ids.
      depth: L, how many best items to keep for each user.
      seen: interactions whose items are never recommended to their users (the
        training split); None to rank all items, as the published evaluation does.
      block_users: users ranked at a time.
      block_items: items ranked at a time.

    Raises:
      InputError: an embedding that is not finite.
    """
    n_items = data.graph.n_items
    masked = None if seen is None else _by_position(seen, users)
    nothing = Interactions(np.zeros(0, np.int32), np.zeros(0, np.int32))
    plan = make_plan(
        nothing if masked is None else masked, len(users), n_items, block_users, block_items
    )
    users = jnp.asarray(users, jnp.int32)
    z, user, item, best, trace = _encode(model, params, data, users, plan, min(depth, n_items))
    if not (jnp.isfinite(user).all() and jnp.isfinite(item).all()):
        raise InputError(
            f"the checkpoint's {model.name} gives embeddings that are not finite, so nothing can "
            "be ranked. Attack an earlier epoch, or train anew with a lower learning rate."
        )
    return Victim(
        encoder=params.encoder,
        projectors=params.projectors,
        features=data.features,
        z=z,
        graph=data.graph,
        users=users,
        user=user,
        item=item,
        plan=plan,
        masked=None if masked is None else make_csr(masked, len(users)),
        best_scores=_fill(best[0], depth, -jnp.inf),
        best_items=_fill(best[1], depth, n_items),
        trace=trace,
    )


@functools.partial(jax.jit, static_argnames=("model", "depth"))
def _encode(
    model: Model, params: Params, data: DeviceData, users: jax.Array, plan: RankingPlan, depth: int
):
    with jax.default_matmul_precision(EXACT):
        z = project_all(model, params, data.features)
        user, item = model.encode(params.encoder, z, data.graph)
        trace = None if model.field is None else model.field.trace(params.encoder, z, data.graph)
        best = top_k(user[users], item, plan, depth)
    return z, user[users], item, best, trace


def _fill(rows: jax.Array, width: int, value: float) -> jax.Array:
    return jnp.pad(rows, ((0, 0), (0, width - rows.shape[1])), constant_values=value)


def _by_position(pairs: Interactions, users: np.ndarray) -> Interactions:
    """The pairs of `users`, with places in `users` for ids; sorted by them."""
    place = np.full(int(max(pairs.users.max(initial=0), users.max(initial=0))) + 1, -1)
    place[users] = np.arange(len(users))
    kept = pairs.keep(place[pairs.users] >= 0)
    positions = place[kept.users]
    order = np.lexsort((kept.items, positions))
    return Interactions(positions[order].astype(np.int32), kept.items[order])


def recommendable(victim: Victim, target: jax.Array) -> jax.Array:
    """(n,) bool: to whom the target can be recommended at all.

    Args:
      victim: the model under attack.
      target: () int32 item.
    """
    n = victim.users.shape[0]
    if victim.masked is None:
        return jnp.ones(n, bool)
    return ~contains(victim.masked, jnp.arange(n), jnp.broadcast_to(target, n))


def rows_of(tables: Modal, target: jax.Array) -> Modal:
    """The target's rows of modal tables, (1, dim_m) each."""
    return tuple(jax.lax.dynamic_slice_in_dim(x, target, 1) for x in tables)
