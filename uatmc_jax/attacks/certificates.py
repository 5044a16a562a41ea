"""How much no attack whatever can exceed, in closed form, for models linear in z.

If user u's score of item t is affine in the item's content, with the user given,

    y_ut(z) = e_ut + sum_m <w_u^m, z^m>,    w_u^m = W_m^T u_m,

then over all perturbations with ||delta^m|| <= r^m, by the definition of the
dual norm (of linf it is l1, of l2 it is l2),

    max y_ut(z_t + delta) = y_ut + sum_m r^m ||w_u^m||_dual.

In such a model the other items' scores do not move, so u can see t in her top K
under *some* perturbation in the ball only if that reaches o_K, her K-th best
score among the other items. The share of such users bounds HR@K of every attack
from above (*budget certificate*): an attack has to please all of them with one
delta, the bound lets each have her own.

A projected feature is a unit vector, so no image and no text at all can give
more than e_ut + sum_m ||w_u^m||_2 (*any-content certificate*). It bounds every
attack on raw features, whatever its budget, and a seller who replaces the
content entirely. It does not bound attacks on z, because z + delta leaves the
sphere: for those the two certificates are not ordered.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.attacks.perturb import Attack
from uatmc_jax.attacks.scoring.direct import DIRECT, nth_other, target_item
from uatmc_jax.attacks.scoring.protocol import Target
from uatmc_jax.attacks.victim import EXACT, Victim, recommendable, rows_of
from uatmc_jax.models import Model
from uatmc_jax.numerics import safe_norm

# Bounds are raised by this share, so that float32 rounding cannot put an attack above them.
_ROUNDING = 1e-5


class Certificate(NamedTuple):
    """Upper bounds of HR@K, in float32 rounded up.

    Attributes:
      budget: (T, Ks), of every attack on z within the budget; None for attacks
        on raw features, whose reach in z has no closed form.
      any_content: (T, Ks), of every attack on raw features and of any new content,
        whichever modalities it is in.
    """

    budget: np.ndarray | None
    any_content: np.ndarray


def certify(
    model: Model,
    attack: Attack,
    eps: float | jax.Array,
    victim: Victim,
    items: np.ndarray,
    ks: Sequence[int],
) -> Certificate | None:
    """The certificates of each target; None for a model that has none.

    Args:
      model: the recommender.
      attack: its norm, level and perturbed modalities matter; nothing else does.
      eps: radius as a share of the 2-norm of the perturbed row.
      victim: the clean model.
      items: (T,) targets.
      ks: the K.
    """
    if not model.affine_in_content or model.encode_rows is None:
        return None
    budget, anything = _certify(
        model, attack.norm, attack.modalities, eps, victim, jnp.asarray(items), tuple(ks)
    )
    within = np.asarray(budget) if attack.level == "projected" else None
    return Certificate(within, np.asarray(anything))


@functools.partial(jax.jit, static_argnames=("model", "norm", "modalities", "ks"))
def _certify(
    model: Model,
    norm: str,
    modalities: tuple[int, ...],
    eps: float | jax.Array,
    victim: Victim,
    items: jax.Array,
    ks: tuple[int, ...],
) -> tuple[jax.Array, jax.Array]:
    order = 1 if norm == "linf" else 2

    def one(item: jax.Array) -> tuple[jax.Array, jax.Array]:
        site = DIRECT.prepare(model, victim, Target(item), 1, (1,))
        z = rows_of(victim.z, item)
        score = victim.user @ target_item(model, site, z)
        slopes = jax.jacfwd(lambda z: target_item(model, site, z))(z)  # of the item, (D, 1, d)
        pull = [victim.user @ slope[:, 0] for slope in slopes]  # w_u^m, (n, d)
        own = sum(w @ row[0] for w, row in zip(pull, z, strict=True))
        within = sum(
            eps * safe_norm(z[m][0]) * jnp.linalg.norm(pull[m], ord=order, axis=1)
            for m in modalities
        )
        free = sum(safe_norm(w) for w in pull)
        scale = _ROUNDING * (jnp.abs(score) + within + free)
        seen_by = recommendable(victim, item)

        def share(bound: jax.Array) -> jax.Array:
            bars = jnp.stack([nth_other(victim, item, k) for k in ks], axis=1)
            return jnp.mean((bound[:, None] >= bars) & seen_by[:, None], axis=0)

        return share(score + within + scale), share(score - own + free + scale)

    with jax.default_matmul_precision(EXACT):
        return jax.lax.map(one, items)
