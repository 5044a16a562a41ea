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

import concurrent.futures
import functools
import itertools
import multiprocessing
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.attacks.affine import (
    affine_scores,
    bar_terms,
    check_declarations,
    edited_terms,
    margin,
    reach,
)
from uatmc_jax.attacks.list_certificates import bound_listings, certify_lists
from uatmc_jax.attacks.listings import clean_rates
from uatmc_jax.attacks.one_edit import Reachable, most_users
from uatmc_jax.attacks.record import Attack, checked, require_one_budget
from uatmc_jax.attacks.scoring.direct import nth_other
from uatmc_jax.attacks.victim import (
    Victim,
    check_items,
    check_lists,
    chosen_modalities,
    recommendable,
)
from uatmc_jax.errors import InputError
from uatmc_jax.models import Model, blind, bounded_lists, certifiable
from uatmc_jax.numerics import EXACT, safe_norm


class Certificate(NamedTuple):
    """Upper bounds of HR@K, in float32 rounded up.

    Attributes:
      budget: (T, Ks), of every attack within the budget; None for attacks on raw
        features whose reach in z has no closed form.
      any_content: (T, Ks), of every attack on raw features and of any new content,
        whichever modalities it is in; None where nothing bounds the length of content.
    """

    budget: np.ndarray | None
    any_content: np.ndarray | None


def certify(
    victim: Victim,
    items: Sequence[int] | np.ndarray,
    *,
    norm: str = "linf",
    eps: float | Sequence[float] | None = None,
    ks: int | Sequence[int] = 50,
    modalities: tuple[str, ...] = (),
    branches: int = 0,
) -> np.ndarray:
    """What no attack exceeds: an upper bound of every target's HR@K.

    It holds for hit rates as they are computed, in float32: a user counts as reached where
    rounding of her score or of her bar might make her so.

    Args:
      victim: the clean model.
      items: (T,) targets.
      norm: of the ball in z, "l2" or "linf".
      eps: radius as a share of the row's 2-norm, or (E,) of them; None for any new
        content whatever.
      ks: the K, or several.
      modalities: names of those perturbed; empty for all. Of no account without `eps`.
      branches: 0 lets every user have an edit of her own. With 1 or more the edit is the same
        for all (`one_edit`), which is never above that and often half of it, at 0.05 s a target
        on two cores with 1, and lower still with more (32: 0.8 s). Of no account without `eps`.

    Returns:
      (T,) shares of the users; with several eps the axis E first, with several K the
      axis Ks last.

    Raises:
      InputError: a model without certificates, or whose declarations are not so; a norm, eps,
        item or modality that is none, or a K beyond the lists that the victim keeps.
    """
    checked(Attack(norm=norm, eps=0.0 if eps is None else np.asarray(eps, float)))
    if not certifiable(victim.model):
        raise InputError(
            f"no certificate for {victim.model.name}: it declares no scores affine in an item's "
            "content (affine_in_content, with encode_rows)."
        )
    if eps is None and not victim.model.unit_rows:
        raise InputError(
            f"no certificate for any content of {victim.model.name}: nothing bounds its length "
            "(unit_rows). Give a budget, eps."
        )
    wanted = (ks,) if isinstance(ks, int) else tuple(ks)
    check_lists(victim, wanted)
    places = chosen_modalities(victim, modalities)
    items = jnp.asarray(check_items(victim, items))
    check_declarations(victim)
    radius = jnp.asarray(0.0 if eps is None else eps, jnp.float32)
    within, anything = _certify(victim, norm, places, wanted, radius, items)
    bound = np.asarray(anything if eps is None else within)
    if radius.ndim:
        bound = np.moveaxis(bound, 1, 0)
    if eps is not None and branches:
        threat = norm, places, wanted
        bound = np.minimum(bound, _of_one_edit(victim, threat, radius, items, branches))
    return bound[..., 0] if isinstance(ks, int) else bound


def certificate_of(
    attack: Attack,
    victim: Victim,
    items: np.ndarray,
    ks: Sequence[int],
    serving: str = "full",
) -> Certificate | None:
    """Both bounds for each target of an attack; None for a model that has none.

    Of a model that no edit moves they are the hit rates as they are; of one whose content acts
    through lists of neighbours `certify_lists`, under own_row.

    Args:
      attack: its norm, eps (one budget), level and perturbed modalities matter.
      victim: the clean model.
      items: (T,) targets.
      ks: the K.
      serving: of `POLICIES`.

    Raises:
      InputError: several budgets, an item or a modality that is none, or a K beyond the
        lists that the victim keeps.
    """
    why, by_lists = blind(victim.model, serving), _by_lists(victim.model, serving)
    if not (why or by_lists or certifiable(victim.model)):
        return None
    require_one_budget(attack)
    check_lists(victim, ks)
    if why:
        still = clean_rates(victim, check_items(victim, items), tuple(ks))
        return Certificate(still, still)
    if by_lists:
        return _listed(attack, victim, items, tuple(ks))
    check_declarations(victim)
    places = chosen_modalities(victim, attack.modalities)
    items = jnp.asarray(check_items(victim, items))
    within, anything = _certify(victim, attack.norm, places, tuple(ks), attack.eps, items)
    budget = np.asarray(within) if attack.level == "projected" else None
    return Certificate(budget, np.asarray(anything) if victim.model.unit_rows else None)


def certificate_said(attack: Attack, model: Model, serving: str = "full") -> str:
    """What `certificate_of` gives, "budget", or in words what it lacks.

    Args:
      attack: its norm and level matter.
      model: the recommender.
      serving: of `POLICIES`.
    """
    if blind(model, serving):
        return "no gain: nothing changes a score"
    if _by_lists(model, serving):
        if _of_lists(attack):
            return "budget"
        return f"no budget certificate for {model.name} but of edits of raw features, l2"
    if bounded_lists(model):
        return f"no certificate for {model.name} under '{serving}', where its rivals move"
    if not model.affine_in_content:
        return f"no certificate for {model.name}: it declares no linear scores"
    if attack.level == "feature":
        return "any content; no budget certificate for attacks on raw features"
    return "budget"


def _by_lists(model: Model, serving: str) -> bool:
    return bounded_lists(model) is not None and serving == "own_row"


def _of_lists(attack: Attack) -> bool:
    """Whether a bound of lists within a budget is of its edits."""
    return attack.level == "feature" and attack.norm == "l2"


def _listed(attack: Attack, victim: Victim, items: np.ndarray, ks: tuple[int, ...]) -> Certificate:
    """By lists; gated ones bound any content only if it has nothing below 0, which is not known."""
    within = {"k": ks, "of": bound_listings(victim)}
    budget = anything = None
    if _of_lists(attack):
        budget = certify_lists(victim, items, eps=float(attack.eps), **within)
    if bounded_lists(victim.model) != "gated_lists":
        anything = certify_lists(victim, items, eps=None, **within)
    return Certificate(budget, anything)


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
    bar_sizes = jnp.stack([bar_terms(victim, k) for k in ks], axis=1)

    def one(item: jax.Array) -> tuple[jax.Array, jax.Array]:
        of = affine_scores(victim, item)
        seen_by = recommendable(victim, item)
        bars = jnp.stack([nth_other(victim, item, k) for k in ks], axis=1)

        def share(bound: jax.Array, sizes: jax.Array) -> jax.Array:
            high = bound[:, None] + margin(victim, sizes[:, None] + bar_sizes)
            return jnp.mean((high >= bars) & seen_by[:, None], axis=0)

        def within(eps: jax.Array) -> jax.Array:
            return share(
                of.score + reach(of, norm, modalities, eps), edited_terms(of, modalities, eps)
            )

        free = sum(safe_norm(w) for w in of.pull)
        anything = share(of.score - of.own + free, of.terms + 2 * sum(of.terms_by))
        return (within(eps) if jnp.ndim(eps) == 0 else jax.lax.map(within, eps)), anything

    with jax.default_matmul_precision(EXACT):
        return jax.lax.map(one, items)


_bar_terms = jax.jit(bar_terms, static_argnames="k")


@functools.partial(jax.jit, static_argnames=("norm", "modalities", "k"))
def _users(
    victim: Victim,
    norm: str,
    modalities: tuple[int, ...],
    k: int,
    eps: jax.Array,
    item: jax.Array,
    bars: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Each user's score less her bar, rounding allowed for, (n,), and slopes in the ball's unit."""
    of = affine_scores(victim, item)
    terms = edited_terms(of, modalities, eps) + bars
    gap = of.score + margin(victim, terms) - nth_other(victim, item, k)
    slopes = [eps * of.lengths[m] * of.pull[m] for m in modalities]
    seen_by = recommendable(victim, item)
    return jnp.where(seen_by, gap, -jnp.inf), jnp.concatenate(slopes, axis=1)


def _of_one_edit(
    victim: Victim,
    threat: tuple[str, tuple[int, ...], tuple[int, ...]],
    eps: jax.Array,
    items: jax.Array,
    branches: int,
) -> np.ndarray:
    """(T, Ks), or (E, T, Ks): of an edit that is the same for all users."""
    norm, places, ks = threat
    widths = [victim.z[m].shape[1] for m in places]
    starts = np.arange(sum(widths)) if norm == "linf" else np.cumsum([0, *widths[:-1]])
    n = victim.users.shape[0]

    bars = {k: _bar_terms(victim, k) for k in ks}  # the same for every target

    def share(eps: jax.Array, item: jax.Array, k: int) -> float:
        with jax.default_matmul_precision(EXACT):
            found = _users(victim, norm, places, k, eps, item, bars[k])
        gap, slopes = (np.asarray(x, float) for x in found)
        there = np.isfinite(gap) | (gap > 0)  # a bar of -inf is always reached
        problem = Reachable(np.minimum(gap[there], 1e30), slopes[there], starts)
        return most_users(problem, branches) / n

    wanted = list(itertools.product(jnp.atleast_1d(eps), items, ks))
    # What takes the time lets other threads run meanwhile.
    with concurrent.futures.ThreadPoolExecutor(multiprocessing.cpu_count()) as threads:
        found = np.array(list(threads.map(lambda each: share(*each), wanted)))
    found = found.reshape(-1, len(items), len(ks))
    return found if eps.ndim else found[0]
