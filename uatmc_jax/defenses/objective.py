"""The adversarial stage's objective on one batch (Eq. 9, and what takes L_adv's place).

    L_BPR + mu L_reg + content_weight * L_content + lambda L_adv

L_adv is the defence's term: see `perturbed`, `worst_case`, `balance`, `penalties`. L_content keeps
the model reading images and texts, so that robustness is not bought by deafness: BPR on
the content part of the score alone,

    L_content = mean softplus(-(c_up - c_un)),   c_ui = y_ui(z) - y_ui(0)

where 0 takes the place of the content of all the batch's items, in a model that
propagates also where it reaches the users.

With mirror the mirrored loss is all of the rest. A model with an objective of its own has that in
the place of L_BPR + mu L_reg; perturbed items are judged by BPR in it too.

What is trained is the encoder and, if `Trained` has it, the projectors' last layer. The
balls are around the z of the moment, then, and as large as before, a row of z having
length one. How far a given edit of raw features moves z is learned too: measure it
(`experiments.scoreboard` does).
"""

import dataclasses

import jax
import jax.numpy as jnp

from uatmc_jax.defenses.balance import balance_term
from uatmc_jax.defenses.penalties import mirror_term, spectral_term
from uatmc_jax.defenses.perturbed import adversarial_term, first_look, leaked_term
from uatmc_jax.defenses.step import (
    PERTURBED,
    Coefficients,
    Defense,
    Frozen,
    Step,
    Trained,
    embed,
    make_step,
    margins,
    popularity,
    select_rows,
    triples,
)
from uatmc_jax.defenses.worst_case import exact_term, linearized_term
from uatmc_jax.errors import InputError
from uatmc_jax.models import Batch, Embeddings, Model, unmet
from uatmc_jax.models.protocol import PyTree, in_encoder
from uatmc_jax.numerics import weighted_mean

DEFENSES = (
    *("none", *PERTURBED, "exact", "shaped", "linearized"),
    *("balancing", "spectral", "mirror"),
)
# Those that level = "feature" is possible with; the others work on z, or perturb nothing.
ON_FEATURES = ("none", "uat", "uat_mc", "noise")
_OWN = 1  # draws of a model's own objective are apart from the defence's


def adversarial_objective(
    model: Model,
    defense: Defense,
    trained: Trained,
    frozen: Frozen,
    weights: Coefficients,
    batch: Batch,
    key: jax.Array,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss that a step of the adversarial stage descends on, any max phase inside.

    Args:
      model: the victim.
      defense: static choices.
      trained: the parameters.
      frozen: everything else the model reads.
      weights: lambda, beta, eps, step size, mu, content_weight.
      batch: B triples.
      key: for random draws.

    Returns:
      The loss, and its terms by name: "bpr", "reg" or the model's own, with `keep_content`
      "content", with `leak` "leak", and with a defence "adv".

    Raises:
      InputError: the model does not offer what the defence needs.
    """
    lacks = unmet(model, defense.kind)
    if lacks:
        raise InputError(f"defence {defense.kind!r} {lacks}")

    def plain(trained: Trained) -> tuple[jax.Array, tuple]:
        step = make_step(model, defense, trained.output, frozen, weights, batch, key)
        selected = select_rows(step, trained.encoder)
        first = first_look(step, selected)
        clean, bpr = first.embeddings, first.bpr
        if frozen.whole is None:
            reg = model.regularize(trained.encoder, in_encoder(batch), *triples(step, clean))
            terms = {"bpr": bpr, "reg": reg}
            loss = terms["bpr"] + weights.mu * terms["reg"]
        else:
            params = dataclasses.replace(frozen.whole.params, encoder=trained.encoder)
            given = params, frozen.whole.data, weights.mu, batch, jax.random.fold_in(key, _OWN)
            loss, terms = model.objective(*given)  # type: ignore[misc]
        if defense.keep_content:
            terms["content"] = content_loss(step, selected, clean)
            loss += weights.content_weight * terms["content"]
        return loss, (terms, step, selected, clean, first)

    loss, (terms, step, selected, clean, first) = plain(trained)
    if defense.kind == "none":
        return loss, terms
    if defense.leak:
        terms["leak"] = leaked_term(step, selected)
        loss += terms["leak"]
    if defense.kind in PERTURBED:
        terms["adv"] = adversarial_term(step, selected, first)
    elif defense.kind in ("exact", "shaped"):
        terms["adv"] = exact_term(step, selected, clean)
    elif defense.kind == "linearized":
        terms["adv"] = linearized_term(step, selected)
    elif defense.kind == "balancing":
        terms["adv"] = balance_term(step, selected, clean)
    elif defense.kind == "spectral":
        terms["adv"] = spectral_term(model, trained.encoder)
    else:
        terms["adv"] = mirror_term(lambda t: plain(t)[0], trained, weights.eps)
    return loss + weights.lam * terms["adv"], terms


def content_loss(step: Step, selected: PyTree, clean: Embeddings) -> jax.Array:
    """L_content.

    Args:
      step: the batch.
      selected: the batch's part of the trained parameters.
      clean: the batch's embeddings as they are.
    """
    nothing = tuple(jnp.zeros_like(rows) for rows in step.z)
    without = embed(step, selected, nothing)
    part = margins(step, clean) - margins(step, without)
    weights = step.batch.weights
    if step.defense.by_popularity:
        weights *= popularity(step)[step.positive] ** -step.weights.content_tail
    return weighted_mean(jax.nn.softplus(-part), weights)
