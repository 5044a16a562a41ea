"""Margins of models whose score is affine in the item's own z, given the user.

    y_ui = e_ui + sum_m <w_u^m, z_i^m>

    y_up(z + delta) - y_un(z + delta) = y_up - y_un + sum_m <w_u^m, delta_p^m - delta_n^m>

So the users' slopes w, one product with the batch, stand for every pass with other content: an
ascent's steps, its second derivatives and L_adv multiply by no matrix.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from uatmc_jax.defenses.step import ASCENDED, Step, is_perturbed, margins
from uatmc_jax.models import Embeddings, Modal, select, unmet
from uatmc_jax.models.protocol import PyTree
from uatmc_jax.numerics import weighted_mean


class Line(NamedTuple):
    """The triples' margins as functions of the items' perturbations.

    Attributes:
      margins: (B,) y_up - y_un with the clean content.
      slopes: w_u^m of the perturbed modalities, modal, (B, d).
    """

    margins: jax.Array
    slopes: Modal


def is_line(step: Step) -> bool:
    """Whether a step's perturbations move margins along a `Line`."""
    model, defense = step.model, step.defense
    return (
        unmet(model, "exact") is None  # the closed form needs the same slopes
        and defense.kind in ASCENDED
        and defense.level == "projected"
    )


def make_line(step: Step, selected: PyTree, clean: Embeddings) -> Line:
    """The batch's line.

    Args:
      step: the batch, of a model with `affine_in_content`, `select` and `encode_rows`.
      selected: the batch's part of the trained parameters.
      clean: the batch's embeddings as they are.
    """
    found = enumerate(slopes(step, selected, clean))
    return Line(margins(step, clean), tuple(w for m, w in found if is_perturbed(step.defense, m)))


def bpr_along(step: Step, line: Line, delta: Modal) -> jax.Array:
    """L_BPR with delta, modal, (2B, d), added to the items' content."""
    moved = sum(
        jnp.sum(w * (d[step.positive] - d[step.negative]), axis=-1)
        for w, d in zip(line.slopes, delta, strict=True)
    )
    return weighted_mean(jax.nn.softplus(-(line.margins + moved)), step.batch.weights)


def slopes(step: Step, selected: PyTree, clean: Embeddings) -> Modal:
    """w_u^m of the triples' users, modal, (B, d); arguments as of `make_line`."""
    rows = jnp.arange(step.batch.users.size)
    # Any items of the batch will do.
    chosen = select(step.model, selected, step.frozen.graph, rows[:1], rows)

    def total(z: Modal) -> jax.Array:
        return jnp.sum(clean.user * Embeddings(*step.model.encode_rows(chosen, z)).item)  # type: ignore[misc]

    # Row n of z reaches score n alone, so one gradient of the sum holds every user's own.
    return jax.grad(total)(tuple(x[: rows.size] for x in step.z))
