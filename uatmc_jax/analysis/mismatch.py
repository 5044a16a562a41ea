"""Cross-modal gradient mismatch (Section 3): which users drive which modality's gradient.

    phi_u = user u's share of Phi,  g_u^m = d phi_u / d z_t^m,  g^m = sum_u g_u^m  (Eq. 5)
    c_u^m = cos(g_u^m, g^m) ||g_u^m||                                                 (Eq. 6)
    J     = |U_v n U_t| / |U_v u U_t|,  U_m the top rho of the users by c^m           (Eq. 7)

c_u^m = <g_u^m, g^m> / ||g^m|| is the derivative of phi_u along g^m / ||g^m||. So one
Jacobian-vector product a modality gives it for all users, and their |U| x d
Jacobian is never made.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.attacks.batching import in_batches, join, path_of
from uatmc_jax.attacks.perturb import Attack, Strength
from uatmc_jax.attacks.scoring.protocol import Path, Target
from uatmc_jax.attacks.utility import user_shares
from uatmc_jax.attacks.victim import EXACT, Victim, recommendable, rows_of
from uatmc_jax.losses import gradient_alignment
from uatmc_jax.models import Adjacency, Modal, Model
from uatmc_jax.numerics import safe_norm


class Mismatch(NamedTuple):
    """The users behind the gradients of T targets, M modalities perturbed.

    Attributes:
      contributions: (T, M, n) c_u^m of the victim's n users, at the clean content.
      cosine: (T,) cos(g^v, g^t), the mean over pairs of modalities.
    """

    contributions: np.ndarray
    cosine: np.ndarray


def measure_mismatch(
    model: Model,
    attack: Attack,
    strength: Strength,
    victim: Victim,
    items: np.ndarray,
    *,
    adjacency: Adjacency | None = None,
    path: str = "auto",
    memory_mib: float = 1024.0,
) -> Mismatch:
    """Every user's directional contribution to every target's gradients.

    Args:
      model: the recommender.
      attack: its utility, K and modalities matter.
      strength: its margin matters.
      victim: the clean model, with `list_depth` best items kept.
      items: (T,) targets.
      adjacency: of the training graph; needed by models with `field`.
      path: "auto" or "dense".
      memory_mib: for a batch.

    Raises:
      InputError: values that are not finite.
    """

    def run(path: Path, targets: Target, places: np.ndarray) -> Mismatch:
        del places
        return _batch(model, path, attack, victim, strength, targets)

    parts = in_batches(
        model, victim, adjacency, items, path_of(model, path), memory_mib, run, lambda m: m
    )
    return join((places, found) for _, places, found in parts)


@functools.partial(jax.jit, static_argnames=("model", "path", "attack"))
def _batch(
    model: Model, path: Path, attack: Attack, victim: Victim, strength: Strength, targets: Target
) -> Mismatch:
    def one(target: Target) -> Mismatch:
        shares, start = make_shares(model, path, attack, victim, strength, target)
        gradient = jax.grad(lambda delta: jnp.sum(shares(delta)))(start)
        return Mismatch(
            jnp.stack(contributions(shares, start, gradient)),
            gradient_alignment(gradient, jnp.ones(1, bool)),
        )

    with jax.default_matmul_precision(EXACT):
        return jax.vmap(one)(targets)


def make_shares(
    model: Model, path: Path, attack: Attack, victim: Victim, strength: Strength, target: Target
) -> tuple[Callable[[Modal], jax.Array], Modal]:
    """delta -> (n,) every user's share of one target's Phi at z_t + delta, and delta = 0.

    Args:
      model: the recommender.
      path: how its scores are got.
      attack: its utility, K and modalities matter.
      victim: the clean model and the users.
      strength: its margin matters.
      target: whose content delta moves.
    """
    site = path.prepare(model, victim, target, attack.k, (attack.k,))
    weights = recommendable(victim, target.item).astype(jnp.float32)
    clean = rows_of(victim.z, target.item)

    def shares(delta: Modal) -> jax.Array:
        z = list(clean)
        for m, change in zip(attack.modalities, delta, strict=True):
            z[m] = z[m] + change
        z = tuple(z)
        excess = path.excess(model, victim, site, z)
        return user_shares(excess, weights, attack.utility, strength.margin)

    return shares, tuple(jnp.zeros_like(clean[m]) for m in attack.modalities)


def contributions(
    shares: Callable[[Modal], jax.Array], point: Modal, gradient: Modal
) -> list[jax.Array]:
    """c_u^m of all users, (n,) for each modality; 0 where g^m vanishes.

    Args:
      shares: (M arrays) -> (n,) phi_u.
      point: where.
      gradient: g^m there, as `point`.
    """
    # A function with a backward pass of its own has no forward derivative; the
    # transpose of its transpose is one.
    value, pull = jax.vjp(shares, point)
    _, push = jax.vjp(pull, jnp.zeros_like(value))
    found = []
    for m, row in enumerate(gradient):
        length = safe_norm(row, keepdims=True)
        along = [jnp.zeros_like(x) for x in point]
        along[m] = row / jnp.where(length > 0, length, 1.0)
        found.append(push((tuple(along),))[0])
    return found


def user_gradients(
    shares: Callable[[Modal], jax.Array], point: Modal, n_users: int, block: int = 256
) -> Modal:
    """g_u^m of every user, (n, dim_m) for each modality: what Eq. 6 costs if taken literally.

    Args:
      shares: (M arrays) -> (n,) phi_u.
      point: where, (1, dim_m) arrays.
      n_users: n.
      block: users differentiated at a time.
    """
    _, pull = jax.vjp(shares, point)
    blocks = jnp.arange(-(-n_users // block) * block).reshape(-1, block)
    rows = jax.lax.map(jax.vmap(lambda u: pull(jax.nn.one_hot(u, n_users))[0]), blocks)
    return jax.tree.map(lambda x: x.reshape(-1, x.shape[-1])[:n_users], rows)


def top_users(contributions: np.ndarray, rho: float) -> np.ndarray:
    """(..., n) bool: the share `rho` of the users with the largest c_u^m.

    At least one user; of users with equal contributions the first; never one who
    contributes nothing or against the gradient, so that sets can be smaller.

    Args:
      contributions: (..., n).
      rho: in (0, 1].
    """
    count = max(1, round(rho * contributions.shape[-1]))
    order = np.argsort(-contributions, axis=-1, kind="stable")[..., :count]
    chosen = np.zeros(contributions.shape, bool)
    np.put_along_axis(chosen, order, True, axis=-1)
    return chosen & (contributions > 0)


def jaccard(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|A n B| / |A u B| along the last axis; NaN where both are empty.

    >>> jaccard(np.array([True, True, False]), np.array([False, True, True])).round(3).item()
    0.333
    """
    both, either = (a & b).sum(axis=-1), (a | b).sum(axis=-1)
    return np.where(either > 0, both / np.maximum(either, 1), np.nan)
