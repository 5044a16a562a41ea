"""The scorer of the policy own_row: an edit reaches the item's own row, and that alone.

As `direct`, with the row that the model's `own_row` gives: users and rivals are read as
stored, so that only y_ut moves.
"""

import jax
import jax.numpy as jnp

from uatmc_jax.attacks.scoring import direct
from uatmc_jax.attacks.scoring.protocol import Scorer, Target
from uatmc_jax.attacks.victim import Victim
from uatmc_jax.models import Embeddings, Modal, Served

_Bars = direct.ScorerState  # with nothing selected


def _prepare(victim: Victim, target: Target, k: int, ks: tuple[int, ...]) -> _Bars:
    return _Bars(target.item, None, *direct.bars(victim, target.item, k, ks))


def _target_item(victim: Victim, state: _Bars, z: Modal) -> jax.Array:
    """(D,) the target's embedding with content z, modal (1, d), beside others as stored."""
    edited = tuple(x.at[state.item].set(row[0]) for x, row in zip(victim.z, z, strict=True))
    before, after = Served(victim.z, victim.graph), Served(edited, victim.graph)
    return victim.model.own_row(victim.encoder, before, after, state.item)


def _excess(victim: Victim, state: _Bars, z: Modal) -> jax.Array:
    scores = victim.user @ _target_item(victim, state, z)
    return scores - jnp.clip(scores, state.below, state.above)


def _hits(victim: Victim, state: _Bars, z: Modal) -> jax.Array:
    return (victim.user @ _target_item(victim, state, z))[:, None] > state.bars


def _embed(victim: Victim, state: _Bars, z: Modal) -> Embeddings:
    return Embeddings(victim.user, victim.item.at[state.item].set(_target_item(victim, state, z)))


def _bytes_per_target(victim: Victim, sizes: tuple[int, ...]) -> int:
    """Of the users' scores, and of the tables of items with one row replaced."""
    del sizes
    width = victim.item.shape[1] + sum(z.shape[1] for z in victim.z)
    return 4 * (24 * victim.users.shape[0] + 12 * victim.item.shape[0] * width)


OWN_ROW = Scorer("own row", _prepare, _excess, _hits, _embed, _bytes_per_target)
