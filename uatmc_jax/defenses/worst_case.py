"""Defences that train on the worst case itself, without an inner loop.

*exact*, for models whose score is affine in the item's own z, given the user:

    y_ui = e_ui + sum_m <w_u^m, z_i^m>

so over the balls ||delta_i^m|| <= r_i^m, by the definition of the dual norm (of linf
it is l1, of l2 it is l2), a triple's smallest margin is

    y_up - y_un - sum_m (r_p^m + r_n^m) ||w_u^m||_dual

and softplus, which decreases in the margin, is largest there. Its mean is the largest
L_adv if every triple has perturbations of its own; UAT's, shared by an item's triples,
cannot exceed it. The budget certificate rests on the same norms.

*shaped*, for the same models: over balls that are not round but shaped by harmless edits,
where A' w takes the place of w (`shapes`).

*linearized*, for any model: the same for the first-order expansion of L_BPR around the
clean content of the batch's items,

    L_BPR + sum_i sum_m r_i^m ||d L_BPR / d z_i^m||_dual

This is what one ascent step promises, a surrogate and not a bound: where the score
bends, the true maximum may lie on either side.
"""

import jax
import jax.numpy as jnp

from uatmc_jax.defenses.affine import slopes
from uatmc_jax.defenses.step import Step, bpr_at, is_perturbed, margins, radii
from uatmc_jax.models import Embeddings
from uatmc_jax.models.protocol import PyTree
from uatmc_jax.numerics import safe_norm, weighted_mean


def dual_norm(rows: jax.Array, norm: str) -> jax.Array:
    """(n,) the dual of `norm` by row: max <row, x> over ||x|| <= 1.

    >>> dual_norm(jnp.array([[3.0, -4.0]]), "linf").tolist()
    [7.0]
    >>> dual_norm(jnp.array([[3.0, -4.0]]), "l2").tolist()
    [5.0]
    """
    return jnp.sum(jnp.abs(rows), axis=-1) if norm == "linf" else safe_norm(rows)


def worst_margins(step: Step, selected: PyTree, clean: Embeddings) -> jax.Array:
    """(B,) the smallest y_up - y_un over all perturbations in the balls.

    Args:
      step: the batch, of a model with `affine_in_content` and `encode_rows`.
      selected: the batch's part of the trained parameters.
      clean: the batch's embeddings as they are.
    """
    found = slopes(step, selected, clean)
    if step.frozen.shapes is None:
        lengths = [dual_norm(w, step.defense.norm) for w in found]
    else:
        lengths = [safe_norm(w @ a) for w, a in zip(found, step.frozen.shapes, strict=True)]
    radius = radii(step, step.z)
    loss = sum(
        (r[step.positive, 0] + r[step.negative, 0]) * length
        for m, (r, length) in enumerate(zip(radius, lengths, strict=True))
        if is_perturbed(step.defense, m)
    )
    return margins(step, clean) - loss


def exact_term(step: Step, selected: PyTree, clean: Embeddings) -> jax.Array:
    """mean softplus(-worst margin); arguments as of `worst_margins`."""
    worst = worst_margins(step, selected, clean)
    return weighted_mean(jax.nn.softplus(-worst), step.batch.weights)


def linearized_term(step: Step, selected: PyTree) -> jax.Array:
    """L_BPR plus the largest value of its first-order change; `selected` as in `bpr_at`."""
    value, gradients = jax.value_and_grad(lambda z: bpr_at(step, selected, z))(step.z)
    radius = radii(step, step.z)
    change = sum(
        jnp.sum(r[:, 0] * dual_norm(g, step.defense.norm))
        for m, (r, g) in enumerate(zip(radius, gradients, strict=True))
        if is_perturbed(step.defense, m)
    )
    return value + change
