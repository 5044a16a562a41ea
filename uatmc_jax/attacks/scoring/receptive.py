"""The scorer of models that propagate: only the target's receptive field is computed anew.

The embeddings of the other users stay as they are, and of the items' only the
field's move. So for a user outside the field s_u^(K) is the K-th largest of her
best clean scores, the moved items left out, and the moved items' new scores.
The target's own users (shell 1) move far and are ranked in full. Users further
out move little: for them as many best items are scored anew, and an item i not
among those, c being the last one's clean score, cannot score more than

    y_ui + <h'_u - h_u, h_i>  <=  c + <h'_u - h_u, mu> + ||h'_u - h_u|| max_i ||h_i - mu||

for any mu; here the mean item. The few users for whom that comes nearest to leaving
it open, or does, are ranked in full too. Where it leaves others open, the answer is
NaN and the target is to be attacked by the dense scorer: exact or not at all.
"""

from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp

from uatmc_jax.attacks.scoring.protocol import Scorer, Target
from uatmc_jax.attacks.victim import Victim
from uatmc_jax.data import contains
from uatmc_jax.models import Embeddings, Field, Modal
from uatmc_jax.models.protocol import PyTree
from uatmc_jax.numerics import kth_largest, kth_largest_beside, safe_norm, take

# Users further out that are ranked in full. Of 39 targets of MMGCN on Baby that were left open
# without, 31 were so for one user at the end, five for two or three, two for five, one for none.
_DOUBTED = 8


@flax.struct.dataclass
class ScorerState:
    """What does not change while a target is perturbed.

    m moved items, of which the target is the first; a users of shell 1; b users
    further out; L best items kept.

    Attributes:
      item: () int32 the target.
      field: the receptive field.
      rows: the model's clean rows in it.
      moved: (m,) int32 items; |I| for padding.
      listed: (W, n) each user's best clean scores without those of moved items, descending,
        -inf at the end.
      tail: (n,) the clean score that no unlisted item exceeds.
      open: (m, n) bool: may be recommended.
      near: (a,) int32 positions of shell 1; n for padding and for users not attacked.
      near_open: (a, |I|) bool: may be recommended.
      far: (b,) int32 positions of the users further out.
      far_items: (b, L, D) embeddings of their best items.
      far_listed: (b, L) bool: among those, not moved.
      far_tail: (b,) as `tail`.
      k: of the attack (static).
      ks: of the evaluation (static).
    """

    item: jax.Array
    field: Field
    rows: PyTree
    moved: jax.Array
    listed: jax.Array
    tail: jax.Array
    open: jax.Array
    near: jax.Array
    near_open: jax.Array
    far: jax.Array
    far_items: jax.Array
    far_listed: jax.Array
    far_tail: jax.Array
    k: int = flax.struct.field(pytree_node=False)
    ks: tuple[int, ...] = flax.struct.field(pytree_node=False)


def _prepare(victim: Victim, target: Target, k: int, ks: tuple[int, ...]) -> ScorerState:
    field, graph = target.field, victim.graph
    n, n_items = victim.users.shape[0], graph.n_items
    nodes = jnp.full(graph.n_users + 1, n, jnp.int32)
    position = nodes.at[victim.users].set(jnp.arange(n, dtype=jnp.int32))
    moved = jnp.concatenate(field.shells[0::2]) - graph.n_users
    is_moved = jnp.zeros(n_items + 1, bool).at[moved].set(True)[victim.best_items]
    width = min(victim.best_scores.shape[1], max(k, *ks) + moved.shape[0])
    listed = victim.best_scores[:, :width]
    near = position[jnp.minimum(field.shells[1], graph.n_users)]
    outer = [jnp.minimum(shell, graph.n_users) for shell in field.shells[3::2]]
    far = position[jnp.concatenate(outer)] if outer else jnp.zeros(0, jnp.int32)
    return ScorerState(
        item=target.item,
        field=field,
        rows=victim.model.field.gather(victim.encoder, victim.trace, graph, field),
        moved=moved,
        listed=_without(listed, is_moved[:, :width]).T,
        tail=victim.best_scores[:, width - 1],
        open=(moved < n_items)[:, None] & _open(victim, jnp.arange(n)[None, :], moved[:, None]),
        near=near,
        near_open=_open(victim, near[:, None], jnp.arange(n_items)[None, :]),
        far=far,
        far_items=take(victim.item, take(victim.best_items, far)),
        far_listed=take(~is_moved & (victim.best_items < n_items), far),
        far_tail=take(victim.best_scores[:, -1], far),
        k=k,
        ks=ks,
    )


def _without(scores: jax.Array, left_out: jax.Array) -> jax.Array:
    """(n, W) rows without some of their entries, those behind moved up, -inf at the end."""
    n, width = scores.shape
    place = jnp.cumsum(~left_out, axis=1) - 1
    place = jnp.where(left_out, width, place)
    fresh = jnp.full_like(scores, -jnp.inf)
    return fresh.at[jnp.arange(n)[:, None], place].set(scores, mode="drop")


def _open(victim: Victim, positions: jax.Array, items: jax.Array) -> jax.Array:
    """Whether the items may be recommended to the users; any for padding."""
    if victim.masked is None:
        return jnp.ones(jnp.broadcast_shapes(positions.shape, items.shape), bool)
    last = victim.users.shape[0] - 1
    return ~contains(victim.masked, jnp.minimum(positions, last), items)


@flax.struct.dataclass
class _Look:
    """Scores of some users under one perturbation: of the target, and of what competes with it.

    Attributes:
      target: (users,) y'_ut.
      moved: (m, users) the moved items' scores, the target's the first; -inf for none.
      others: (R, users) other items' scores; -inf for none.
      bound: (users,) no item that is among neither scores more.
      descending: whether `others` are constant and in order (static).
    """

    target: jax.Array
    moved: jax.Array
    others: jax.Array
    bound: jax.Array
    descending: bool = flax.struct.field(pytree_node=False)


# A look -> (users, ...) answers, NaN where it leaves them open, and (users,) how far from certain
# they are; -inf where they are.
_Answer = Callable[[_Look], tuple[jax.Array, jax.Array]]


def _answers(victim: Victim, state: ScorerState, z: Modal, answer: _Answer) -> jax.Array:
    """(n, ...) all users' as if outside the field, replaced by those of the users inside.

    Of these shell 1's are of a ranking in full, and so are, further out, those most in doubt.
    """
    user, near, far, items = _changed(victim, state, z)
    n, n_items = victim.users.shape[0], victim.item.shape[0]
    is_moved = jnp.zeros(n_items, bool).at[state.moved].set(True, mode="drop")

    def moved_scores(users: jax.Array, open_to: jax.Array) -> jax.Array:
        return jnp.where(open_to, items @ users.T, -jnp.inf)

    def in_full(places: jax.Array, users: jax.Array, may: jax.Array) -> jax.Array:
        scores = jnp.where(may & ~is_moved, users @ victim.item.T, -jnp.inf)
        moved = moved_scores(users, _columns(state.open, places))
        none = jnp.full(users.shape[0], -jnp.inf)
        return answer(_Look(users @ items[0], moved, scores.T, none, False))[0]

    outside = _Look(user @ items[0], moved_scores(user, state.open), state.listed, state.tail, True)
    again = jnp.einsum("bld,bd->bl", state.far_items, far)
    centre = jnp.mean(victim.item, axis=0)
    spread = jnp.max(safe_norm(victim.item - centre))
    step = jax.lax.stop_gradient(far) - take(victim.user, state.far)
    further = _Look(
        far @ items[0],
        moved_scores(far, _columns(state.open, state.far)),
        jnp.where(state.far_listed, again, -jnp.inf).T,
        state.far_tail + step @ centre + safe_norm(step) * spread,
        False,
    )
    answers, doubts = answer(further)
    doubts = jnp.where(state.far < n, jax.lax.stop_gradient(doubts), -jnp.inf)
    _, chosen = jax.lax.top_k(doubts, min(_DOUBTED, len(doubts)))
    doubted = state.far[chosen]
    may = _open(victim, doubted[:, None], jnp.arange(n_items)[None, :])
    inside = [
        (state.near, in_full(state.near, near, state.near_open)),
        (state.far, answers),
        (doubted, in_full(doubted, far[chosen], may)),
    ]
    return _merge(answer(outside)[0], inside)


def _columns(table: jax.Array, positions: jax.Array) -> jax.Array:
    return table[:, jnp.minimum(positions, table.shape[1] - 1)]


def _changed(
    victim: Victim, state: ScorerState, z: Modal
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Clean embeddings of all users, new ones of shell 1, of users further out, of moved items."""
    shells = victim.model.field.encode(victim.encoder, state.rows, state.field, z)
    odd = shells[3::2]
    far = jnp.concatenate(odd) if odd else jnp.zeros((0, shells[0].shape[1]), shells[0].dtype)
    return victim.user, shells[1], far, jnp.concatenate(shells[0::2])


def _merge(rows: jax.Array, parts: list[tuple[jax.Array, jax.Array]]) -> jax.Array:
    """Rows of all users, those of (places, rows) put in their place; the last of them stays."""
    for places, some in parts:
        rows = rows.at[places].set(some, mode="drop")
    return rows


def _excess(victim: Victim, state: ScorerState, z: Modal) -> jax.Array:
    def answer(look: _Look) -> tuple[jax.Array, jax.Array]:
        if look.descending:
            threshold = kth_largest_beside(look.moved, look.others, state.k)
        else:
            threshold = kth_largest(jnp.concatenate([look.moved, look.others]), state.k)
        certain = threshold >= look.bound
        excess = jnp.where(certain, look.target - threshold, jnp.nan)
        return excess, jnp.where(certain, -jnp.inf, look.bound - threshold)

    return _answers(victim, state, z, answer)


def _hits(victim: Victim, state: ScorerState, z: Modal) -> jax.Array:
    def answer(look: _Look) -> tuple[jax.Array, jax.Array]:
        rivals = look.moved[1:], look.others
        ahead = sum(jnp.sum(some >= look.target, axis=0) for some in rivals)
        hit = ahead[:, None] < jnp.array(state.ks)
        certain = (look.target > look.bound)[:, None] | ~hit
        doubt = jnp.where(certain.all(axis=1), -jnp.inf, look.bound - look.target)
        return jnp.where(certain, hit.astype(jnp.float32), jnp.nan), doubt

    return _answers(victim, state, z, answer)


def _embed(victim: Victim, state: ScorerState, z: Modal) -> Embeddings:
    user, near, far, items = _changed(victim, state, z)
    return Embeddings(
        _merge(user, [(state.near, near), (state.far, far)]),
        victim.item.at[state.moved].set(items, mode="drop"),
    )


def _bytes_per_target(victim: Victim, sizes: tuple[int, ...]) -> int:
    """The far users' best items, and the rivals of all users with their order keys."""
    kept, dim = victim.best_scores.shape[1], victim.item.shape[1]
    n, n_items = victim.users.shape[0], victim.item.shape[0]
    moved = sum(sizes[0::2])
    rivals = n * (2 * moved + kept) + (sizes[1] + _DOUBTED) * n_items
    return 4 * (2 * sum(sizes[3::2]) * kept * dim + 6 * rivals + 40 * sum(sizes) * dim)


RECEPTIVE = Scorer("receptive field", _prepare, _excess, _hits, _embed, _bytes_per_target)
