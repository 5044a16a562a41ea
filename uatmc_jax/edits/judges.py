"""Which judge a model has; and that of models read through lists of neighbours alone, as FREEDOM.

The scores of these jump as a list changes, and have no gradient before. What an edit is worth is
what the exact lists of its features give, under the policy. Where a search is to go next says the
slope of the same with soft lists (`attacks.soft_lists`), which grow harder as Phi grows narrower.
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.attacks.listings import Listings, hits, listings, relisted, require_changeable
from uatmc_jax.attacks.neighbour_choice import list_aim
from uatmc_jax.attacks.soft_lists import Effort, ListAim, list_utility
from uatmc_jax.attacks.victim import Victim, check_lists
from uatmc_jax.edits.judge import NARROW, Judge, Judged, make_judge, padded
from uatmc_jax.errors import InputError
from uatmc_jax.models import Modal, Model, blind
from uatmc_jax.models.neighbours import cosines, nearest
from uatmc_jax.numerics import EXACT


def open_judges(victim: Victim, k: int, policy: str) -> Callable[[int], Judge]:
    """Target -> its judge.

    Args:
      victim: the clean model, whose lists of the best reach K.
      k: K of the hit rate.
      policy: what is computed anew, of `models.POLICIES`.

    Raises:
      InputError: as `require_judge`; a K beyond the lists.
    """
    require_judge(victim.model, policy, len(victim.item))
    if victim.model.lists is not None:
        check_lists(victim, (k,))
        return _list_judges(victim, k, policy)
    return lambda item: make_judge(victim, item, k)


def require_judge(model: Model, policy: str, n_items: int) -> None:
    """Raises InputError for a model whose answer to an edit of raw features is not known whole.

    Args:
      model: the recommender.
      policy: what is computed anew.
      n_items: of the catalogue.
    """
    why = blind(model, policy)
    if why:
        raise InputError(f"{why}. Leave edits of pictures and titles out.")
    if model.lists is not None:
        require_changeable(model.lists, n_items)
        return
    if "raw" in model.reads:
        beside = " and projected ones beside" if "z" in model.reads else ""
        raise InputError(
            f"model {model.name} reads raw features by neighbours{beside}, and declares no lists "
            "(lists) that say all of what an edit of them does, so edits of pictures and titles "
            "are not searched. Leave them out."
        )
    if policy == "own_row" and model.encode_rows is None:
        raise InputError(
            f"serving = 'own_row': an edit moves more than its own item's row in model "
            f"{model.name}, and is searched with everything computed anew. Use 'full'."
        )


def _list_judges(victim: Victim, k: int, policy: str) -> Callable[[int], Judge]:
    of = listings(victim)
    table = jnp.asarray(of.table)  # once, not for every target
    units = tuple(jnp.asarray(s.of.units, jnp.float32) for s in of.standings)
    shares, clean = tuple(s.share for s in of.standings), np.asarray(victim.item)

    def judge(item: int) -> Judge:
        parts = of.base[item], table, shares, of.k
        aim = list_aim(victim, units, item, parts, (None, k))
        raw = tuple(x[None] for x in aim.clean)

        def rates(rows: Sequence[np.ndarray]) -> np.ndarray:
            if policy == "own_row":  # bars stand still
                own = _own(of, item, rows)
                return np.mean(np.asarray(aim.user) @ own.T > np.asarray(aim.bars)[:, None], axis=0)
            edits = zip(*(np.asarray(x) for x in rows), strict=True)
            found = [relisted(of, clean, item, edit, policy) for edit in edits]
            return np.array([hits(victim, item, one, k).mean() for one in found])

        return Judge(
            victim=victim,
            item=item,
            raw=raw,
            rows=functools.partial(_rows, aim, rates),
            slopes=functools.partial(_slopes, aim, rates),
            copies=of,
        )

    return judge


def _own(of: Listings, item: int, rows: Sequence[np.ndarray]) -> np.ndarray:
    """(n, D) the item, by its exact lists, with each of n contents."""
    own = of.base[item].astype(np.float64)[None]
    for standing, features in zip(of.standings, rows, strict=True):
        units = np.asarray(features, np.float64)
        units = units / np.linalg.norm(units, axis=1, keepdims=True)
        near = nearest(cosines(standing.of, units), np.full(len(units), item), of.k)
        listed = of.table[near.ids].sum(axis=1, dtype=float)
        own = own + standing.share / of.k * listed
    return own.astype(np.float32)


def temperature(width: float) -> float:
    """tau of the soft lists for a Phi of this width.

    >>> round(temperature(1.0), 3), round(temperature(NARROW), 3)
    (0.1, 0.01)
    """
    first, last = Effort().temperature
    return first * (last / first) ** (math.log(width) / math.log(NARROW))


def _rows(
    aim: ListAim,
    rates: Callable[[Sequence[np.ndarray]], np.ndarray],
    features: Sequence[np.ndarray | jax.Array],
) -> Judged:
    n, rows = padded(features)
    value = _values(aim, rows, jnp.float32(temperature(NARROW)))
    return Judged(rates([x[:n] for x in rows]), np.asarray(value)[:n])


def _slopes(
    aim: ListAim,
    rates: Callable[[Sequence[np.ndarray]], np.ndarray],
    features: Sequence[jax.Array],
    width: float = NARROW,
) -> tuple[Judged, Modal]:
    _, rows = padded(features)
    slope = _slope(aim, rows, jnp.float32(temperature(width)))
    return _rows(aim, rates, features), tuple(x[: len(features[0])] for x in slope)


@jax.jit
def _values(aim: ListAim, rows: Modal, tau: jax.Array) -> jax.Array:
    with jax.default_matmul_precision(EXACT):
        return jax.lax.map(lambda row: list_utility(aim, None, row, tau)[0], rows)


@jax.jit
def _slope(aim: ListAim, rows: Modal, tau: jax.Array) -> Modal:
    slope = jax.grad(lambda row: list_utility(aim, None, row, tau)[0])
    with jax.default_matmul_precision(EXACT):
        return jax.lax.map(slope, rows)
