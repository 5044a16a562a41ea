"""What an audit measures beyond an attack run: users, their recall, certificates at large."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.attacks import (
    LISTED,
    Attack,
    Options,
    Victim,
    blind,
    certificate_of,
    content_under,
    listed_hits,
    user_hits,
)
from uatmc_jax.data import CSR, Dataset, Graph, degrees
from uatmc_jax.evaluation.metrics import user_metrics
from uatmc_jax.evaluation.ranking import RankingPlan, make_plan, top_k
from uatmc_jax.models import Modal, Model, Params, device_data


def user_recall(
    model: Model, params: Params, dataset: Dataset, z: Modal, splits: Sequence[str], k: int
) -> list[np.ndarray]:
    """recall@K of every user who has a held-out item, by split.

    Args:
      model: the recommender.
      params: its parameters.
      dataset: the data; training items are masked.
      z: modal, (|I|, d), the clean projected features.
      splits: of "valid" and "test".
      k: the K.

    Returns:
      For each split (users with a held-out item,) shares in [0, 1].
    """
    plan = make_plan(dataset.train, dataset.n_users, dataset.n_items)
    held_out = tuple(dataset.held_out(split) for split in splits)
    given = (params, z, device_data(model, dataset).graph, plan, held_out)
    return [
        np.asarray(recall)[np.asarray(degrees(relevant)) > 0]
        for recall, relevant in zip(_user_recall(model, k, *given), held_out, strict=True)
    ]


@functools.partial(jax.jit, static_argnames=("model", "k"))
def _user_recall(
    model: Model,
    k: int,
    params: Params,
    z: Modal,
    graph: Graph,
    plan: RankingPlan,
    held_out: Sequence[CSR],
) -> list[jax.Array]:
    user, item = model.encode(params.encoder, z, graph)
    _, ranked = top_k(user, item, plan, k)
    everyone = jnp.arange(len(user))
    return [user_metrics(ranked, everyone, rows, (k,))[f"recall@{k}"] for rows in held_out]


class Reached(NamedTuple):
    """How many of the targets are in each user's top K.

    Attributes:
      before: (n,) clean.
      after: (n,) each target under attack, one at a time.
      gained: (n,) of those, the ones that are not there when clean.
    """

    before: np.ndarray
    after: np.ndarray
    gained: np.ndarray


def reached_users(
    victim: Victim, items: np.ndarray, z: Modal, k: int, options: Options | None = None
) -> Reached:
    """Counts, user by user, the targets that an attack's perturbations get through.

    Args:
      victim: the clean model.
      items: (T,) targets.
      z: modal, (T, d), each one's content under attack.
      k: the K.
      options: scorer and memory.

    Raises:
      InputError: values that are not finite.
    """
    return count_reached(user_hits(victim, items, z, k, options))


def hits_under(
    attack: Attack,
    victim: Victim,
    items: np.ndarray,
    delta: tuple[np.ndarray, ...],
    k: int,
    options: Options,
) -> np.ndarray:
    """Which users have each target in their top K, clean and under an attack's perturbations.

    Args:
      attack: what found them.
      victim: the clean model.
      items: (T,) targets.
      delta: (T, dim_m) for each of the attack's modalities, at its level.
      k: the K.
      options: scorer, memory and policy.

    Returns:
      (T, 2, n) bool: before, after.

    Raises:
      InputError: values that are not finite.
    """
    if attack.search in LISTED or blind(victim.model, options.serving):
        return listed_hits(victim, items, delta, k, options.serving)
    return user_hits(victim, items, content_under(attack, victim, items, delta), k, options)


def count_reached(hits: np.ndarray) -> Reached:
    """`reached_users` of (T, 2, n) bool, before and after."""
    before, after = np.moveaxis(hits, 1, 0)
    return Reached(*(hit.sum(axis=0) for hit in (before, after, after & ~before)))


class Survey(NamedTuple):
    """Bounds on items of any popularity.

    Attributes:
      items: (T,) item ids.
      shown: (T,) share of the users who have the item in their top K, clean.
      bound: (T,) the share that no attack within the budget exceeds.
    """

    items: np.ndarray
    shown: np.ndarray
    bound: np.ndarray


def survey_certificates(
    attack: Attack, victim: Victim, items: np.ndarray, k: int, serving: str = "full"
) -> Survey | None:
    """The budget certificate of many items; None for a model or an attack that has none.

    Args:
      attack: its norm, eps, level and perturbed modalities matter.
      victim: the clean model, with more than K best items kept.
      items: (T,) item ids.
      k: the K.
      serving: of `POLICIES`.
    """
    if blind(victim.model, serving):
        return None  # all stay where they are
    certificate = certificate_of(attack, victim, items, (k,), serving)
    if certificate is None or certificate.budget is None:
        return None
    n_items = len(victim.item)
    listed = np.asarray(victim.best_items[:, :k])
    counts = np.bincount(listed[listed < n_items], minlength=n_items)
    return Survey(items, counts[items] / len(victim.users), certificate.budget[:, 0])
