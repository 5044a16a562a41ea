"""Modality Balancing (Shang et al., ACM MM 2023): one modality holds what another can lose.

An edit of one modality s, the *sensitive* one, can make a positive look like the negative it
is ranked against. What its score loses by that, the others are to hold:

    x'_p  = the content in the ball around z_p^s whose embedding is nearest the negative's
    L_adv = mean max(0, [y_up(z) - y_up(x'_p in place of z_p^s)] - [c_up - c_un])

c_ui = y_ui(z) - y_ui(0 in place of the other modalities): what they give. The embedding of
content is h_i(z) - h_i(0 in place of z^s), and x'_p is held fixed in the descent.

Read from a re-implementation's description, the paper's text not being at hand. There s is
searched on raw features, and the mean is over 20 triples of a batch; here s is searched on z,
as all defences are, and the mean is over all.
"""

import jax
import jax.numpy as jnp

from uatmc_jax import ascent
from uatmc_jax.defenses.step import Step, embed, margins, radii, triples
from uatmc_jax.models import Embeddings, Modal
from uatmc_jax.models.protocol import PyTree
from uatmc_jax.numerics import weighted_mean


def balance_term(step: Step, selected: PyTree, clean: Embeddings) -> jax.Array:
    """L_adv.

    Args:
      step: the batch, of a model with `encode_rows`; its defence names one modality.
      selected: the batch's part of the trained parameters.
      clean: the batch's embeddings as they are.
    """
    (sensitive,) = step.defense.modalities  # type: ignore[misc]
    without_others = tuple(x if m == sensitive else jnp.zeros_like(x) for m, x in enumerate(step.z))
    held = margins(step, clean) - margins(step, embed(step, selected, without_others))
    edited = _edited(step, jax.lax.stop_gradient(nearest(step, selected, clean)))
    lost = _positive_scores(step, clean) - _positive_scores(step, embed(step, selected, edited))
    return weighted_mean(jax.nn.relu(lost - held), step.batch.weights)


def nearest(step: Step, selected: PyTree, clean: Embeddings) -> jax.Array:
    """(B, d) x'_p - z_p^s, found by projected steps; arguments as of `balance_term`."""
    (sensitive,) = step.defense.modalities  # type: ignore[misc]
    rows = step.z[sensitive]
    without = embed(step, selected, _replaced(step, jnp.zeros_like(rows))).item
    wanted = without[step.positive] + (clean.item - without)[step.negative]

    def closeness(delta: jax.Array) -> jax.Array:
        return -jnp.sum(
            (embed(step, selected, _edited(step, delta)).item[step.positive] - wanted) ** 2
        )

    (radius,) = radii(step, (rows,))
    return ascent.ascend(
        jax.grad(closeness),
        jnp.zeros_like(rows[step.positive]),
        radius[step.positive],
        steps=step.defense.steps,
        step_size=step.weights.step_size,
        norm=step.defense.norm,
    )


def _edited(step: Step, delta: jax.Array) -> Modal:
    """The batch's content with the positives' rows of the sensitive modality moved."""
    (sensitive,) = step.defense.modalities  # type: ignore[misc]
    return _replaced(step, step.z[sensitive].at[step.positive].add(delta))


def _replaced(step: Step, rows: jax.Array) -> Modal:
    """The batch's content with these in place of the sensitive modality's."""
    (sensitive,) = step.defense.modalities  # type: ignore[misc]
    return tuple(rows if m == sensitive else x for m, x in enumerate(step.z))


def _positive_scores(step: Step, embeddings: Embeddings) -> jax.Array:
    """(B,) y_up."""
    user, positive, _ = triples(step, embeddings)
    return jnp.sum(user * positive, axis=-1)
