"""One door for what bounds an item whose content acts through lists of raw features.

Under the policy own_row users and rivals stand still, so that a user can have the item in her
top K only if what bounds its score reaches her K-th best other item. Which bound is a model's, it
declares: `lists` (`list_bounds`), `normed_lists` (`normed_bounds`), `gated_lists`
(`gated_bounds`).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from uatmc_jax.attacks.gated_bounds import gated_bounds, gated_listings
from uatmc_jax.attacks.list_bounds import bounds_of
from uatmc_jax.attacks.listings import listings, others_bar, seen_by, unmoved
from uatmc_jax.attacks.normed_bounds import normed_bounds, normed_listings
from uatmc_jax.attacks.victim import Victim, check_items, check_lists
from uatmc_jax.errors import InputError
from uatmc_jax.models import bounded_lists


class _Kind(NamedTuple):
    """How one kind of lists is bounded.

    Attributes:
      prepare: the victim -> what bounds rest on, once for many targets.
      bounds: (the victim, that, (T,) items, eps, nonnegative) -> (T, n) what no edit within the
        budget can bring each user's score above.
    """

    prepare: Callable[[Victim], Any]
    bounds: Callable[[Victim, Any, np.ndarray, float | None, bool], np.ndarray]


def _plain(
    victim: Victim, of: Any, items: np.ndarray, eps: float | None, nonnegative: bool
) -> np.ndarray:
    del nonnegative  # the bound is of angles
    return bounds_of(victim, of, items, eps)


def _normed(
    victim: Victim, of: Any, items: np.ndarray, eps: float | None, nonnegative: bool
) -> np.ndarray:
    del nonnegative  # a direction is no longer than 1 whatever it adds up
    return np.stack([normed_bounds(victim, of, item, eps) for item in items.tolist()])


def _gated(
    victim: Victim, of: Any, items: np.ndarray, eps: float | None, nonnegative: bool
) -> np.ndarray:
    return np.stack([gated_bounds(victim, of, item, eps, nonnegative) for item in items.tolist()])


_KINDS = {
    "lists": _Kind(listings, _plain),
    "normed_lists": _Kind(normed_listings, _normed),
    "gated_lists": _Kind(gated_listings, _gated),
}


def bound_listings(victim: Victim) -> Any:
    """What the victim's certificate rests on, once for many calls; `listings` of item lists.

    Raises:
      InputError: a model that declares no lists that can be bounded.
    """
    return _kind(victim).prepare(victim)


def certify_lists(
    victim: Victim,
    items: np.ndarray,
    *,
    eps: float | None = None,
    k: int | Sequence[int] = 50,
    of: Any = None,
    nonnegative: bool = False,
) -> np.ndarray:
    """An upper bound of HR@K under own_row, whatever raw features each target is given.

    Of scores as they are computed, in float32: a user counts as reached where rounding might
    make her so.

    Args:
      victim: the clean model, of one with lists of raw features.
      items: (T,) targets.
      eps: radius in raw features, l2, a share of the row's 2-norm; None for any content.
      k: the K, or several.
      of: `bound_listings(victim)`, if known already.
      nonnegative: no content has a feature below 0, as where an encoder ends in a ReLU; gated
        lists are bounded for any content only then.

    Returns:
      (T,) shares of the users, with several K (T, Ks); all whom the item can be recommended to
      where nothing is bounded.

    Raises:
      InputError: a model without such lists, an item that is none, a negative eps, a K beyond
        the lists that the victim keeps, or features below 0 that are said not to be.
    """
    kind = _kind(victim)
    if eps is not None and not eps >= 0:
        raise InputError(f"eps = {eps}: wanted a number >= 0, or None for any content.")
    if nonnegative and min(x.min() for x in victim.dataset.features) < 0:
        raise InputError("nonnegative = True, but the data have features below 0. Leave it False.")
    ks = (k,) if isinstance(k, int) else tuple(k)
    items = check_items(victim, items)
    check_lists(victim, ks)
    of, found = kind.prepare(victim) if of is None else of, []
    bounds = kind.bounds(victim, of, items, eps, nonnegative)
    for item, bound in zip(items.tolist(), bounds, strict=True):
        there = seen_by(victim, item)
        bars = (others_bar(victim, item, unmoved(victim, item), k) for k in ks)
        found.append([np.mean((bound >= bar) & there) for bar in bars])
    return np.array(found)[:, 0] if isinstance(k, int) else np.array(found)


def _kind(victim: Victim) -> _Kind:
    name = bounded_lists(victim.model)
    if name is None:
        raise InputError(
            f"model {victim.model.name} declares no lists of neighbours that can be bounded "
            f"({', '.join(_KINDS)}), so this certificate says nothing of it."
        )
    return _KINDS[name]
