"""Relaxed lists, for the search that chooses an item's neighbours (`neighbour_choice`).

Item j is listed by

    p_j = (k-1) s_j / sum_l s_l,    s_j = logistic((cos(x', x_j) - b) / tau)

b half-way between the last one listed and the first one not; or wanted by a hinge,

    sum_{j in W} max(0, margin + b_W - cos(x', x_j)),

b_W the cosine of the (k - |W|)-th nearest of the others: at 0 all of W are listed. Where lists
are valued by cosines and added up as a direction (`models.NormedLists`), p_j stands beside the
cosine in values and sums, and lists of z are made soft alike.
"""

import functools
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from uatmc_jax.models import Modal, Model
from uatmc_jax.models.protocol import PyTree
from uatmc_jax.numerics import EXACT, normalize_rows, safe_norm


class Effort(NamedTuple):
    """How long the two searches look.

    Attributes:
      steps: of an ascent.
      step_size: the first step's length, as a share of the radius; it falls to a tenth.
      temperature: tau of the first and of the last step.
      rounds: neighbours wanted at most, a modality.
      tried: of the most promising ones, how many are asked for in each round.
      margin: of the hinge.
    """

    steps: int = 20
    step_size: float = 0.5
    temperature: tuple[float, float] = (0.1, 0.01)
    rounds: int = 3
    tried: int = 3
    margin: float = 1e-3


@flax.struct.dataclass
class ListAim:
    """One target, on the device.

    Attributes:
      item: () int32.
      units: modal, (|I|, dim_m), the items' directions.
      base: (D,) the target's.
      table: (|I|, D).
      user: (n, D).
      bars: (n,) what its score must exceed.
      clean: modal, (dim_m,), its features.
      radius: modal, (), of the ball; inf for none.
      shares: (M,)
      k: length of a list (static).
    """

    item: jax.Array
    units: Modal
    base: jax.Array
    table: jax.Array
    user: jax.Array
    bars: jax.Array
    clean: Modal
    radius: Modal
    shares: jax.Array
    k: int = flax.struct.field(pytree_node=False)


@flax.struct.dataclass
class NormedAim:
    """What more there is of lists that are added up as a direction.

    Attributes:
      raw_share: () lambda.
      raw_sums: modal, (|I|,), c of the raw lists, as stored.
      z_units: modal, (|I|, d), the directions of projected features.
      z_sums: (|I|,), c of the learned lists' mixture, as stored.
      projectors: of the model (static).
    """

    raw_share: jax.Array
    raw_sums: Modal
    z_units: Modal
    z_sums: jax.Array
    projectors: PyTree
    model: Model = flax.struct.field(pytree_node=False)


def _projected(aim: ListAim, rows: Modal) -> Modal:
    """Into the balls around the clean features; where there are none, to their length."""
    found = []
    for row, clean, radius in zip(rows, aim.clean, aim.radius, strict=True):
        length = safe_norm(row - clean)
        inside = clean + (row - clean) * jnp.minimum(1.0, radius / jnp.maximum(length, 1e-30))
        unbounded = row * safe_norm(clean) / jnp.maximum(safe_norm(row), 1e-30)
        found.append(jnp.where(jnp.isinf(radius), unbounded, inside))
    return tuple(found)


def _moved(aim: ListAim, rows: Modal, slopes: Modal, size: jax.Array) -> Modal:
    """A step up the slopes, of a length that is a share of the radius (or of the features)."""
    found = []
    for row, slope, clean, radius in zip(rows, slopes, aim.clean, aim.radius, strict=True):
        unit = slope / jnp.maximum(safe_norm(slope), 1e-30)
        found.append(row + size * jnp.where(jnp.isinf(radius), safe_norm(clean), radius) * unit)
    return _projected(aim, tuple(found))


def _similar(aim: ListAim, m: int, row: jax.Array) -> jax.Array:
    """(|I|,) cosines of a row (dim_m,) to the others; -inf to the target."""
    return _cosines(aim, aim.units[m], row)


def _cosines(aim: ListAim, units: jax.Array, row: jax.Array) -> jax.Array:
    found = units @ normalize_rows(row[None])[0]
    return found.at[aim.item].set(-jnp.inf)


def _members(found: jax.Array, k: int, tau: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(|I|,) p of the soft list at these cosines, and 1 where the hard one has an item."""
    largest, ids = jax.lax.top_k(jax.lax.stop_gradient(found), k)
    logits = jnp.where(jnp.isfinite(found), (found - largest[-2:].mean()) / tau, -jnp.inf)
    chosen = jax.nn.sigmoid(logits)
    soft = (k - 1) / jnp.maximum(chosen.sum(), 1e-30) * chosen
    return soft, jnp.zeros_like(found).at[ids[:-1]].set(1.0)


def _embeddings(aim: ListAim, rows: Modal, tau: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(D,) the target with soft lists, and with hard ones."""
    both = [aim.base, aim.base]
    for m, row in enumerate(rows):
        lists = _members(_similar(aim, m, row), aim.k, tau)
        own, weight = aim.table[aim.item], aim.shares[m] / aim.k
        both = [x + weight * (own + p @ aim.table) for x, p in zip(both, lists, strict=True)]
    return both[0], both[1]


def _directions(
    aim: ListAim, normed: NormedAim, rows: Modal, tau: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The same of lists that are added up as a direction."""
    z = normed.model.project(normed.projectors, tuple(row[None] for row in rows))
    raw = [_similar(aim, m, row) for m, row in enumerate(rows)]
    content = [_cosines(aim, u, x[0]) for u, x in zip(normed.z_units, z, strict=True)]

    def added(lists: list[jax.Array], found: list[jax.Array], shares: jax.Array, sums: jax.Array):
        """What lists of one mixture add up, given whom each has: sum_j P_tj table_j."""
        values = sum(
            share * p * jnp.where(jnp.isfinite(s), s, 0.0)
            for share, p, s in zip(shares, lists, found, strict=True)
        )
        total = jnp.sum(shares) + jnp.sum(values)
        others = (values / jnp.sqrt(sums)) @ aim.table / jnp.sqrt(total)
        return jnp.sum(shares) * aim.table[aim.item] / total + others

    both = []
    for place in (0, 1):  # soft, hard
        lists = [[_members(s, aim.k, tau)[place] for s in found] for found in (raw, content)]
        v = (1 - normed.raw_share) * added(lists[1], content, aim.shares, normed.z_sums)
        for m, sums in enumerate(normed.raw_sums):
            one = added([lists[0][m]], [raw[m]], jnp.ones(1), sums)
            v = v + normed.raw_share * aim.shares[m] * one
        both.append(aim.base + normalize_rows(v[None])[0])
    return both[0], both[1]


def list_utility(
    aim: ListAim, normed: NormedAim | None, rows: Modal, tau: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """() mean elu(y - bar) with the soft lists, and the share of hits with the hard ones."""
    if normed is None:
        soft, hard = _embeddings(aim, rows, tau)
    else:
        soft, hard = _directions(aim, normed, rows, tau)
    gap = aim.user @ soft - aim.bars
    value = jnp.mean(jnp.where(jnp.isfinite(gap), jax.nn.elu(gap), 0.0))
    return value, jnp.mean(aim.user @ hard > aim.bars)


@functools.partial(jax.jit, static_argnames="effort")
def soft_lists(aim: ListAim, normed: NormedAim | None, rows: Modal, effort: Effort) -> Modal:
    """The features along the ascent whose hard lists make the most users see the item."""
    first, last = effort.temperature
    ascended = jax.value_and_grad(list_utility, argnums=2, has_aux=True)

    def step(carry, number: jax.Array):
        rows, best, kept = carry
        share = number / max(effort.steps - 1, 1)
        (_, rate), slopes = ascended(aim, normed, rows, first * (last / first) ** share)
        better = rate > best
        kept = tuple(jnp.where(better, x, y) for x, y in zip(rows, kept, strict=True))
        rows = _moved(aim, rows, slopes, effort.step_size * 0.1**share)
        return (rows, jnp.maximum(best, rate), kept), None

    with jax.default_matmul_precision(EXACT):
        rows = tuple(jnp.asarray(x) for x in rows)
        begin = rows, jnp.float32(-1.0), rows
        return jax.lax.scan(step, begin, jnp.arange(effort.steps + 1))[0][2]


@functools.partial(jax.jit, static_argnames=("m", "effort"))
def wanted_lists(aim: ListAim, rows: Modal, wanted: jax.Array, m: int, effort: Effort) -> Modal:
    """Features of modality m, as near to listing all that are wanted as the ascent came.

    Args:
      aim: the target.
      rows: modal, (dim_m,), where to start.
      wanted: (|I|,) bool, at most k - 1 of them.
      m: place of the modality.
      effort: how long the ascent is.
    """

    def lack(row: jax.Array) -> jax.Array:
        found = _similar(aim, m, row)
        rest = jax.lax.top_k(jnp.where(wanted, -jnp.inf, found), aim.k)[0]
        bar = rest[aim.k - 1 - jnp.sum(wanted)]
        lacks = jnp.maximum(0.0, effort.margin + bar - jnp.where(wanted, found, 0.0))
        return jnp.sum(jnp.where(wanted, lacks, 0.0))

    def step(carry, number: jax.Array):
        row, least, kept = carry
        value, slope = jax.value_and_grad(lack)(row)
        better = value < least
        kept, least = jnp.where(better, row, kept), jnp.minimum(least, value)
        size = effort.step_size * 0.1 ** (number / max(effort.steps - 1, 1))
        slopes = tuple(jnp.zeros_like(x) if n != m else -slope for n, x in enumerate(aim.clean))
        full = tuple(row if n == m else x for n, x in enumerate(rows))
        return (_moved(aim, full, slopes, size)[m], least, kept), None

    with jax.default_matmul_precision(EXACT):
        row = jnp.asarray(rows[m])
        kept = jax.lax.scan(step, (row, jnp.inf, row), jnp.arange(effort.steps + 1))[0][2]
    return tuple(kept if n == m else jnp.asarray(x) for n, x in enumerate(rows))
