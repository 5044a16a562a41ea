"""MGCN (Yu et al., ACM MM 2023): content gates the ids, similar items share them, users weigh.

With A^ the normalised adjacency matrix, R^ its user-item block, S_m the cosine-valued lists of
modality m (models/neighbours.py), LG_2 of LightGCN on the id tables e, (.) by coordinate:

    g_i^m = e_i (.) sigmoid(G_m z_i^m + .),    h^m = [R^ S_m g^m ; S_m g^m]
    a = softmax_m(q_2 . tanh(Q_1 h^m + .)),    c = sum_m a_m h^m
    side = (sum_m p^m (.) (h^m - c) + c) / (M + 1),    p^m = sigmoid(P_m LG_2 + .)
    h = LG_2 + side,    y_ui = <h_u, h_i>

with z_i^m = W_m x_i^m + b_m and M modalities (two in the publication), trained by

    L_BPR + mu L_reg + c_l [NCE(side_p, LG_p) + NCE(side_u, LG_u)]

over the batch, NCE(a, b) = mean_i [logsumexp_j cos(a_i, b_j) / t - cos(a_i, b_i) / t], t = 0.2.
When it serves it reads content twice: z in the gates, raw features in the lists.
"""

import dataclasses
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.checks import at_least, one_of
from uatmc_jax.data.dataset import DeviceData, Sizes
from uatmc_jax.data.graph import Adjacency, Graph, sum_items
from uatmc_jax.losses import bpr_loss
from uatmc_jax.models.affine_content import init_affine, make_affine, project_affine
from uatmc_jax.models.field import Field, FieldPass, listing, neighbours_of
from uatmc_jax.models.lightgcn import IdTables, init_tables, smooth
from uatmc_jax.models.list_records import GatedLists, GatedParts
from uatmc_jax.models.mmgcn_records import Affine
from uatmc_jax.models.neighbours import cosine_valued, made_lists
from uatmc_jax.models.protocol import Batch, Embeddings, Modal, Model, Params, Served
from uatmc_jax.models.settings import ModelSettings, made_once
from uatmc_jax.numerics import normalize_rows, take, weighted_mean

_TEMPERATURE = 0.2
_REG_BATCH = 2048  # the published batch, which L_reg is divided by in the last one too


@flax.struct.dataclass
class MGCNEncoder:
    """MGCN's own parameters.

    Attributes:
      tables: e_u and e_i.
      gates: G_m and its bias, in the data's order.
      preferences: P_m and its bias, alike.
      query: Q_1 and its bias.
      weights: (d,) q_2.
      shifts: (|I|, d) of each modality, what z moves by where the raw features were trained
        along; empty where they were not.
    """

    tables: IdTables
    gates: tuple[Affine, ...]
    preferences: tuple[Affine, ...]
    query: Affine
    weights: jax.Array
    shifts: tuple[jax.Array, ...] = ()


class Trace(NamedTuple):
    """What the clean pass gave, users first.

    Attributes:
      own: (|U|+|I|, d) LG_2.
      h: modal, (|U|+|I|, d).
      logits: modal, (|I|, d), of which the gates are the logistics, and
      z: what they are of.
    """

    own: jax.Array
    h: Modal
    logits: Modal
    z: Modal


class Reached(NamedTuple):
    """What of it an edit of one item reaches, by shell.

    Attributes:
      own: by shell (n_k, d).
      h: by modality and shell, (n_k, d).
      columns: by modality and shell, (n_k, 1), how much of g_t the node's h has.
      logits: modal, (1, d), the target's, and
      z: modal, (1, d).
    """

    own: tuple[jax.Array, ...]
    h: tuple[tuple[jax.Array, ...], ...]
    columns: tuple[tuple[jax.Array, ...], ...]
    logits: Modal
    z: Modal


@dataclasses.dataclass(frozen=True)
class MGCNSettings(ModelSettings):
    """MGCN's settings; it has no projectors with hidden layers, nor a trained tau.

    Attributes:
      n_layers: L of the user-item graph.
      n_neighbours: k, an item itself included.
      contrast: c_l.
      trained_features: the gates read z_i + s_i, s_i a free row of each item's; what an
        imported checkpoint has whose tables of raw features were trained.
    """

    name: str = "mgcn"
    n_layers: int = 2
    n_neighbours: int = 10
    contrast: float = 0.01
    trained_features: bool = False

    def __post_init__(self):
        super().__post_init__()
        one_of("model.name", self.name, ("mgcn",))
        at_least("model.n_layers", self.n_layers, 1)
        at_least("model.n_neighbours", self.n_neighbours, 1)
        at_least("model.contrast", self.contrast, 0)

    @property
    def depth(self) -> int:
        """Propagation layers."""
        return self.n_layers


def mgcn(sizes: Sizes, **fields: Any) -> Model:
    """MGCN for a catalogue of this size.

    >>> mgcn(Sizes(60, 50, {"visual": 64}), dim=8).reads
    ('z', 'raw')

    Args:
      sizes: |U|, |I| and the widths of the raw features, as `Dataset.sizes`.
      **fields: of `MGCNSettings`: dim, n_layers, n_neighbours, contrast, trained_features.

    Raises:
      InputError: a value that cannot be used.
    """
    return make(MGCNSettings(**fields), sizes)


@made_once
def make(settings: MGCNSettings, sizes: Sizes) -> Model:
    """What `mgcn` gives for these settings."""
    n_users, n_items, raw_dims = sizes
    dim, n_layers, names = settings.dim, settings.n_layers, tuple(raw_dims)
    lists = made_lists(cosine_valued, settings.n_neighbours)

    def init(key: jax.Array) -> Params:
        k_project, k_tables, k_gates, k_prefer, k_query, k_weights = jax.random.split(key, 6)
        layer = {name: dim for name in names}
        encoder = MGCNEncoder(
            tables=init_tables(k_tables, n_users, n_items, dim),
            gates=tuple(init_affine(k_gates, layer, dim).values()),
            preferences=tuple(init_affine(k_prefer, layer, dim).values()),
            query=make_affine(k_query, dim, dim),
            weights=make_affine(k_weights, dim, 1).kernel[:, 0],
            shifts=tuple(jnp.zeros((n_items, dim)) for _ in names if settings.trained_features),
        )
        temperature = jnp.asarray(settings.temperature, jnp.float32)
        return Params(init_affine(k_project, raw_dims, dim), encoder, temperature)

    def gate_logits(encoder: MGCNEncoder, z: Modal) -> Modal:
        if encoder.shifts:
            z = tuple(map(jnp.add, z, encoder.shifts))
        return tuple(gate(x) for gate, x in zip(encoder.gates, z, strict=True))

    def gated(encoder: MGCNEncoder, z: Modal) -> Modal:
        return tuple(encoder.tables.item * jax.nn.sigmoid(x) for x in gate_logits(encoder, z))

    def nodes(encoder: MGCNEncoder, graph: Graph) -> Embeddings:
        return smooth(graph, encoder.tables.user, encoder.tables.item, n_layers)

    def fused(encoder: MGCNEncoder, by_modality: Modal, own: jax.Array) -> jax.Array:
        """side of some nodes: (n, d) h^m a modality and LG_2, to (n, d)."""
        h = jnp.stack(by_modality)
        shares = jax.nn.softmax(jnp.tanh(encoder.query(h)) @ encoder.weights, axis=0)
        common = jnp.sum(shares[..., None] * h, axis=0)
        parts = [
            jax.nn.sigmoid(prefer(own)) * (x - common)
            for prefer, x in zip(encoder.preferences, by_modality, strict=True)
        ]
        return (sum(parts, common)) / (len(by_modality) + 1)

    def heard(graph: Graph, x: jax.Array) -> jax.Array:
        """R^ x: (|I|, f) to (|U|, f)."""
        by_user, by_item = (
            jax.lax.rsqrt(jnp.maximum(x.degrees, 1.0))[:, None] for x in (graph.users, graph.items)
        )
        return by_user * sum_items(graph, by_item * x)

    def by_modality(g: Modal, graph: Graph) -> Embeddings:
        """h^m of users and items, modal each."""
        item = tuple(s(x) for s, x in zip(graph.relations, g, strict=True))
        return Embeddings(tuple(heard(graph, x) for x in item), item)

    def sides(encoder: MGCNEncoder, z: Modal, graph: Graph) -> tuple[Embeddings, Embeddings]:
        """LG_2, and side, of all nodes."""
        own, h = nodes(encoder, graph), by_modality(gated(encoder, z), graph)
        return own, Embeddings(fused(encoder, h.user, own.user), fused(encoder, h.item, own.item))

    def encode(encoder: MGCNEncoder, z: Modal, graph: Graph) -> Embeddings:
        return Embeddings(*map(jnp.add, *sides(encoder, z, graph)))

    def own_row(encoder: MGCNEncoder, clean: Served, edited: Served, item: jax.Array) -> jax.Array:
        """g_t, row t of each S_m (its new sum, the others' stored ones) and the fusion at t."""
        own = nodes(encoder, clean.graph).item[item][None]
        before, after = gated(encoder, clean.z), gated(encoder, edited.z)
        h = []
        for m, (stored, new) in enumerate(zip(before, after, strict=True)):
            row = edited.graph.relations[m].row_beside(clean.graph.relations[m], item)
            h.append(row(stored.at[item].set(new[item])))
        return (own + fused(encoder, tuple(h), own))[0]

    def trace(encoder: MGCNEncoder, z: Modal, graph: Graph) -> Trace:
        h = by_modality(gated(encoder, z), graph)
        both = tuple(map(lambda *x: jnp.concatenate(x), h.user, h.item))
        return Trace(jnp.concatenate(nodes(encoder, graph)), both, gate_logits(encoder, z), z)

    def gather(encoder: MGCNEncoder, trace: Trace, graph: Graph, field: Field) -> Reached:
        del encoder  # all of it is in the trace

        def rows(table: jax.Array) -> tuple[jax.Array, ...]:
            return tuple(take(table, shell) for shell in field.shells)

        columns = []
        for s in graph.relations:
            there = jnp.where(s.ids == field.shells[0][0] - n_users, s.values, 0.0)
            item = jnp.sum(there, axis=1)[:, None]
            columns.append(rows(jnp.concatenate([heard(graph, item), item])))
        own = (
            tuple(take(x, field.shells[0] - n_users) for x in of) for of in (trace.logits, trace.z)
        )
        return Reached(rows(trace.own), tuple(map(rows, trace.h)), tuple(columns), *own)

    def encode_field(
        encoder: MGCNEncoder, clean: Reached, field: Field, z: Modal
    ) -> tuple[jax.Array, ...]:
        item = take(encoder.tables.item, field.shells[0] - n_users)
        moved = []
        for gate, logits, new, old in zip(encoder.gates, clean.logits, z, clean.z, strict=True):
            after = logits + (new - old) @ gate.kernel
            moved.append(item * (jax.nn.sigmoid(after) - jax.nn.sigmoid(logits)))
        found = []
        for k, own in enumerate(clean.own):
            parts = zip(clean.h, clean.columns, moved, strict=True)
            h = tuple(x[k] + column[k] * change for x, column, change in parts)
            found.append(own + fused(encoder, h, own))
        return tuple(found)

    def parts(encoder: MGCNEncoder, z: Modal, graph: Graph) -> GatedParts:
        own = nodes(encoder, graph).item
        preferences = tuple(jax.nn.sigmoid(prefer(own)) for prefer in encoder.preferences)
        logits = gate_logits(encoder, z)
        return GatedParts(own, encoder.tables.item, logits, preferences, graph.relations)

    def lengths(encoder: MGCNEncoder, projectors: dict[str, Affine]) -> tuple[np.ndarray, ...]:
        both = ((projectors[m].kernel, g.kernel) for m, g in zip(names, encoder.gates, strict=True))
        products = (np.asarray(w, np.float64) @ np.asarray(g, np.float64) for w, g in both)
        return tuple(np.linalg.norm(product, axis=0) for product in products)

    def reach(graph: Graph, adjacency: Adjacency, item: int, limit: int) -> list[np.ndarray] | None:
        """With the lists as they are: items that list it, and whoever bought one of these."""
        ids = np.concatenate([np.asarray(s.ids) for s in graph.relations], axis=1)
        items = listing(ids, np.array([item]))  # the item itself among them
        users = np.unique(neighbours_of(adjacency, items + n_users))
        shells = [np.array([item + n_users]), users, items[items != item] + n_users]
        return shells if sum(map(len, shells)) <= limit else None

    def objective(
        params: Params, data: DeviceData, mu: jax.Array, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """L, its terms "bpr", "reg" and "contrast"; rows that are twice in the batch count so."""
        del key  # nothing is drawn
        z = project_affine(params.projectors, data.features, names)
        own, side = sides(params.encoder, z, data.graph)
        h = Embeddings(own.user + side.user, own.item + side.item)
        user, positive, negative = (
            take(h.user, batch.users),
            take(h.item, batch.positives),
            take(h.item, batch.negatives),
        )
        squares = sum(jnp.sum(x * x, axis=1) for x in (user, positive, negative))
        terms = {
            "bpr": bpr_loss(user, positive, negative, batch.weights),
            "reg": jnp.sum(batch.weights * squares) / 2 / _REG_BATCH,
            "contrast": _nce(side.item, own.item, batch.positives, batch.weights)
            + _nce(side.user, own.user, batch.users, batch.weights),
        }
        loss = terms["bpr"] + mu * terms["reg"] + settings.contrast * terms["contrast"]
        return loss, terms

    return Model(
        name="mgcn",
        init=init,
        project=lambda params, features: project_affine(params, features, names),
        encode=encode,
        field=FieldPass(2, trace, gather, encode_field, reach),
        width=dim,
        relate=lists.relate,
        objective=objective,
        reads=("z", "raw"),
        own_row=own_row,
        gated_lists=GatedLists(parts, lengths) if len(names) == 2 else None,
        relate_rows=lists.relate_rows,
    )


def _nce(a: jax.Array, b: jax.Array, rows: jax.Array, weights: jax.Array) -> jax.Array:
    """One-sided, over the batch's rows, padding left out.

    Args:
      a, b: (n, d) tables.
      rows: (B,) int32.
      weights: (B,) 1, or 0 for padding.
    """
    a, b = (normalize_rows(take(x, rows)) for x in (a, b))
    logits = jnp.where(weights > 0, a @ b.T / _TEMPERATURE, -jnp.inf)
    own = jnp.sum(a * b, axis=1) / _TEMPERATURE
    return weighted_mean(jax.nn.logsumexp(logits, axis=1) - own, weights)
