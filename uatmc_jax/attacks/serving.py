"""What a victim recommends as it is: lists for its users, and how good they are."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.attacks.victim import Victim
from uatmc_jax.data import make_csr, of_users, warm
from uatmc_jax.errors import InputError
from uatmc_jax.evaluation.metrics import mean_metrics
from uatmc_jax.evaluation.ranking import make_plan, top_k
from uatmc_jax.numerics import EXACT


class Recommendations(NamedTuple):
    """The top K of n users, training items left out.

    Attributes:
      users: (n,) ids.
      items: (n, K) ids, best first.
      scores: (n, K).
      ids: (n, K) the shop's ids of the items, None where there is none.
      titles: (n, K) their titles, None where there is none.
    """

    users: np.ndarray
    items: np.ndarray
    scores: np.ndarray
    ids: list[list[str | None]]
    titles: list[list[str | None]]

    def rows(self) -> list[dict[str, Any]]:
        """A plain dict a user and place: "user", "rank" from 1, "item", "id", "title", "score"."""
        return [
            {
                "user": int(user),
                "rank": place + 1,
                "item": int(self.items[n, place]),
                "id": self.ids[n][place],
                "title": self.titles[n][place],
                "score": float(self.scores[n, place]),
            }
            for n, user in enumerate(self.users)
            for place in range(self.items.shape[1])
        ]


def recommend(victim: Victim, users: Sequence[int] | np.ndarray, k: int = 10) -> Recommendations:
    """Each user's best items that she has no training interaction with.

    Args:
      victim: the clean model.
      users: (n,) ids, of the victim's users.
      k: the length of the lists.

    Raises:
      InputError: a user who is none of the victim's, or a K beyond the items that she has
        no interaction with.
    """
    users, known = np.atleast_1d(np.asarray(users)), np.asarray(victim.users)
    order = np.argsort(known)
    ranks = np.searchsorted(known, users, sorter=order)
    places = order[np.minimum(ranks, len(known) - 1)]
    there = known[places] == users
    if not there.all():
        raise InputError(
            f"user {users[~there][0]} is none of the victim's {len(known)} users. Make the victim "
            "with her among `users`; those without a training interaction have no list."
        )
    dataset = victim.dataset
    seen = of_users(dataset.train, users)
    most = dataset.n_items - int(np.bincount(seen.users, minlength=len(users)).max())
    if not 1 <= k <= most:
        raise InputError(
            f"k = {k}: wanted a number from 1 to {most}, the items that each of these users has "
            "no training interaction with."
        )
    plan = make_plan(seen, len(users), dataset.n_items)
    with jax.default_matmul_precision(EXACT):
        scores, items = map(np.asarray, top_k(victim.user[places], victim.item, plan, k))
    names = dataset.names
    return Recommendations(
        users=users,
        items=items,
        scores=scores,
        ids=[[names.ids.get(item) for item in row] for row in items.tolist()],
        titles=[[names.titles.get(item) for item in row] for row in items.tolist()],
    )


def evaluate(
    victim: Victim, split: str = "test", ks: Sequence[int] = (5, 10, 20, 50)
) -> dict[str, float]:
    """Recommendation metrics over the victim's users, training items masked.

    Args:
      victim: the clean model.
      split: "valid" or "test".
      ks: the K.

    Returns:
      {"recall@20": mean over the users with a held-out item, ...}; see
      `evaluation.metrics.user_metrics`.

    Raises:
      InputError: none of the users has a held-out item, or a K beyond the catalogue.
    """
    dataset = victim.dataset
    if max(ks) > dataset.n_items:
        raise InputError(f"K = {max(ks)}, but there are {dataset.n_items} items. Use a smaller K.")
    users = np.asarray(victim.users)
    held_out = warm(dataset.split(split), dataset)
    held_out = held_out.keep(np.isin(held_out.users, users))
    if not len(held_out):
        raise InputError(f"none of the victim's users has an item in the {split} split.")
    # By user id, as training ranks: the same blocks, so the same sums.
    everyone = jnp.zeros((dataset.n_users, victim.user.shape[1])).at[users].set(victim.user)
    plan = make_plan(dataset.train, dataset.n_users, dataset.n_items)
    relevant = make_csr(held_out, dataset.n_users)
    (found,) = mean_metrics(everyone, victim.item, plan, (relevant,), tuple(ks))
    return {name: float(value) for name, value in found.items()}
