"""The adversarial stage's objective: none, UAT, or UAT-MC (Section 4).

One perturbation per *item* of the batch and modality, shared by every triple
the item occurs in: with one per triple, cos(g^v, g^t) of a linear fusion would
not depend on the perturbation and alignment would have no gradient.

    L_adv(delta) = mean softplus(-(y'_up - y'_un)),  z + delta in place of z    (Eqs. 8-10)
    g^m          = dL_adv / d z'^m, for the batch's positive and negative items  (Eq. 11)
    L_align      = mean_p cos(g_p^v, g_p^t) + mean_n cos(g_n^v, g_n^t)           (Eq. 12)
    max phase      delta ascends L_adv + beta L_align, projected to the ball
    min phase      L_BPR + lambda L_adv(delta) + mu L_reg                        (Eq. 9)
"""

from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from uatmc_jax import ascent
from uatmc_jax.losses import bpr_loss, gradient_alignment
from uatmc_jax.models import Batch, Graph, Modal, Model, encode_changed, select
from uatmc_jax.models.protocol import PyTree
from uatmc_jax.numerics import take

DEFENSES = ("none", "uat", "uat_mc")
LEVELS = ("projected", "feature")


class Defense(NamedTuple):
    """What shapes the compiled step.

    Attributes:
      kind: "none" (w/o AT), "uat" (no alignment) or "uat_mc".
      norm: of the perturbations' ball, "l2" or "linf".
      steps: ascent steps n.
      random_start: start from a uniform draw in the ball instead of zero.
      level: what is perturbed, z ("projected") or the raw features ("feature").
    """

    kind: str
    norm: str
    steps: int
    random_start: bool
    level: str


@flax.struct.dataclass
class Weights:
    """Scalars of the objective; arrays, so that trainings can differ in them under `vmap`.

    Attributes:
      lam: lambda, weight of L_adv.
      beta: weight of L_align.
      eps: radius as a share of the perturbed row's 2-norm.
      step_size: length of an ascent step as a share of the radius.
      mu: weight of L_reg.
    """

    lam: jax.Array
    beta: jax.Array
    eps: jax.Array
    step_size: jax.Array
    mu: jax.Array


@flax.struct.dataclass
class Frozen:
    """What the adversarial stage reads and does not train.

    Attributes:
      z: modal, (|I|, d), from the frozen projectors, computed once.
      graph: the training graph.
      projectors: their parameters; None unless the features are perturbed.
      features: modal, raw, (|I|, dim_m); None unless they are perturbed.
    """

    z: Modal
    graph: Graph
    projectors: PyTree = None
    features: Modal | None = None


def adversarial_objective(
    model: Model,
    defense: Defense,
    encoder: PyTree,
    frozen: Frozen,
    weights: Weights,
    batch: Batch,
    key: jax.Array,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The min phase's loss on one batch, its max phase inside.

    Args:
      model: the victim.
      defense: static choices.
      encoder: trained parameters.
      frozen: everything else the model reads.
      weights: lambda, beta, eps, step size, mu.
      batch: B triples.
      key: for a random start.

    Returns:
      The loss, and its terms by name: "bpr", "reg", and with a defence "adv".
    """
    items, positive, negative = distinct_items(batch, frozen.graph.n_items)
    z_items = tuple(take(z, items) for z in frozen.z)
    selected = select(model, encoder, batch.users, items)

    def triples(selected: PyTree, z_rows: Modal) -> tuple[jax.Array, ...]:
        user, item = encode_changed(
            model, selected, frozen.z, frozen.graph, batch.users, items, z_rows
        )
        return user, item[positive], item[negative]

    clean = triples(selected, z_items)
    terms = {
        "bpr": bpr_loss(*clean, batch.weights),
        "reg": model.regularize(encoder, batch, *clean),
    }
    loss = terms["bpr"] + weights.mu * terms["reg"]
    if defense.kind == "none":
        return loss, terms

    def perturbed(delta: Modal) -> Modal:
        if defense.level == "projected":
            return jax.tree.map(jnp.add, z_items, delta)
        rows = tuple(take(x, items) + d for x, d in zip(frozen.features, delta, strict=True))
        return model.project(frozen.projectors, rows)

    def adversarial_loss(selected: PyTree, z_rows: Modal) -> jax.Array:
        return bpr_loss(*triples(selected, z_rows), batch.weights)

    attacked = jax.lax.stop_gradient(selected)
    is_positive, is_negative = occurs(positive, batch, items), occurs(negative, batch, items)

    def inner(delta: Modal) -> jax.Array:
        z_rows = perturbed(delta)
        if defense.kind == "uat":
            return adversarial_loss(attacked, z_rows)
        value, gradients = jax.value_and_grad(adversarial_loss, argnums=1)(attacked, z_rows)
        alignment = gradient_alignment(gradients, is_positive)
        alignment += gradient_alignment(gradients, is_negative)
        return value + weights.beta * alignment

    source = z_items
    if defense.level == "feature":
        source = tuple(take(x, items) for x in frozen.features)
    radius = ascent.radii(source, weights.eps)
    start = jax.tree.map(jnp.zeros_like, source)
    if defense.random_start:
        start = ascent.random_start(key, radius, source, defense.norm)
    delta = ascent.ascend(
        jax.grad(inner),
        start,
        radius,
        steps=defense.steps,
        step_size=weights.step_size,
        norm=defense.norm,
    )
    terms["adv"] = adversarial_loss(selected, jax.lax.stop_gradient(perturbed(delta)))
    return loss + weights.lam * terms["adv"], terms


def distinct_items(batch: Batch, n_items: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The batch's items, each once.

    Every item is represented by its last occurrence among positives and
    negatives: one scatter of 2B numbers, where sorting would cost more.

    Returns:
      items: (2B,) int32 ids; `n_items` where an occurrence represents nothing.
      positive: (B,) where in `items` each positive is.
      negative: (B,) where in `items` each negative is.
    """
    both = jnp.concatenate([batch.positives, batch.negatives])
    places = jnp.arange(both.size)
    last = jnp.zeros(n_items, places.dtype).at[both].max(places)[both]
    positive, negative = jnp.split(last, 2)
    return jnp.where(last == places, both, n_items), positive, negative


def occurs(places: jax.Array, batch: Batch, items: jax.Array) -> jax.Array:
    """(n,) bool: which rows of `items` occur at `places` in a triple that is not padding."""
    return jnp.zeros(items.shape, bool).at[places].max(batch.weights > 0)
