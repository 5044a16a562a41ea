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

from uatmc_jax.attacks.record import Attack, checked, require_one_budget
from uatmc_jax.attacks.scoring.direct import DIRECT, nth_other, target_item
from uatmc_jax.attacks.scoring.protocol import Target
from uatmc_jax.attacks.victim import (
    Victim,
    check_items,
    check_lists,
    chosen_modalities,
    recommendable,
    rows_of,
)
from uatmc_jax.errors import InputError
from uatmc_jax.models import certifiable
from uatmc_jax.numerics import EXACT, safe_norm

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
    victim: Victim,
    items: Sequence[int] | np.ndarray,
    *,
    norm: str = "linf",
    eps: float | Sequence[float] | None = None,
    ks: int | Sequence[int] = 50,
    modalities: tuple[str, ...] = (),
) -> np.ndarray:
    """What no attack exceeds: an upper bound of every target's HR@K.

    Args:
      victim: the clean model.
      items: (T,) targets.
      norm: of the ball in z, "l2" or "linf".
      eps: radius as a share of the row's 2-norm, or (E,) of them; None for any new
        content whatever.
      ks: the K, or several.
      modalities: names of those perturbed; empty for all. Of no account without `eps`.

    Returns:
      (T,) shares of the users; with several eps the axis E first, with several K the
      axis Ks last.

    Raises:
      InputError: a model without certificates, a norm, eps, item or modality that is none,
        or a K beyond the lists that the victim keeps.
    """
    checked(Attack(norm=norm, eps=0.0 if eps is None else np.asarray(eps, float)))
    if not certifiable(victim.model):
        raise InputError(
            f"no certificate for {victim.model.name}: it declares no scores affine in an item's "
            "content (affine_in_content, with encode_rows)."
        )
    wanted = (ks,) if isinstance(ks, int) else tuple(ks)
    check_lists(victim, wanted)
    places = chosen_modalities(victim, modalities)
    items = jnp.asarray(check_items(victim, items))
    radius = jnp.asarray(0.0 if eps is None else eps, jnp.float32)
    within, anything = _certify(victim, norm, places, wanted, radius, items)
    bound = np.asarray(anything if eps is None else within)
    if radius.ndim:
        bound = np.moveaxis(bound, 1, 0)
    return bound[..., 0] if isinstance(ks, int) else bound


def certificate_of(
    attack: Attack, victim: Victim, items: np.ndarray, ks: Sequence[int]
) -> Certificate | None:
    """Both bounds for each target of an attack; None for a model that has none.

    Args:
      attack: its norm, eps (one budget), level and perturbed modalities matter.
      victim: the clean model.
      items: (T,) targets.
      ks: the K.

    Raises:
      InputError: several budgets, an item or a modality that is none, or a K beyond the
        lists that the victim keeps.
    """
    if not certifiable(victim.model):
        return None
    require_one_budget(attack)
    check_lists(victim, ks)
    places = chosen_modalities(victim, attack.modalities)
    items = jnp.asarray(check_items(victim, items))
    within, anything = _certify(victim, attack.norm, places, tuple(ks), attack.eps, items)
    budget = np.asarray(within) if attack.level == "projected" else None
    return Certificate(budget, np.asarray(anything))


@functools.partial(jax.jit, static_argnames=("norm", "modalities", "ks"))
def _certify(
    victim: Victim,
    norm: str,
    modalities: tuple[int, ...],
    ks: tuple[int, ...],
    eps: float | jax.Array,
    items: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """(T, Ks), or (T, E, Ks) of E budgets; and (T, Ks) of any content."""
    order = 1 if norm == "linf" else 2

    def one(item: jax.Array) -> tuple[jax.Array, jax.Array]:
        state = DIRECT.prepare(victim, Target(item), 1, (1,))
        z = rows_of(victim.z, item)
        score = victim.user @ target_item(victim, state, z)
        slopes = jax.jacfwd(lambda z: target_item(victim, state, z))(z)  # of the item, (D, 1, d)
        pull = [victim.user @ slope[:, 0] for slope in slopes]  # w_u^m, (n, d)
        own = sum(w @ row[0] for w, row in zip(pull, z, strict=True))
        free = sum(safe_norm(w) for w in pull)
        seen_by = recommendable(victim, item)
        bars = jnp.stack([nth_other(victim, item, k) for k in ks], axis=1)

        def share(bound: jax.Array) -> jax.Array:
            return jnp.mean((bound[:, None] >= bars) & seen_by[:, None], axis=0)

        def within(eps: jax.Array) -> tuple[jax.Array, jax.Array]:
            reach = sum(
                eps * safe_norm(z[m][0]) * jnp.linalg.norm(pull[m], ord=order, axis=1)
                for m in modalities
            )
            scale = _ROUNDING * (jnp.abs(score) + reach + free)
            return share(score + reach + scale), share(score - own + free + scale)

        if jnp.ndim(eps) == 0:
            return within(eps)
        budgets, anything = jax.lax.map(within, eps)
        return budgets, anything[0]

    with jax.default_matmul_precision(EXACT):
        return jax.lax.map(one, items)
