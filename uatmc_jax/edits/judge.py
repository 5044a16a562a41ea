"""What the recommender makes of a target with given raw features: who sees it, and which way is up.

The JAX half of the way from pixels and words to the lists; `bridge` joins it to the encoders.

Phi is a smooth hit rate, the mean of sigmoid(x_u / w) over the users, with x_u how far the
target is above user u's K-th. Its width w is a share of how far the users' x_u spread for the
item as it is, so that it suits any model's scores: all of it looks far, a quarter nearly counts.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.attacks.listings import Listings
from uatmc_jax.attacks.perturb import Aim, aim_at, make_objective, make_utility
from uatmc_jax.attacks.record import Attack, as_compiled
from uatmc_jax.attacks.scoring.dense import DENSE
from uatmc_jax.attacks.scoring.direct import DIRECT
from uatmc_jax.attacks.scoring.protocol import Target
from uatmc_jax.attacks.victim import Victim, check_lists, recommendable, rows_of
from uatmc_jax.models import Modal
from uatmc_jax.numerics import EXACT

_LEAST_SPREAD = 1e-6
# Width of the Phi that decides between edits, as a share of the spread.
NARROW = 0.25


class Judged(NamedTuple):
    """What n contents of the target are worth.

    Attributes:
      hr: (n,) share of the users with it in their top K.
      value: (n,) Phi.
    """

    hr: np.ndarray
    value: np.ndarray


class Judge(NamedTuple):
    """One target, ready to be judged.

    Attributes:
      victim: the clean model.
      item: the target.
      raw: modal, (1, dim_m), its stored features.
      rows: features, modal, raw, (n, dim_m) -> what they are worth.
      slopes: (features, width) -> what they are worth, and dPhi / df, modal (n, dim_m); the
        width is that of the Phi whose slope it is, as a share of the spread, by default
        `NARROW`; what they are worth is by the one that decides.
      copies: the victim's lists, of models whose content acts through them alone; else None.
    """

    victim: Victim
    item: int
    raw: Modal
    rows: Callable[..., Judged]
    slopes: Callable[..., tuple[Judged, Modal]]
    copies: Listings | None = None


def make_judge(victim: Victim, item: int, k: int) -> Judge:
    """A target's judge.

    Args:
      victim: the clean model, whose lists reach K.
      item: the target.
      k: K of the hit rate and of Phi's threshold.

    Raises:
      InputError: a K beyond the lists.
    """
    check_lists(victim, (k,))
    aim, spread = _aim(victim, jnp.asarray(item, jnp.int32), k)
    sigmoid = Attack(utility="sigmoid", k=k, level="feature")
    attack = as_compiled(sigmoid).replace(margin=NARROW * spread)  # type: ignore[attr-defined]
    looks = _Looks(victim, attack, aim, _stored(victim, aim.state.item), spread)
    rows, slopes = functools.partial(_rows, looks), functools.partial(_slopes, looks)
    return Judge(victim, item, looks.raw, rows, slopes)


class _Looks(NamedTuple):
    """What a target is judged with.

    Attributes:
      victim: the clean model.
      attack: whose Phi decides between edits; on raw features.
      aim: the target.
      raw: modal, (1, dim_m), its stored features.
      spread: () standard deviation over the users of x_u, for the item as it is.
    """

    victim: Victim
    attack: Attack
    aim: Aim
    raw: Modal
    spread: jax.Array


@functools.partial(jax.jit, static_argnames=("k",))
def _aim(victim: Victim, item: jax.Array, k: int) -> tuple[Aim, jax.Array]:
    scorer = DENSE if victim.model.encode_rows is None else DIRECT
    with jax.default_matmul_precision(EXACT):
        aim = aim_at(victim, scorer, Target(item), k, (k,))
        excess = scorer.excess(victim, aim.state, rows_of(victim.z, item))
        counted = recommendable(victim, item)
        return aim, jnp.maximum(jnp.std(excess, where=counted), _LEAST_SPREAD)


@jax.jit
def _stored(victim: Victim, item: jax.Array) -> Modal:
    return rows_of(victim.features, item)


def _rows(looks: _Looks, features: Sequence[np.ndarray | jax.Array]) -> Judged:
    n, rows = padded(features)
    hr, value = _values(looks.attack, looks.victim, looks.aim, rows)
    return Judged(np.asarray(hr)[:n], np.asarray(value)[:n])


def projected(victim: Victim, features: Sequence[np.ndarray | jax.Array]) -> tuple[np.ndarray, ...]:
    """Modal z, (n, d), of raw features, (n, dim_m)."""
    n, rows = padded(features)
    return tuple(np.asarray(x)[:n] for x in _projected(victim, rows))


@jax.jit
def _projected(victim: Victim, rows: Modal) -> Modal:
    with jax.default_matmul_precision(EXACT):
        return victim.model.project(victim.projectors, rows)


def padded(features: Sequence[np.ndarray | jax.Array]) -> tuple[int, Modal]:
    """How many contents there are, and they with their last repeated up to a power of two."""
    n = len(features[0])
    size = 1 << (n - 1).bit_length()  # few shapes, so few programs
    rows = tuple(jnp.pad(jnp.asarray(x), ((0, size - n), (0, 0)), mode="edge") for x in features)
    return n, rows


@jax.jit
def _values(attack: Attack, victim: Victim, aim: Aim, rows: Modal):
    utility = make_utility(attack, victim, aim)

    def one(row: Modal):
        z = victim.model.project(victim.projectors, tuple(x[None] for x in row))
        return _hit_rate(victim, aim, z), utility(z)

    with jax.default_matmul_precision(EXACT):
        return jax.lax.map(one, rows)


def _hit_rate(victim: Victim, aim: Aim, z: Modal) -> jax.Array:
    hits = aim.scorer.hits(victim, aim.state, z)[:, 0].astype(jnp.float32)
    return jnp.mean(jnp.where(recommendable(victim, aim.state.item), hits, 0.0))


def _slopes(
    looks: _Looks, features: Sequence[jax.Array], width: float = NARROW
) -> tuple[Judged, Modal]:
    n, rows = padded(features)
    wide = looks.attack.replace(margin=width * looks.spread)  # type: ignore[attr-defined]
    given = looks.attack, wide, looks.victim, looks.aim, looks.raw, rows
    hr, value, slope = _looked(*given)
    return Judged(np.asarray(hr)[:n], np.asarray(value)[:n]), tuple(x[:n] for x in slope)


@jax.jit
def _looked(attack: Attack, wide: Attack, victim: Victim, aim: Aim, raw: Modal, rows: Modal):
    objective = make_objective(wide, victim, aim)
    utility = make_utility(attack, victim, aim)

    def one(row: Modal):
        delta = tuple(x[None] - base for x, base in zip(row, raw, strict=True))
        look = objective(delta)
        slope = tuple(x[0] for x in look.direction)
        return _hit_rate(victim, aim, look.z), utility(look.z), slope

    with jax.default_matmul_precision(EXACT):
        return jax.lax.map(one, rows)
