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

from uatmc_jax.attacks.batching import Options, in_batches, join
from uatmc_jax.attacks.perturb import aim_at
from uatmc_jax.attacks.record import Attack, as_compiled
from uatmc_jax.attacks.scoring.protocol import Scorer, Target
from uatmc_jax.attacks.utility import user_shares
from uatmc_jax.attacks.victim import Victim, check_lists, chosen_modalities, rows_of
from uatmc_jax.losses import gradient_alignment
from uatmc_jax.models import Modal
from uatmc_jax.numerics import EXACT, safe_norm


class Mismatch(NamedTuple):
    """The users behind the gradients of T targets, M modalities perturbed.

    Attributes:
      contributions: (T, M, n) c_u^m of the victim's n users, at the clean content.
      cosine: (T,) cos(g^v, g^t), the mean over pairs of modalities.
    """

    contributions: np.ndarray
    cosine: np.ndarray


def measure_mismatch(
    attack: Attack, victim: Victim, items: np.ndarray, options: Options | None = None
) -> Mismatch:
    """Every user's directional contribution to every target's gradients.

    Args:
      attack: its utility, margin, K and modalities matter.
      victim: the clean model.
      items: (T,) targets.
      options: scorer and memory.

    Raises:
      InputError: values that are not finite.
    """
    attack = as_compiled(attack)
    check_lists(victim, (attack.k,))

    def run(scorer: Scorer, targets: Target, places: np.ndarray) -> Mismatch:
        del places
        return _batch(attack, victim, scorer, targets)

    parts = in_batches(victim, items, options or Options(), run, lambda m: m)
    return join((places, found) for _, places, found in parts)


@functools.partial(jax.jit, static_argnames=("scorer",))
def _batch(attack: Attack, victim: Victim, scorer: Scorer, targets: Target) -> Mismatch:
    def one(target: Target) -> Mismatch:
        shares, start = make_shares(attack, victim, scorer, target)
        gradient = jax.grad(lambda delta: jnp.sum(shares(delta)))(start)
        return Mismatch(
            jnp.stack(contributions(shares, start, gradient)),
            gradient_alignment(gradient, jnp.ones(1, bool)),
        )

    with jax.default_matmul_precision(EXACT):
        return jax.vmap(one)(targets)


def make_shares(
    attack: Attack, victim: Victim, scorer: Scorer, target: Target
) -> tuple[Callable[[Modal], jax.Array], Modal]:
    """delta -> (n,) every user's share of one target's Phi at z_t + delta, and delta = 0.

    Args:
      attack: its utility, margin, K and modalities matter.
      victim: the clean model and the users.
      scorer: how its scores are got.
      target: whose content delta moves.
    """
    aim = aim_at(victim, scorer, target, attack.k, (attack.k,))
    moved = chosen_modalities(victim, attack.modalities)
    clean = rows_of(victim.z, target.item)

    def shares(delta: Modal) -> jax.Array:
        z = list(clean)
        for m, change in zip(moved, delta, strict=True):
            z[m] = z[m] + change
        excess = scorer.excess(victim, aim.state, tuple(z))
        return user_shares(excess, aim.weights, attack.utility, attack.margin)

    return shares, tuple(jnp.zeros_like(clean[m]) for m in moved)


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
