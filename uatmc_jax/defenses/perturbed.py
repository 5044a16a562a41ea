"""Defences that train on perturbed items: L_adv = L_BPR(z') beside the clean loss.

    uat, uat_mc  z' = z + delta, delta the ascent's result                       (Section 4)
    noise        z' = z + delta, delta uniform in the ball
    dropout      z' = z with a share eps of its coordinates set to 0, the rest / (1 - eps)

UAT's perturbations belong to the *items* of the batch, shared by every triple
an item occurs in: with one per triple, cos(g^v, g^t) of a linear fusion would
not depend on the perturbation and alignment would have no gradient.

    L_adv(delta) = mean softplus(-(y'_up - y'_un)),  z + delta in place of z    (Eqs. 8-10)
    g^m          = dL_adv / d z'^m, for the batch's positive and negative items  (Eq. 11)
    L_align      = mean_p cos(g_p^v, g_p^t) + mean_n cos(g_n^v, g_n^t)           (Eq. 12)
    max phase      delta ascends L_adv + beta L_align, projected to the ball
    min phase      L_BPR + lambda L_adv(delta) + mu L_reg, delta held fixed      (Eq. 9)

With one l2 step from zero and the images alone perturbed, UAT is AMR (Tang et al.,
TKDE 2020), with the radius a share of each item's own norm.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from uatmc_jax import ascent
from uatmc_jax.defenses.affine import Line, bpr_along, is_line, make_line
from uatmc_jax.defenses.step import (
    ASCENDED,
    Step,
    bpr_at,
    embed,
    is_perturbed,
    occurs,
    radii,
    triples,
)
from uatmc_jax.losses import bpr_loss, gradient_alignment
from uatmc_jax.models import Embeddings, Modal
from uatmc_jax.models.protocol import PyTree
from uatmc_jax.numerics import take_features, weighted_mean


class FirstLook(NamedTuple):
    """The batch as it is, before anything is perturbed.

    Attributes:
      embeddings: of its users and items.
      bpr: L_BPR.
      gradient: what the ascent of UAT follows from the clean content, by perturbed
        modality; None where it is not known yet.
      line: the margins along perturbations, of models affine in the content.
    """

    embeddings: Embeddings
    bpr: jax.Array
    gradient: Modal | None = None
    line: Line | None = None


def first_look(step: Step, selected: PyTree) -> FirstLook:
    """One forward pass for L_BPR and for the first step of UAT's ascent.

    Args:
      step: the batch.
      selected: the batch's part of the trained parameters.
    """
    defense = step.defense
    if is_line(step):
        embeddings = embed(step, selected, step.z)
        line = make_line(step, selected, embeddings)
        value = weighted_mean(jax.nn.softplus(-line.margins), step.batch.weights)
        return FirstLook(embeddings, value, line=line)
    if defense.kind not in ASCENDED or defense.random_start or defense.level != "projected":
        embeddings = embed(step, selected, step.z)
        return FirstLook(embeddings, bpr_loss(*triples(step, embeddings), step.batch.weights))

    if defense.kind == "uat":
        _, (embeddings, bpr, slopes) = _inner(step, selected, step.z)
        gradient = slopes[1]
    else:
        ascended = jax.grad(functools.partial(_inner, step, selected), has_aux=True)
        gradient, (embeddings, bpr, slopes) = ascended(step.z)
    if step.model.propagate is None:
        # A pass over rows is cheap, and L_reg has to go back through it anyway.
        bpr = bpr_loss(*triples(step, embeddings), step.batch.weights)
    else:
        bpr = with_gradient((selected, step.z), *jax.lax.stop_gradient((bpr, slopes)))
    chosen = tuple(g for m, g in enumerate(gradient) if is_perturbed(defense, m))
    return FirstLook(embeddings, bpr, jax.lax.stop_gradient(chosen))


@jax.custom_vjp
def with_gradient(x: PyTree, value: jax.Array, gradient: PyTree) -> jax.Array:
    """The value of a function of x and its gradient, both known, as a function of x.

    >>> jax.grad(lambda x: 2 * with_gradient(x, 9.0, 6.0))(3.0).item()
    12.0
    """
    del x, gradient
    return value


with_gradient.defvjp(
    lambda x, value, gradient: (value, gradient),
    lambda gradient, cotangent: (jax.tree.map(lambda g: cotangent * g, gradient), None, None),
)


def adversarial_term(step: Step, selected: PyTree, first: FirstLook) -> jax.Array:
    """L_adv of the step's defence.

    Args:
      step: the batch.
      selected: the batch's part of the trained parameters.
      first: as `first_look` gave it.
    """
    if first.line is not None:
        return bpr_along(step, first.line, _ascended(step, selected, first))
    if step.defense.kind in ASCENDED:
        return bpr_at(step, selected, _moved(step, _ascended(step, selected, first)))
    make = {"noise": _noisy, "dropout": _dropped}
    return bpr_at(step, selected, make[step.defense.kind](step, selected))


def leaked_term(step: Step, selected: PyTree) -> jax.Array:
    """What the ascent climbs, at its start: what the optimiser descends with `leak`.

    Args:
      step: the batch.
      selected: the batch's part of the trained parameters.
    """
    z = step.z
    if step.defense.random_start:
        source, radius = jax.lax.stop_gradient(_source(step))
        z = _moved(step, ascent.random_start(step.key, radius, source, step.defense.norm))
    return _inner(step, selected, z)[0]


def _inner(step: Step, selected: PyTree, z: Modal) -> tuple[jax.Array, tuple]:
    """What the max phase ascends, at the items' content z.

    Returns:
      Its value; and the batch's embeddings, L_BPR and its gradient, by (selected, z).
    """
    defense, weights = step.defense, step.batch.weights

    def bpr(selected: PyTree, z: Modal) -> tuple[jax.Array, Embeddings]:
        embeddings = embed(step, selected, z)
        return bpr_loss(*triples(step, embeddings), weights), embeddings

    look = jax.value_and_grad(bpr, argnums=(0, 1), has_aux=True)
    (value, embeddings), slopes = look(selected, z)
    found = embeddings, value, slopes
    if defense.kind == "uat":
        return value, found
    gradients = tuple(g for m, g in enumerate(slopes[1]) if is_perturbed(defense, m))
    return value + step.weights.beta * _alignment(step, gradients), found


def _alignment(step: Step, gradients: Modal) -> jax.Array:
    """L_align of the batch's items' gradients."""
    defense, weights = step.defense, step.batch.weights
    if defense.detach_align:
        gradients = jax.lax.stop_gradient(gradients)
    over = None if defense.align_over == "rows" else step.frozen.graph.n_items
    return sum(
        (
            gradient_alignment(gradients, occurs(places, weights, step.items.size), over)
            for places in (step.positive, step.negative)
        ),
        jnp.zeros(()),
    )


def _climb(step: Step, selected: PyTree, line: Line | None, delta: Modal) -> jax.Array:
    """What the max phase ascends, at the items' content moved by delta."""
    if line is None:
        return _inner(step, selected, _moved(step, delta))[0]
    look = functools.partial(bpr_along, step, line)
    if step.defense.kind == "uat":
        return look(delta)
    value, gradients = jax.value_and_grad(look)(delta)
    return value + step.weights.beta * _alignment(step, gradients)


def _ascended(step: Step, selected: PyTree, first: FirstLook) -> Modal:
    """The perturbations that the max phase ends with."""
    defense = step.defense
    given = step.z, step.frozen, selected, first.line
    z, frozen, selected, line = jax.lax.stop_gradient(given)
    fixed = step._replace(z=z, frozen=frozen)
    source, radius = _source(fixed)
    start = jax.tree.map(jnp.zeros_like, source)
    if defense.random_start:
        start = ascent.random_start(step.key, radius, source, defense.norm)
    return ascent.ascend(
        jax.grad(functools.partial(_climb, fixed, selected, line)),
        start,
        radius,
        steps=defense.steps,
        step_size=step.weights.step_size,
        norm=defense.norm,
        first=first.gradient,
    )


def _noisy(step: Step, selected: PyTree) -> Modal:
    del selected
    source, radius = jax.lax.stop_gradient(_source(step))
    return _moved(step, ascent.random_start(step.key, radius, source, step.defense.norm))


def _dropped(step: Step, selected: PyTree) -> Modal:
    del selected
    kept = 1.0 - step.weights.eps
    z = []
    for m, rows in enumerate(step.z):
        keep = jax.random.bernoulli(jax.random.fold_in(step.key, m), kept, rows.shape)
        z.append(jnp.where(keep, rows / kept, 0.0) if is_perturbed(step.defense, m) else rows)
    return tuple(z)


def _source(step: Step) -> tuple[Modal, Modal]:
    """The perturbed modalities' rows whose 2-norms set the radii, and these radii."""
    rows = step.z
    if step.defense.level == "feature":
        rows = take_features(step.frozen.features, step.items)  # type: ignore[arg-type]
    chosen = tuple(x for m, x in enumerate(rows) if is_perturbed(step.defense, m))
    return chosen, radii(step, chosen)


def _moved(step: Step, delta: Modal) -> Modal:
    """The items' content with the perturbed modalities' rows moved by delta."""
    changes = iter(delta)
    perturbed = [m for m in range(len(step.z)) if is_perturbed(step.defense, m)]
    if step.defense.level == "projected":
        return tuple(z + next(changes) if m in perturbed else z for m, z in enumerate(step.z))
    raw = take_features(step.frozen.features, step.items)  # type: ignore[arg-type]
    raw = tuple(x + next(changes) if m in perturbed else x for m, x in enumerate(raw))
    return step.model.project(step.frozen.projectors, raw)
