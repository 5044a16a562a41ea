"""What an audit measures beyond an attack run: users, their recall, certificates at large."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.attacks.batching import attack_targets, in_batches, path_of
from uatmc_jax.attacks.certificates import certify
from uatmc_jax.attacks.perturb import Attack, Strength
from uatmc_jax.attacks.scoring.protocol import Path, Target
from uatmc_jax.attacks.victim import EXACT, Victim, recommendable, rows_of
from uatmc_jax.data import CSR, degrees
from uatmc_jax.data.device import DeviceData
from uatmc_jax.evaluation.metrics import user_metrics
from uatmc_jax.evaluation.ranking import RankingPlan, top_k
from uatmc_jax.models import Adjacency, Modal, Model, Params
from uatmc_jax.models.projection import project_all


def user_recall(
    model: Model,
    params: Params,
    data: DeviceData,
    plan: RankingPlan,
    held_out: Sequence[CSR],
    k: int,
) -> list[np.ndarray]:
    """recall@K of every user who has a held-out item, by split.

    Args:
      model: the recommender.
      params: its parameters.
      data: on the device.
      plan: masks the training items.
      held_out: relevant items by user, one CSR a split.
      k: the K.

    Returns:
      For each split (users with a held-out item,) shares in [0, 1].
    """
    found = _user_recall(model, params, data, plan, tuple(held_out), k)
    return [
        np.asarray(recall)[np.asarray(degrees(relevant)) > 0]
        for recall, relevant in zip(found, held_out, strict=True)
    ]


@functools.partial(jax.jit, static_argnames=("model", "k"))
def _user_recall(
    model: Model,
    params: Params,
    data: DeviceData,
    plan: RankingPlan,
    held_out: Sequence[CSR],
    k: int,
) -> list[jax.Array]:
    z = project_all(model, params, data.features)
    user, item = model.encode(params.encoder, z, data.graph)
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
    model: Model,
    attack: Attack,
    strength: Strength,
    victim: Victim,
    items: np.ndarray,
    k: int,
    key: jax.Array,
    *,
    adjacency: Adjacency | None = None,
    path: str = "auto",
    memory_mib: float = 1024.0,
) -> Reached:
    """Attacks each target alone and counts, user by user, the targets that get through.

    Args:
      model: the recommender.
      attack: static choices.
      strength: eps, step size, margin, beta.
      victim: the clean model, with `list_depth` best items kept.
      items: (T,) targets.
      k: the K.
      key: of random starts, as `attack_targets` takes it.
      adjacency: of the training graph; needed by models with `field`.
      path: "auto" or "dense".
      memory_mib: for a batch.

    Raises:
      InputError: values that are not finite.
    """
    shared = {"adjacency": adjacency, "path": path, "memory_mib": memory_mib}
    counts = np.zeros((3, len(victim.users)), np.int64)
    for _, outcome in attack_targets(model, attack, strength, victim, items, (k,), key, **shared):

        def run(path: Path, targets: Target, places: np.ndarray, z: Modal = outcome.z) -> jax.Array:
            return _hits(model, path, k, victim, targets, tuple(x[places][:, None] for x in z))

        parts = in_batches(
            model,
            victim,
            adjacency,
            outcome.items,
            path_of(model, path),
            memory_mib,
            run,
            lambda hits: [hits],
        )
        for _, _, hits in parts:
            before, after = np.moveaxis(hits > 0, 1, 0)
            counts += np.stack([before, after, after & ~before]).sum(axis=1)
    return Reached(*counts)


@functools.partial(jax.jit, static_argnames=("model", "path", "k"))
def _hits(model: Model, path: Path, k: int, victim: Victim, targets: Target, z: Modal) -> jax.Array:
    """(b, 2, n) whether each target is in each user's top K: clean, and with content z."""

    def one(target: Target, z: Modal) -> jax.Array:
        site = path.prepare(model, victim, target, k, (k,))
        both = jax.tree.map(lambda *x: jnp.stack(x), rows_of(victim.z, target.item), z)
        hits = jax.lax.map(lambda z: path.hits(model, victim, site, z)[:, 0], both)
        return jnp.where(recommendable(victim, target.item), hits.astype(jnp.float32), 0.0)

    with jax.default_matmul_precision(EXACT):
        return jax.vmap(one)(targets, z)


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
    model: Model, attack: Attack, eps: float, victim: Victim, items: np.ndarray, k: int
) -> Survey | None:
    """The budget certificate of many items; None for a model or an attack that has none.

    Args:
      model: the recommender.
      attack: its norm, level and perturbed modalities matter.
      eps: radius as a share of the perturbed row's 2-norm.
      victim: the clean model, with more than K best items kept.
      items: (T,) item ids.
      k: the K.
    """
    certificate = certify(model, attack, eps, victim, items, (k,))
    if certificate is None or certificate.budget is None:
        return None
    n_items = len(victim.item)
    listed = np.asarray(victim.best_items[:, :k])
    counts = np.bincount(listed[listed < n_items], minlength=n_items)
    return Survey(items, counts[items] / len(victim.users), certificate.budget[:, 0])
