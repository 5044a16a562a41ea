"""One training batch as every defence sees it, and the losses they share."""

import dataclasses
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from uatmc_jax import ascent
from uatmc_jax.data.dataset import DeviceData
from uatmc_jax.losses import bpr_loss
from uatmc_jax.models import Batch, Embeddings, Graph, Modal, Model, Params, encode_changed, select
from uatmc_jax.models.protocol import PyTree, select_users
from uatmc_jax.numerics import take

LEVELS = ("projected", "feature")
ALIGN_OVER = ("rows", "items")
# Those whose perturbations an ascent finds.
ASCENDED = ("uat", "uat_mc")
# Defences that train on perturbed items; a perturbation is an item's, not an occurrence's.
PERTURBED = (*ASCENDED, "noise", "dropout")


class Defense(NamedTuple):
    """What shapes the compiled step.

    Attributes:
      kind: one of `DEFENSES`.
      norm: of the perturbations' ball, "l2" or "linf".
      steps: ascent steps n.
      random_start: start from a uniform draw in the ball instead of zero.
      level: what is perturbed, z ("projected") or the raw features ("feature").
      modalities: indices of the perturbed ones, in order; None for all.
      keep_content: add L_content.
      align_over: L_align averages the cosine over the "rows" that carry a gradient, or over
        all "items" of the catalogue, most of which have none.
      detach_align: L_align's gradients are constants, so that it moves no perturbation.
      leak: the parameters descend what the ascent climbs from its start, too.
      by_popularity: radii and L_content's weights depend on an item's popularity.
    """

    kind: str
    norm: str = "l2"
    steps: int = 1
    random_start: bool = False
    level: str = "projected"
    modalities: tuple[int, ...] | None = None
    keep_content: bool = False
    align_over: str = "rows"
    detach_align: bool = False
    leak: bool = False
    by_popularity: bool = False


@flax.struct.dataclass
class Coefficients:
    """Scalars of the objective; arrays, so that trainings can differ in them under `vmap`.

    Attributes:
      lam: lambda, weight of the defence's term.
      beta: weight of L_align.
      eps: radius as a share of the perturbed row's 2-norm; for "dropout" the share
        of coordinates dropped, for "mirror" the length of the mirrored step.
      step_size: length of an ascent step as a share of the radius.
      mu: weight of L_reg.
      content_weight: of L_content.
      eps_tail: power of an item's popularity that its radius shrinks with; see `popularity`.
      content_tail: power that its weight in L_content grows with.
    """

    lam: jax.Array
    beta: jax.Array
    eps: jax.Array
    step_size: jax.Array
    mu: jax.Array
    content_weight: jax.Array
    eps_tail: jax.Array | float = 0.0
    content_tail: jax.Array | float = 0.0


@flax.struct.dataclass
class Trained:
    """What the adversarial stage trains.

    Attributes:
      encoder: the model's.
      output: the projectors' last layer; None where it is frozen like the rest of them.
    """

    encoder: PyTree
    output: PyTree = None


@flax.struct.dataclass
class Whole:
    """What a model's own objective reads; of the parameters all but the encoder.

    Attributes:
      params: whose encoder is of no account.
      data: the data set.
    """

    params: Params
    data: DeviceData


@flax.struct.dataclass
class Frozen:
    """What the adversarial stage reads and does not train.

    Attributes:
      z: modal, (|I|, d), from the frozen projectors, computed once.
      graph: the training graph.
      projectors: their parameters; None unless the features are perturbed.
      features: modal, raw, (|I|, dim_m); None unless they are perturbed.
      hidden: modal, (|I|, h_m), what the projectors' last layer reads; None unless
        that is trained, and then z is not read.
      shapes: modal, (d, d), A of `shapes`; None where the balls are round or boxes.
      whole: of models with an objective of their own; None of others.
    """

    z: Modal
    graph: Graph
    projectors: PyTree = None
    features: Modal | None = None
    hidden: Modal | None = None
    shapes: Modal | None = None
    whole: Whole | None = None


class Step(NamedTuple):
    """One batch of B triples and the model it is for.

    Where items are perturbed, each has one row, whichever triples it occurs in.
    Elsewhere each occurrence has its own, and finding it costs nothing.

    Attributes:
      model: the victim.
      defense: static choices.
      frozen: what is read and not trained.
      weights: scalars.
      batch: the triples.
      key: for random draws.
      items: (2B,) int32 ids; |I| where a row stands for nothing.
      positive: where in `items` the positives are, (B,) int32 or a slice.
      negative: where in `items` the negatives are, alike.
      z: modal, (2B, d), the items' clean content; its gradient reaches the last layer
        of the projectors if that is trained.
    """

    model: Model
    defense: Defense
    frozen: Frozen
    weights: Coefficients
    batch: Batch
    key: jax.Array
    items: jax.Array
    positive: jax.Array | slice
    negative: jax.Array | slice
    z: Modal


def make_step(
    model: Model,
    defense: Defense,
    output: PyTree,
    frozen: Frozen,
    weights: Coefficients,
    batch: Batch,
    key: jax.Array,
) -> Step:
    """Finds the batch's items and their content.

    Args:
      output: the projectors' last layer, or None, as in `Trained`.
      model, defense, frozen, weights, batch, key: as `Step`'s attributes.
    """
    positive: jax.Array | slice
    negative: jax.Array | slice
    if defense.kind in (*PERTURBED, "linearized"):
        items, positive, negative = distinct_items(batch, frozen.graph.n_items)
    else:
        items = jnp.concatenate([batch.positives, batch.negatives])
        positive, negative = slice(batch.users.size), slice(batch.users.size, None)
    if output is None:
        z = tuple(take(x, items) for x in frozen.z)
    elif model.encode_rows is not None:
        z = model.head.apply(output, tuple(take(x, items) for x in frozen.hidden))
    else:  # such a model reads every item's content
        frozen = dataclasses.replace(frozen, z=model.head.apply(output, frozen.hidden))  # type: ignore[arg-type]
        z = tuple(take(x, items) for x in frozen.z)
    return Step(model, defense, frozen, weights, batch, key, items, positive, negative, z)


def select_rows(step: Step, encoder: PyTree) -> PyTree:
    """The part of the parameters that the batch reads."""
    places = step.batch.places
    if places is None:
        return select(step.model, encoder, step.frozen.graph, step.batch.users, step.items)
    if isinstance(step.positive, jax.Array):  # distinct items: the encoder's, in its order
        return select_users(step.model, encoder, places.users)
    return select(step.model, encoder, step.frozen.graph, places.users, places.items)


def embed(step: Step, selected: PyTree, z: Modal) -> Embeddings:
    """Embeddings of the batch's users (B, D) and items (2B, D) with content z, modal (2B, d)."""
    return encode_changed(
        step.model, selected, step.frozen.z, step.frozen.graph, step.batch.users, step.items, z
    )


def triples(step: Step, embeddings: Embeddings) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(B, D) embeddings of the triples' users, positives and negatives."""
    user, item = embeddings
    return user, item[step.positive], item[step.negative]


def bpr_at(step: Step, selected: PyTree, z: Modal) -> jax.Array:
    """L_BPR with the items' content z in place of the clean one."""
    return bpr_loss(*triples(step, embed(step, selected, z)), step.batch.weights)


def margins(step: Step, embeddings: Embeddings) -> jax.Array:
    """(B,) y_up - y_un."""
    user, positive, negative = triples(step, embeddings)
    return jnp.sum(user * (positive - negative), axis=-1)


def popularity(step: Step) -> jax.Array:
    """(2B,) training interactions of the items as a share of the catalogue's mean, 1 at most.

    An item without any counts as one with one.
    """
    counts = step.frozen.graph.items.degrees
    return jnp.minimum(jnp.maximum(take(counts, step.items), 1.0) / jnp.mean(counts), 1.0)


def radii(step: Step, rows: Modal) -> Modal:
    """The balls' radii, modal (2B, 1): eps * ||row||_2, smaller for unpopular items if asked."""
    found = ascent.radii(rows, step.weights.eps)
    if not step.defense.by_popularity:
        return found
    share = popularity(step)[:, None] ** step.weights.eps_tail
    return tuple(share * x for x in found)


def is_perturbed(defense: Defense, modality: int) -> bool:
    """Whether the defence reckons with perturbations of this modality."""
    return defense.modalities is None or modality in defense.modalities


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
    if batch.places is None:
        last = jnp.zeros(n_items, places.dtype).at[both].max(places)[both]
    else:
        last = batch.places.items
    positive, negative = jnp.split(last, 2)
    return jnp.where(last == places, both, n_items), positive, negative


def occurs(places: jax.Array | slice, weights: jax.Array, n_rows: int) -> jax.Array:
    """(n_rows,) bool: which rows occur at `places` in a triple that is not padding."""
    return jnp.zeros(n_rows, bool).at[places].max(weights > 0)
