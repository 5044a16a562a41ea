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

import jax
import jax.numpy as jnp

from uatmc_jax import ascent
from uatmc_jax.defenses.step import Step, bpr_at, is_perturbed, occurs
from uatmc_jax.losses import gradient_alignment
from uatmc_jax.models import Modal
from uatmc_jax.models.protocol import PyTree
from uatmc_jax.numerics import take


def adversarial_term(step: Step, selected: PyTree) -> jax.Array:
    """L_adv of the step's defence.

    Args:
      step: the batch.
      selected: the batch's part of the trained parameters.
    """
    make = {"uat": _ascended, "uat_mc": _ascended, "noise": _noisy, "dropout": _dropped}
    return bpr_at(step, selected, make[step.defense.kind](step, selected))


def _ascended(step: Step, selected: PyTree) -> Modal:
    defense, weights = step.defense, step.weights
    z, frozen, selected = jax.lax.stop_gradient((step.z, step.frozen, selected))
    fixed = step._replace(z=z, frozen=frozen)
    n_rows = step.items.size
    is_positive = occurs(step.positive, step.batch.weights, n_rows)
    is_negative = occurs(step.negative, step.batch.weights, n_rows)

    def inner(delta: Modal) -> jax.Array:
        z = _moved(fixed, delta)
        if defense.kind == "uat":
            return bpr_at(fixed, selected, z)
        value, gradients = jax.value_and_grad(lambda z: bpr_at(fixed, selected, z))(z)
        gradients = tuple(g for m, g in enumerate(gradients) if is_perturbed(defense, m))
        alignment = gradient_alignment(gradients, is_positive)
        alignment += gradient_alignment(gradients, is_negative)
        return value + weights.beta * alignment

    source, radius = _source(fixed)
    start = jax.tree.map(jnp.zeros_like, source)
    if defense.random_start:
        start = ascent.random_start(step.key, radius, source, defense.norm)
    delta = ascent.ascend(
        jax.grad(inner),
        start,
        radius,
        steps=defense.steps,
        step_size=weights.step_size,
        norm=defense.norm,
    )
    return _moved(step, delta)


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
        rows = tuple(take(x, step.items) for x in step.frozen.features)
    chosen = tuple(x for m, x in enumerate(rows) if is_perturbed(step.defense, m))
    return chosen, ascent.radii(chosen, step.weights.eps)


def _moved(step: Step, delta: Modal) -> Modal:
    """The items' content with the perturbed modalities' rows moved by delta."""
    changes = iter(delta)
    perturbed = [m for m in range(len(step.z)) if is_perturbed(step.defense, m)]
    if step.defense.level == "projected":
        return tuple(z + next(changes) if m in perturbed else z for m, z in enumerate(step.z))
    raw = tuple(take(x, step.items) for x in step.frozen.features)
    raw = tuple(x + next(changes) if m in perturbed else x for m, x in enumerate(raw))
    return step.model.project(step.frozen.projectors, raw)
