"""Item lists as an edit meets them: who is how far, who would be listed, whose list it enters.

For models whose content acts through lists of neighbours alone (`Model.lists`):

    h_i = base_i + sum_m share_m / k * sum_{j in N_i^m} table_j

No user moves. Angles and lists are of float64 on the host, by the model's own tie rule.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.attacks.victim import Victim, recommendable
from uatmc_jax.data import CSR, Dataset
from uatmc_jax.errors import InputError
from uatmc_jax.models import Graph, ItemLists, Model
from uatmc_jax.models.neighbours import (
    Directions,
    Nearest,
    all_nearest,
    cosines,
    directions,
    nearest,
)
from uatmc_jax.models.protocol import PyTree
from uatmc_jax.numerics import EXACT

# Cosines nearer than this are one, as those that were rounded to 12 digits are.
TIE = 1.5e-12


class Standing(NamedTuple):
    """One modality.

    Attributes:
      of: the items' directions.
      ids: (|I|, k) each item's k nearest others, nearest first: k-1 in its list, one waiting.
      cosines: (|I|, k) to these.
      share: share_m.
    """

    of: Directions
    ids: np.ndarray
    cosines: np.ndarray
    share: float


class Listings(NamedTuple):
    """Of a victim; float32 embeddings.

    Attributes:
      k: length of the lists, the item itself included.
      base: (|I|, D).
      table: (|I|, D).
      standings: one a modality.
    """

    k: int
    base: np.ndarray
    table: np.ndarray
    standings: tuple[Standing, ...]


class Relisting(NamedTuple):
    """What an edit makes of the item embeddings.

    Attributes:
      own: (D,) the edited item's.
      moved: (m,) ids of the others that moved; none under own_row.
      rows: (m, D) theirs.
    """

    own: np.ndarray
    moved: np.ndarray
    rows: np.ndarray


def listings(victim: Victim) -> Listings:
    """Compares all items with all, once for many targets.

    Args:
      victim: of a model with `lists`.

    Raises:
      InputError: a model without, lists of one, or no item that waits outside a list.
    """
    lists = require_lists(victim)
    require_changeable(lists, len(victim.item))
    base, table = map(np.asarray, _parts(victim.model, victim.encoder, victim.graph))
    standings = tuple(
        Standing(of, found.ids[:, 1:], found.cosines[:, 1:], share)
        for (of, found), share in zip(compared(victim.dataset, lists.k), lists.shares, strict=True)
    )
    return Listings(lists.k, base, table, standings)


def require_changeable(lists: ItemLists, n_items: int) -> None:
    """Raises InputError for lists that no edit can change."""
    if not 2 <= lists.k < n_items:
        raise InputError(
            f"lists of {lists.k} of {n_items} items: wanted at least 2, and fewer than the items, "
            "so that an edit can change them (config.model.n_neighbours)."
        )


@functools.lru_cache(maxsize=1)
def compared(dataset: Dataset, k: int) -> tuple[tuple[Directions, Nearest], ...]:
    """By modality the items' directions, and each one's list and one more, that waits outside.

    Seconds of a large catalogue, and every attack on it asks for it.
    """
    of = tuple(map(directions, dataset.features))
    return tuple((one, all_nearest(one, k + 1)) for one in of)


@functools.partial(jax.jit, static_argnames="model")
def _parts(model: Model, encoder: PyTree, graph: Graph) -> tuple[jax.Array, jax.Array]:
    with jax.default_matmul_precision(EXACT):
        return model.lists.parts(encoder, graph)


def require_lists(victim: Victim) -> ItemLists:
    """The model's lists.

    Raises:
      InputError: it declares none.
    """
    if victim.model.lists is None:
        raise InputError(
            f"model {victim.model.name} declares no item lists (lists), so there are no neighbours "
            "to choose. Attack its projected features (attacks.attack)."
        )
    return victim.model.lists


def distances(standing: Standing, row: np.ndarray) -> np.ndarray:
    """(|I|,) cosines of raw features (dim,) to all items, as they are."""
    unit = row.astype(np.float64)
    return cosines(standing.of, (unit / np.linalg.norm(unit))[None])[0]


def own_list(standing: Standing, item: int, found: np.ndarray, k: int) -> np.ndarray:
    """(k,) the item's list at those cosines, itself first."""
    return nearest(found[None], np.array([item]), k).ids[0]


def unmoved(victim: Victim, item: int) -> Relisting:
    """The item as it is, beside others as they are."""
    clean = np.asarray(victim.item)
    return Relisting(clean[item], np.zeros(0, int), clean[:0])


def relisted(of: Listings, clean: np.ndarray, item: int, rows: tuple, policy: str) -> Relisting:
    """The embeddings that move once an item has new raw features.

    Args:
      of: the victim's lists.
      clean: (|I|, D) item embeddings.
      item: the edited one.
      rows: modal, (dim_m,), its raw features.
      policy: "own_row" or "full".
    """
    own, change = of.base[item].astype(np.float64), np.zeros(of.table.shape)
    for standing, row in zip(of.standings, rows, strict=True):
        found, weight = distances(standing, row), standing.share / of.k
        own += weight * of.table[own_list(standing, item, found, of.k)].sum(axis=0, dtype=float)
        if policy == "full":
            entered, last = _crossings(standing, item, found)
            step = of.table[item].astype(float) - of.table[last]
            change += weight * entered[:, None] * step
    moved = np.flatnonzero(change.any(axis=1))
    return Relisting(own.astype(np.float32), moved, (clean[moved] + change[moved]).astype("f4"))


def _crossings(standing: Standing, item: int, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(|I|,) 1 for lists that the item enters, -1 for those it leaves; and whose place it is."""
    k = standing.ids.shape[1]
    here = standing.ids == item
    place = np.where(here.any(axis=1), here.argmax(axis=1), k)
    # The last of a list without the item: the one waiting, where the item is in it.
    last = np.where(place < k - 1, k - 1, k - 2)
    rows = np.arange(len(standing.ids))
    rival, bar = standing.ids[rows, last], standing.cosines[rows, last]
    tied = np.abs(found - bar) <= TIE
    now = np.where(tied, item < rival, found > bar)
    entered = now.astype(int) - (place < k - 1)
    entered[item] = 0  # its own list is another matter
    return entered, rival


def hits(victim: Victim, item: int, found: Relisting, k: int) -> np.ndarray:
    """(n,) bool: who has the item in her top K once embeddings have moved.

    Args:
      victim: the clean model, that keeps more than K best items a user.
      item: the edited one.
      found: what moved.
      k: the K.
    """
    scores = np.asarray(victim.user) @ found.own
    return (scores > others_bar(victim, item, found, k)) & seen_by(victim, item)


def seen_by(victim: Victim, item: int) -> np.ndarray:
    """(n,) bool: to whom the item can be recommended at all."""
    return np.asarray(_recommendable(victim, jnp.int32(item)))


_recommendable = jax.jit(recommendable)


def clean_rates(victim: Victim, items: np.ndarray, ks: tuple[int, ...]) -> np.ndarray:
    """(T, Ks) float32 share of the users who have each of (T,) items in their top K as it is."""
    rates = [[hits(victim, i, unmoved(victim, i), k).mean() for k in ks] for i in items.tolist()]
    return np.array(rates, np.float32)


def others_bar(victim: Victim, item: int, found: Relisting, k: int) -> np.ndarray:
    """(n,) each user's K-th best score among the other items, once these have moved.

    Users stay, so only the moved items are scored again. Whoever might rank an item that is
    not among her kept best ones is ranked whole.

    Args:
      victim, item, found, k: as of `hits`.
    """
    best, kept = np.asarray(victim.best_items), np.asarray(victim.best_scores)
    known = np.where(np.isin(best, [item, *found.moved]), -np.inf, kept)
    known = np.concatenate([known, _scores(victim, found.moved, found.rows)], axis=1)
    bar = np.partition(known, -k, axis=1)[:, -k]
    # Whatever is not kept scores no more than the last that is.
    unsure = np.flatnonzero(bar < kept[:, -1])
    if len(unsure):
        everything = np.array(victim.item)
        everything[found.moved] = found.rows
        whole = _scores(victim, np.arange(len(everything)), everything, unsure)
        whole[:, item] = -np.inf
        bar[unsure] = np.partition(whole, -k, axis=1)[:, -k]
    return bar


def _scores(
    victim: Victim, items: np.ndarray, rows: np.ndarray, users: np.ndarray | None = None
) -> np.ndarray:
    """(n, m) scores of items with these embeddings; -inf where they are never recommended."""
    users = np.arange(len(victim.users)) if users is None else users
    scores = np.asarray(victim.user)[users] @ rows.T
    if victim.masked is not None:
        scores[_owned(victim.masked, len(victim.users), items)[users]] = -np.inf
    return scores


def _owned(seen: CSR, n_users: int, items: np.ndarray) -> np.ndarray:
    """(n, m) bool: which of these items each user has. On the host: shapes differ every time."""
    indptr, owned = np.asarray(seen.indptr), np.asarray(seen.indices)
    users = np.repeat(np.arange(n_users), np.diff(indptr))
    place = np.full(max(owned.max(initial=0), items.max(initial=0)) + 1, -1)
    place[items] = np.arange(len(items))
    there = place[owned[: len(users)]] >= 0
    found = np.zeros((n_users, len(items)), bool)
    found[users[there], place[owned[: len(users)]][there]] = True
    return found
