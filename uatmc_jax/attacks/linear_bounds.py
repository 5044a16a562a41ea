"""How far no edit of z can promote an item whose content spreads linearly.

With `models.LinearPass` an edit delta^m of z_t moves users and items by their columns,

    h_u'^(m) = h_u^(m) + a_u^m delta^m,    h_j'^(m) = h_j^(m) + b_j^m delta^m

^(m) being the coordinates of the m-th part. The margin over a rival j is then no more than

    y_ut - y_uj + sum_m r^m ||a_u^m (h_t - h_j)^(m) + (b_t^m - b_j^m) u^(m)||_*
                + sum_m max(0, a_u^m (b_t^m - b_j^m)) rho_m^2,    rho_m = max ||delta^m||_2

and a user can see the item in her top K only if fewer than K rivals have a margin below 0 at
most. Where parts are the same coordinates and columns the same, the last term is that of the sum
of the edits. Under own_row a and the rivals' b are 0, b_t is what the item's own row reads.
No sign of a or b is assumed.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.attacks.cosine_bounds import BLOCK, UNIT
from uatmc_jax.attacks.policies import blind
from uatmc_jax.attacks.victim import Victim, check_items, check_lists, recommendable
from uatmc_jax.checks import one_of
from uatmc_jax.errors import InputError
from uatmc_jax.models import Embeddings, Graph, Model
from uatmc_jax.models.protocol import PyTree
from uatmc_jax.numerics import EXACT


def certify_linear(
    victim: Victim,
    items: np.ndarray,
    *,
    eps: float,
    norm: str = "l2",
    policy: str = "full",
    k: int = 50,
) -> np.ndarray:
    """An upper bound of HR@K under every attack on z within the budget, lists as they are.

    Args:
      victim: the clean model, of one with `linear`.
      items: (T,) targets.
      eps: radius as a share of the row's 2-norm, in every modality.
      norm: of the ball in z, "l2" or "linf".
      policy: "own_row" or "full".
      k: the K.

    Returns:
      (T,) shares of the users.

    Raises:
      InputError: a model that does not spread content linearly, a norm or policy that is none,
        a negative eps, an item that is none, or a K beyond the lists that the victim keeps.
    """
    if victim.model.linear is None:
        raise InputError(
            f"model {victim.model.name} does not declare that its content spreads linearly "
            "(linear), so this certificate says nothing of it."
        )
    one_of("norm", norm, ("l2", "linf"))
    if not eps >= 0:
        raise InputError(f"eps = {eps}: wanted a number >= 0.")
    items = check_items(victim, items)
    check_lists(victim, (k,))
    eps = 0.0 if blind(victim.model, policy) else eps
    return np.array([_share(victim, int(item), (eps, norm, policy), k) for item in items])


@functools.partial(jax.jit, static_argnames="model")
def _columns(model: Model, encoder: PyTree, graph: Graph, item: jax.Array) -> Embeddings:
    with jax.default_matmul_precision(EXACT):
        return model.linear.columns(encoder, graph, item)


def _share(victim: Victim, item: int, threat: tuple[float, str, str], k: int) -> float:
    eps, norm, policy = threat
    linear = victim.model.linear
    a, b = _columns(victim.model, victim.encoder, victim.graph, jnp.int32(item))
    a, b = np.asarray(a, float)[np.asarray(victim.users)], np.asarray(b, float)
    if policy == "own_row":
        a, b = np.zeros_like(a), np.zeros_like(b)
        b[item] = linear.own
    radii = np.array([eps * np.linalg.norm(np.asarray(z[item], float)) for z in victim.z])
    radii *= 1 + 1e-5
    seen_by = np.asarray(recommendable(victim, jnp.int32(item)))
    reached = np.zeros(len(seen_by), bool)
    for start in range(0, len(a), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(a)))
        most = margins(victim, item, (rows, a[rows], b), radii, norm)
        reached[rows] = (most < 0).sum(axis=1) < k
    return float(np.mean(reached & seen_by))


def margins(
    victim: Victim,
    item: int,
    columns: tuple[np.ndarray, np.ndarray, np.ndarray],
    radii: np.ndarray,
    norm: str,
) -> np.ndarray:
    """(b, |I|) what no edit lifts the item's score above another's by, rounding included.

    inf of the item itself, and of items that are never recommended to the user.

    Args:
      victim: the clean model.
      item: the edited one.
      columns: (b,) users by position, their columns (b, M), the items' (|I|, M).
      radii: (M,) of the balls.
      norm: theirs.
    """
    rows, a, b = columns
    linear, table = victim.model.linear, np.asarray(victim.item, float)
    user = np.asarray(victim.user, float)[rows]
    own = table[item]
    most = (user @ own)[:, None] - user @ table.T
    ahead = b[item] - b  # (|I|, M)
    for m, (first, end) in enumerate(linear.parts):
        part = slice(first, end)
        size = _dual(user[:, part], norm)
        lift = np.abs(ahead[:, m]) * size[:, None]
        for n in np.flatnonzero(a[:, m]):  # whose own embeddings move
            slope = a[n, m] * (own - table)[:, part] + ahead[:, m, None] * user[n, part]
            lift[n] = _dual(slope, norm)
        most += radii[m] * lift
    lengths = radii if norm == "l2" else radii * np.sqrt([z.shape[1] for z in victim.z])
    if linear.shared:
        most += np.maximum(0.0, a[:, :1] * ahead[:, 0]) * lengths.sum() ** 2
    else:
        for m in range(len(radii)):
            most += np.maximum(0.0, a[:, m, None] * ahead[:, m]) * lengths[m] ** 2
    # Of the clean scores, and of what the edit adds to users and items alike.
    reach = np.abs(a).max(axis=1, initial=0.0) + 1
    largest = np.abs(table).max(axis=0) + np.abs(b).max() * lengths.sum()
    moved = np.abs(user) + (reach * lengths.sum())[:, None]
    most += 4 * (user.shape[1] + 32) * UNIT * (moved @ largest)[:, None]
    most[:, item] = np.inf
    if victim.masked is not None:
        indptr, indices = (np.asarray(x) for x in (victim.masked.indptr, victim.masked.indices))
        for n, row in enumerate(rows):
            most[n, indices[indptr[row] : indptr[row + 1]]] = np.inf
    return most


def _dual(x: np.ndarray, norm: str) -> np.ndarray:
    return np.linalg.norm(x, ord=1 if norm == "linf" else 2, axis=-1)
