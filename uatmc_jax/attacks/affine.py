"""Scores that are affine in the target's content: their slopes, and what rounding makes of them.

What certificates rest on. A model declares `affine_in_content`; here it is tried.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.attacks.scoring.direct import DIRECT, target_item
from uatmc_jax.attacks.scoring.protocol import Target
from uatmc_jax.attacks.victim import Victim, rows_of
from uatmc_jax.errors import InputError
from uatmc_jax.models import Modal
from uatmc_jax.numerics import EXACT, safe_norm

# Of float32: half the distance from 1 to the next number.
_UNIT = 2.0**-24
# How much longer than 1 rounding may make rows of z.
_LENGTH = 1e-5
# Items whose declarations are tried, and by how much of the rounding allowed they may be off.
_PROBED, _ALLOWED = 64, 4.0


class AffineScores(NamedTuple):
    """Every user's score of one target.

    Attributes:
      score: (n,) clean.
      own: (n,) what of it its content makes.
      pull: modal, (n, d), slopes w_u.
      terms: (n,) sum of the absolute values of all that is added up to it, which rounding
        follows: with large parts that cancel, that is much more than the score.
      terms_by: modal, (n,), by how much an edit of 1 in every coordinate can raise it.
      lengths: modal, (), 2-norm of the content.
    """

    score: jax.Array
    own: jax.Array
    pull: Modal
    terms: jax.Array
    terms_by: Modal
    lengths: Modal


class _Embedding(NamedTuple):
    """A target's embedding: fixed + sum_m slopes^m z^m, (D,) and modal (D, d)."""

    value: jax.Array
    fixed: jax.Array
    slopes: Modal
    z: Modal


def _embedding(victim: Victim, item: jax.Array) -> _Embedding:
    state = DIRECT.prepare(victim, Target(item), 1, (1,))
    z = rows_of(victim.z, item)
    value = target_item(victim, state, z)
    jacobians = jax.jacfwd(lambda z: target_item(victim, state, z))(z)  # each (D, 1, d)
    slopes, z = tuple(x[:, 0] for x in jacobians), tuple(row[0] for row in z)
    return _Embedding(value, value - _apply(slopes, z), slopes, z)


def _apply(slopes: Modal, z: Modal) -> jax.Array:
    parts = (slope @ row for slope, row in zip(slopes, z, strict=True))
    return functools.reduce(jnp.add, parts)


def _terms(of: _Embedding, z: Modal) -> jax.Array:
    """(D,) sums of absolute values, at the content it has and at content z."""
    both = tuple(jnp.abs(a) + jnp.abs(b) for a, b in zip(of.z, z, strict=True))
    return jnp.abs(of.fixed) + _apply(tuple(map(jnp.abs, of.slopes)), both)


def affine_scores(victim: Victim, item: jax.Array) -> AffineScores:
    """Scores, slopes and roundings of one target.

    Args:
      victim: the clean model, with `affine_in_content`.
      item: () int32.
    """
    of, users = _embedding(victim, item), jnp.abs(victim.user)
    pull = tuple(victim.user @ slope for slope in of.slopes)
    return AffineScores(
        score=victim.user @ of.value,
        own=sum(w @ row for w, row in zip(pull, of.z, strict=True)),
        pull=pull,
        terms=users @ _terms(of, of.z),
        terms_by=tuple(users @ jnp.abs(slope).sum(axis=1) for slope in of.slopes),
        lengths=tuple(map(safe_norm, of.z)),
    )


def reach(of: AffineScores, norm: str, modalities: tuple[int, ...], eps: jax.Array) -> jax.Array:
    """(n,) the most that an edit within the budget adds to a user's score.

    Args:
      of: the target's scores.
      norm: "l2" or "linf".
      modalities: places of those edited.
      eps: radius as a share of the content's length.
    """
    order = 1 if norm == "linf" else 2
    return sum(
        eps * of.lengths[m] * jnp.linalg.norm(of.pull[m], ord=order, axis=1) for m in modalities
    )


def edited_terms(of: AffineScores, modalities: tuple[int, ...], eps: jax.Array) -> jax.Array:
    """(n,) `terms` under any edit within the budget, of the score and of what it is bounded by."""
    return of.terms + 2 * sum(eps * of.lengths[m] * of.terms_by[m] for m in modalities)


def bar_terms(victim: Victim, k: int) -> jax.Array:
    """(n,) sum_k |u_k h_k| of whichever item is a user's K-th best other.

    Args:
      victim: with more than K best items kept.
      k: the K.
    """
    last = victim.item.shape[0] - 1

    def size(place: int) -> jax.Array:
        items = victim.item[jnp.minimum(victim.best_items[:, place], last)]
        return jnp.sum(jnp.abs(victim.user * items), axis=1)

    return jnp.maximum(size(k - 1), size(k))


def margin(victim: Victim, terms: jax.Array) -> jax.Array:
    """What rounding can make of sums of absolute value `terms` at most (Higham, 2002, 3.1).

    Args:
      victim: whose widths say how many terms are added up.
      terms: of any shape.
    """
    count = victim.user.shape[1] + sum(z.shape[1] for z in victim.z) + 16
    return count * _UNIT / (1 - count * _UNIT) * terms


def check_declarations(victim: Victim) -> None:
    """Tries on some items whether a model that declares `affine_in_content` is.

    Their contents are replaced by random ones of length 1, so that an embedding that is
    affine near the catalogue's contents alone is found out as well.

    Args:
      victim: the clean model.

    Raises:
      InputError: other items' or users' embeddings move, the item's is not affine in its
        content or not what `encode_rows` says; or rows of z longer than 1.
    """
    name = victim.model.name
    for modality, z in zip(victim.modalities, victim.z, strict=True):
        if not victim.model.unit_rows:
            break
        longest = float(jnp.sqrt(jnp.max(jnp.sum(z * z, axis=1))))
        if longest > 1 + _LENGTH:
            raise InputError(
                f"{name}: rows of z ({modality}) are up to {longest:.6g} long, but certificates "
                "rest on rows no longer than 1. Normalise them in `project`, or declare "
                "unit_rows = False."
            )
    n_items = victim.item.shape[0]
    rng = np.random.default_rng(0)
    items = np.sort(rng.choice(n_items, min(_PROBED, -(-n_items // 2)), replace=False))
    drawn = [rng.normal(size=(len(items), z.shape[1])) for z in victim.z]
    contents = tuple(
        jnp.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), jnp.float32) for x in drawn
    )
    moved, off = (float(x) for x in _probe(victim, jnp.asarray(items), contents))
    if not (moved <= _ALLOWED and off <= _ALLOWED):
        what = (
            "with an item's content other items or users move"
            if moved > _ALLOWED
            else "an item's embedding is not affine in its content"
        )
        raise InputError(
            f"{name} declares affine_in_content, but {what}: no certificate holds. Do not "
            f"declare it. (Tried on {len(items)} items; {max(moved, off):.3g} times what rounding "
            "makes.)"
        )


@jax.jit
def _probe(victim: Victim, items: jax.Array, contents: Modal) -> tuple[jax.Array, jax.Array]:
    """How far all others move when (p,) items have contents (p, d), and how far these are from
    what their slopes say, both in what rounding makes."""
    z = tuple(x.at[items].set(rows) for x, rows in zip(victim.z, contents, strict=True))

    def predict(item: jax.Array, rows: Modal) -> tuple[jax.Array, jax.Array]:
        of = _embedding(victim, item)
        return of.fixed + _apply(of.slopes, rows), _terms(of, rows)

    with jax.default_matmul_precision(EXACT):
        user, item = victim.model.encode(victim.encoder, z, victim.graph)
        predicted, terms = jax.vmap(predict)(items, contents)
    rest = jnp.ones(len(item), bool).at[items].set(False)[:, None]
    tiny = jnp.finfo(jnp.float32).tiny

    def shares(difference: jax.Array, terms: jax.Array) -> jax.Array:
        return jnp.max(jnp.abs(difference) / (margin(victim, terms) + tiny))

    moved = jnp.maximum(
        jnp.max(jnp.where(rest, jnp.abs(item - victim.item), 0.0))
        / (margin(victim, jnp.max(jnp.abs(victim.item))) + tiny),
        shares(user[victim.users] - victim.user, jnp.max(jnp.abs(victim.user))),
    )
    return moved, shares(item[items] - predicted, terms)
