"""Whom else an edit moves: the other items and users, and what changes in the users' lists.

Under the policy full an edit of one item may move others' embeddings. What that does to a user's
list is counted on her K best *other* items, so that the place which the edited item itself
takes or gives up is not in it.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.attacks.listed import relisted_embeddings
from uatmc_jax.attacks.record import LISTED, Attack
from uatmc_jax.attacks.scoring.dense import DENSE
from uatmc_jax.attacks.scoring.protocol import Target
from uatmc_jax.attacks.victim import Victim
from uatmc_jax.evaluation.ranking import RankingPlan, top_k
from uatmc_jax.models import Embeddings, Modal
from uatmc_jax.numerics import EXACT

# Of the largest number in a table; what moves less is rounding.
_MOVED = 1e-5


class Collateral(NamedTuple):
    """What one edit does beside promoting its item.

    Attributes:
      items: other items whose embeddings move.
      users: users whose embeddings move.
      lists: share of the users whose K best other items change.
      gained: the other item that comes into most users' K best; None if none does.
      gained_by: share of the users, net.
      lost: the one that drops out of most; None if none does.
      lost_by: share of the users, net.
    """

    items: int
    users: int
    lists: float
    gained: int | None
    gained_by: float
    lost: int | None
    lost_by: float


def collateral_of(
    attack: Attack, victim: Victim, items: np.ndarray, delta: Modal, z: Modal, k: int
) -> list[Collateral | None]:
    """Whom else each target's edit moves, under full.

    Args:
      attack: what the edits were found with, one budget.
      victim: the clean model.
      items: (T,) targets.
      delta: (T, dim_m) for each of the attack's modalities, at its level.
      z: modal, (T, d), the targets' content under attack.
      k: the K.

    Returns:
      (T,); None of a model in which an edit reaches no row but its own.
    """
    found: list[Collateral | None] = []
    if victim.model.encode_rows is not None or not victim.model.reads:
        return [None] * len(items)
    for n, item in enumerate(items.tolist()):
        if attack.search in LISTED:
            both = zip(victim.dataset.features, delta, strict=True)
            edited = relisted_embeddings(victim, item, tuple(x[item] + d[n] for x, d in both))
        else:
            own = tuple(jnp.asarray(x[n])[None] for x in z)
            edited = _embedded(victim, jnp.int32(item), own)
        found.append(collateral(victim, item, edited, k))
    return found


def collateral(victim: Victim, item: int, edited: Embeddings, k: int) -> Collateral:
    """Whom else an edit moves.

    Args:
      victim: the clean model, that keeps more than K best items a user.
      item: the edited one.
      edited: embeddings of the victim's users, (n, D), and of all items, (|I|, D), under it.
      k: the K.
    """
    clean = Embeddings(victim.user, victim.item)
    users, items = (
        np.abs(np.asarray(new) - np.asarray(old)).max(axis=1) > _MOVED * np.abs(old).max()
        for new, old in zip(edited, clean, strict=True)
    )
    items[item] = False
    before = _others(np.asarray(victim.best_items[:, : k + 1]), item)
    after = before
    if users.any() or items.any():
        best = _best(jnp.asarray(edited.user), jnp.asarray(edited.item), victim.plan, k + 1)
        after = _others(np.asarray(best), item)
    n, n_items = len(users), len(items)
    # Past the last recommendable item is |I|, which is none.
    net = np.bincount(after.ravel(), minlength=n_items + 1)[:n_items].astype(int)
    net -= np.bincount(before.ravel(), minlength=n_items + 1)[:n_items]
    most, least = int(net.argmax()), int(net.argmin())
    return Collateral(
        items=int(items.sum()),
        users=int(users.sum()),
        lists=float((np.sort(after) != np.sort(before)).any(axis=1).mean()),
        gained=most if net[most] > 0 else None,
        gained_by=float(max(net[most], 0) / n),
        lost=least if net[least] < 0 else None,
        lost_by=float(max(-net[least], 0) / n),
    )


def _others(best: np.ndarray, item: int) -> np.ndarray:
    """(n, k) of (n, k + 1) best items, without the item, or without the last."""
    here = best == item
    here[~here.any(axis=1), -1] = True
    return best[~here].reshape(len(best), -1)


@jax.jit
def _embedded(victim: Victim, item: jax.Array, z: Modal) -> Embeddings:
    with jax.default_matmul_precision(EXACT):
        return DENSE.embed(victim, DENSE.prepare(victim, Target(item), 1, (1,)), z)


@functools.partial(jax.jit, static_argnames="k")
def _best(user: jax.Array, item: jax.Array, plan: RankingPlan, k: int) -> jax.Array:
    with jax.default_matmul_precision(EXACT):
        return top_k(user, item, plan, k)[1]
