"""Relaxed lists, for the search that chooses an item's neighbours (`neighbour_choice`).

Item j is listed by

    p_j = (k-1) s_j / sum_l s_l,    s_j = logistic((cos(x', x_j) - b) / tau)

b half-way between the last one listed and the first one not; or wanted by a hinge,

    sum_{j in W} max(0, margin + b_W - cos(x', x_j)),

b_W the cosine of the (k - |W|)-th nearest of the others: at 0 all of W are listed.
"""

import functools
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from uatmc_jax.models import Modal
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
    found = aim.units[m] @ normalize_rows(row[None])[0]
    return found.at[aim.item].set(-jnp.inf)


def _utility(aim: ListAim, rows: Modal, tau: jax.Array) -> tuple[jax.Array, jax.Array]:
    """() mean elu(y - bar) with the soft lists, and the share of hits with the hard ones."""
    soft = hard = aim.base
    for m, row in enumerate(rows):
        found = _similar(aim, m, row)
        largest, ids = jax.lax.top_k(jax.lax.stop_gradient(found), aim.k)
        logits = jnp.where(jnp.isfinite(found), (found - largest[-2:].mean()) / tau, -jnp.inf)
        chosen = jax.nn.sigmoid(logits)
        listed = (aim.k - 1) / jnp.maximum(chosen.sum(), 1e-30) * (chosen @ aim.table)
        weight, own = aim.shares[m] / aim.k, aim.table[aim.item]
        soft = soft + weight * (own + listed)
        hard = hard + weight * (own + aim.table[ids[:-1]].sum(axis=0))
    gap = aim.user @ soft - aim.bars
    value = jnp.mean(jnp.where(jnp.isfinite(gap), jax.nn.elu(gap), 0.0))
    return value, jnp.mean(aim.user @ hard > aim.bars)


@functools.partial(jax.jit, static_argnames="effort")
def soft_lists(aim: ListAim, rows: Modal, effort: Effort) -> Modal:
    """The features along the ascent whose hard lists make the most users see the item."""
    first, last = effort.temperature
    ascended = jax.value_and_grad(lambda *x: _utility(*x), argnums=1, has_aux=True)

    def step(carry, number: jax.Array):
        rows, best, kept = carry
        share = number / max(effort.steps - 1, 1)
        (_, rate), slopes = ascended(aim, rows, first * (last / first) ** share)
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
    """Features of modality m, as near to listing all that are wanted as the ascent came."""

    def lack(row: jax.Array) -> jax.Array:
        found = _similar(aim, m, row)
        rest = found.at[wanted].set(-jnp.inf)
        bar = jax.lax.top_k(rest, aim.k - wanted.size)[0][-1]
        return jnp.sum(jnp.maximum(0.0, effort.margin + bar - found[wanted]))

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
