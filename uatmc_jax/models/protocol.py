"""What a recommender must offer: a few pure functions, the same for every model.

Defence, attacks and analysis see a model only through `Model`. A model of your
own needs `init`, `project` and `encode`; the rest has defaults.

Shapes: a *modal* value is a tuple with one array per modality, in the data
set's order; d is the width of a projected feature z, D that of an embedding.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.data.dataset import DeviceData
from uatmc_jax.data.graph import Graph
from uatmc_jax.data.interactions import Interactions
from uatmc_jax.models.field import FieldPass
from uatmc_jax.models.list_records import GatedLists, NormedLists
from uatmc_jax.numerics import Modal, take

PyTree = Any


@flax.struct.dataclass
class Params:
    """Parameters, in the two parts that the adversarial stage tells apart.

    Attributes:
      projectors: raw features to z; frozen in the adversarial stage, unless their
        last layer is trained.
      encoder: z and the graph to embeddings.
      temperature: scalar tau; InfoNCE's logits are multiplied by exp(tau).
    """

    projectors: PyTree
    encoder: PyTree
    temperature: jax.Array


class Places(NamedTuple):
    """Where the rows of a batch are in tables that were cut down to them.

    Attributes:
      users: (B,) int32, of its users.
      items: (2B,) int32, of its positives and then its negatives. Of an item's occurrences
        all have the place of the last one, n for the n-th of them.
    """

    users: jax.Array
    items: jax.Array


@flax.struct.dataclass
class Batch:
    """Training triples; rows of weight 0 are padding of the last batch.

    Attributes:
      users: (B,) int32.
      positives: (B,) int32 items the users interacted with.
      negatives: (B,) int32 items they did not.
      weights: (B,) float32, 1 or 0.
      places: of the rows, where the encoder beside the batch has the batch's rows alone;
        None where it is whole.
      step: () int32, which of its epoch's batches it is, for models with `epoch_graph`.
    """

    users: jax.Array
    positives: jax.Array
    negatives: jax.Array
    weights: jax.Array
    places: Places | None = None
    step: jax.Array | None = None


class Embeddings(NamedTuple):
    """User and item vectors; the score is y_ui = <user_u, item_i>.

    Attributes:
      user: (users, D).
      item: (items, D).
    """

    user: jax.Array
    item: jax.Array


class ProjectorHead(NamedTuple):
    """The projectors' last layer, apart from what comes before it.

    Attributes:
      split: Params.projectors -> the last layer's parameters.
      join: (Params.projectors, those) -> Params.projectors with them in place.
      read: (Params.projectors, raw features: Modal of (n, dim_m)) -> Modal of
        (n, h_m), what the last layer reads.
      apply: (the last layer's parameters, that) -> z: Modal of (n, d).
    """

    split: Callable[[PyTree], PyTree]
    join: Callable[[PyTree, PyTree], PyTree]
    read: Callable[[PyTree, Modal], Modal]
    apply: Callable[[PyTree, Modal], Modal]


class Served(NamedTuple):
    """What a model reads of content when it serves.

    Attributes:
      z: modal, (|I|, d).
      graph: with the relations built of raw features.
    """

    z: Modal
    graph: Graph


class LinearPass(NamedTuple):
    """Content that spreads linearly, item lists of raw features being as they are.

    With z_t^m moved by delta^m the m-th part of the embedding of a node n moves by c_nt^m delta^m.

    Attributes:
      columns: (Params.encoder, Graph, () int32 item) -> c, (|U|, M) and (|I|, M).
      parts: by modality, the first and past the last of the coordinates that are its part.
      shared: all parts are the same coordinates, and all columns one.
      own: c_tt under the policy own_row.
    """

    columns: Callable[[PyTree, Graph, jax.Array], Embeddings]
    parts: tuple[tuple[int, int], ...]
    shared: bool
    own: float


class ItemLists(NamedTuple):
    """Items that add up others', those whose raw features are nearest to their own:

        h_i = base_i + sum_m share_m / k * sum_{j in N_i^m} table_j

    N_i^m are k items, i itself among them (models/neighbours.py); users, base and table read
    no content.

    Attributes:
      k: length of the lists.
      shares: share_m, in the data set's order.
      parts: (Params.encoder, Graph) -> base and table, (|I|, D) each.
    """

    k: int
    shares: tuple[float, ...]
    parts: Callable[[PyTree, Graph], tuple[jax.Array, jax.Array]]


class Model(NamedTuple):
    """A recommender as pure functions.

    Attributes:
      name: recorded in checkpoints.
      init: key -> Params.
      project: (Params.projectors, raw features: Modal of (n, dim_m)) -> z: Modal
        of (n, d). Works row by row, for any subset of items.
      encode: (Params.encoder, z: Modal of (|I|, d), Graph) -> Embeddings of all
        users and items.
      select: (Params.encoder, users (b,), items (n,)) -> the part of the
        parameters that these rows' embeddings read. Only for models in which
        an item's features reach no other item or user; None otherwise. Of what it
        gave it selects again, by places in that (defence "exact").
      gather: (Params.encoder, Graph, users (b,), items (n,)) -> the same of models whose
        embeddings read other rows through the graph, though no content. In place of `select`.
      encode_rows: (what `select` or `gather` gave, z: Modal of (n, d), the rows of `items`)
        -> Embeddings of those rows alone. Given with one of them, or None.
      prepare: (Params.encoder, Graph) -> what of a propagation does not depend on any
        item's content, computed once for several passes. For models that propagate;
        None otherwise.
      propagate: (what `prepare` gave, z: Modal of (|I|, d), Graph, users (b,), items (n,))
        -> Embeddings of these rows; items of |I| and more are padding. Given with
        `prepare`, or None.
      affine_in_content: the score is affine in the item's own z, given the user: y_ui = e_ui +
        sum_m <w_u^m, z_i^m>. Such a model, if it has `encode_rows`, can be certified, and if it
        has `select`, trained on its exact worst case.
      unit_rows: of a model with `affine_in_content`: `project` gives rows no longer than 1, so
        that new content of whatever kind can be certified, and not within a budget alone.
      field: propagates one item's changed content through its receptive field
        alone (models/field.py). For models that propagate; None otherwise.
      regularize: (Params.encoder, Batch, users', positives' and negatives'
        embeddings, each (B, D)) -> scalar L_reg.
      content_kernels: Params.encoder -> the matrices that content is multiplied by on
        its way to the scores. For the defence "spectral"; None otherwise.
      redraw: (Params.encoder, key) -> the encoder with new draws in place of the tables that
        the model's published checkpoints leave out, and its published attack so draws anew;
        None otherwise.
      head: the projectors' last layer, for defences that learn it anew; or None.
      width: d, if all modalities' z share it whatever their features; None if not, or
        not said. What compares the modalities' z looks at the arrays then.
      relate: raw features, one (|I|, dim_m) NumPy array a modality -> arrays that every Graph
        given to the model has as `relations`. Computed once, on the host; None for models
        that read the interactions alone.
      relate_users: training interactions -> arrays that every Graph given to the model has as
        `user_relations`. Computed once, on the host, and not again for edited items; or None.
      epoch_graph: (key, Params as the epoch begins, DeviceData) -> the graph of one epoch of
        pre-training, of static shape. None where all epochs have the data's.
      objective: (Params, DeviceData, mu, Batch, key) -> the loss of pre-training and its terms
        by name, in place of L_BPR + mu L_reg + alpha L_NCE. DeviceData's graph is the epoch's.
      reads: which of an item's content reaches a score when the model serves: "z", the
        projected features, "raw", the raw ones through `relate`, both, or nothing.
      levels: where an edit of content is defined, "projected" and "feature".
      own_row: (Params.encoder, clean: Served, edited: Served, () int32 item) -> (D,) the item's
        embedding if its own rows alone are computed anew, all others' read as stored
        (attacks/policies.py). None for models with `encode_rows`, whose one it is, and where
        it is not defined.
      linear: how content spreads, of models in which it does so linearly; None otherwise.
      lists: the item lists, if that is all that content does; None otherwise.
      normed_lists: the same of lists that are added up as a direction; None otherwise.
      gated_lists: the same of lists whose rows are gated; None otherwise.
      relate_rows: as `relate`, (raw features, others of the same shapes) -> arrays in which an
        item's rows are as if it alone had the other features. For models with `relate` and
        `own_row`, whose use of content under that policy is measured with it; or None.
    """

    name: str
    init: Callable[[jax.Array], Params]
    project: Callable[[PyTree, Modal], Modal]
    encode: Callable[[PyTree, Modal, Graph], Embeddings]
    select: Callable[[PyTree, jax.Array, jax.Array], PyTree] | None = None
    gather: Callable[[PyTree, Graph, jax.Array, jax.Array], PyTree] | None = None
    encode_rows: Callable[[PyTree, Modal], Embeddings] | None = None
    prepare: Callable[[PyTree, Graph], PyTree] | None = None
    propagate: Callable[[PyTree, Modal, Graph, jax.Array, jax.Array], Embeddings] | None = None
    affine_in_content: bool = False
    unit_rows: bool = True
    field: FieldPass | None = None
    regularize: Callable[..., jax.Array] = lambda *_: jnp.zeros(())
    content_kernels: Callable[[PyTree], tuple[jax.Array, ...]] | None = None
    redraw: Callable[[PyTree, jax.Array], PyTree] | None = None
    head: ProjectorHead | None = None
    width: int | None = None
    relate: Callable[[tuple[np.ndarray, ...]], PyTree] | None = None
    relate_users: Callable[[Interactions], PyTree] | None = None
    epoch_graph: Callable[[jax.Array, Params, DeviceData], Graph] | None = None
    objective: Callable[..., tuple[jax.Array, dict[str, jax.Array]]] | None = None
    reads: tuple[str, ...] = ("z",)
    levels: tuple[str, ...] = ("projected", "feature")
    own_row: Callable[[PyTree, Served, Served, jax.Array], jax.Array] | None = None
    linear: LinearPass | None = None
    lists: ItemLists | None = None
    normed_lists: NormedLists | None = None
    gated_lists: GatedLists | None = None
    relate_rows: Callable[[tuple[np.ndarray, ...], tuple[np.ndarray, ...]], PyTree] | None = None


def in_encoder(batch: Batch) -> Batch:
    """The batch under the numbers that its users and items have in the encoder beside it."""
    if batch.places is None:
        return batch
    positives, negatives = jnp.split(batch.places.items, 2)
    return Batch(batch.places.users, positives, negatives, batch.weights)


def select(
    model: Model, encoder: PyTree, graph: Graph, users: jax.Array, items: jax.Array
) -> PyTree:
    """What `encode_changed` reads of the parameters for these rows.

    Selecting once for several calls gathers the tables' rows once, or propagates once what no
    content reaches, and in the backward pass goes back there once.
    """
    if model.select is not None:
        return model.select(encoder, users, items)
    if model.gather is not None:
        return model.gather(encoder, graph, users, items)
    return encoder if model.prepare is None else model.prepare(encoder, graph)


def select_users(model: Model, encoder: PyTree, users: jax.Array) -> PyTree:
    """`Model.select` of these users and of all items, whose rows are not copied.

    Args:
      model: one with `select`.
      encoder: with few items.
      users: (b,) int32.
    """
    nobody = users[:0]
    read = model.select(encoder, users, nobody)  # type: ignore[misc]
    # A table of items is what has changed with them alone; what is no table is as it was.
    fewer = jax.eval_shape(model.select, encoder, nobody, nobody)  # type: ignore[arg-type]
    return jax.tree.map(
        lambda whole, some, none: some if some.shape != none.shape else whole, encoder, read, fewer
    )


def encode_changed(
    model: Model,
    selected: PyTree,
    z: Modal,
    graph: Graph,
    users: jax.Array,
    items: jax.Array,
    z_items: Modal,
) -> Embeddings:
    """Embeddings of some users and items when those items' z rows are replaced.

    Takes the model's cheap path if it has one, else encodes the whole graph
    with the replaced rows.

    Args:
      model: the recommender.
      selected: `select(model, encoder, graph, users, items)`.
      z: modal, (|I|, d), clean.
      graph: the training graph.
      users: (b,) int32.
      items: (n,) int32, rows of one item being equal; ids >= |I| are padding.
      z_items: modal, (n, d), the rows to put in place of z[items].

    Returns:
      Embeddings of shapes (b, D) and (n, D); padding rows are finite and meaningless.
    """
    if model.encode_rows is not None:
        return model.encode_rows(selected, z_items)
    # By place and not by scattering the rows, whose derivative would be another program: so a
    # pass that is differentiated and one that is not are one to the compiler.
    place = jnp.full(graph.n_items, -1).at[items].max(jnp.arange(items.size), mode="drop")
    moved = (place >= 0)[:, None]
    z = tuple(jnp.where(moved, take(x, place), full) for full, x in zip(z, z_items, strict=True))
    if model.propagate is not None:
        return model.propagate(selected, z, graph, users, items)
    user, item = model.encode(selected, z, graph)
    return Embeddings(take(user, users), take(item, items))
