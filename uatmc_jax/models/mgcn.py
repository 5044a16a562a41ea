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
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.checks import at_least, one_of
from uatmc_jax.data.dataset import DeviceData, Sizes
from uatmc_jax.data.graph import Graph, sum_items
from uatmc_jax.losses import bpr_loss
from uatmc_jax.models.affine_content import init_affine, make_affine, project_affine
from uatmc_jax.models.lightgcn import IdTables, init_tables, smooth
from uatmc_jax.models.mmgcn_records import Affine
from uatmc_jax.models.neighbours import Neighbours, all_nearest, cosine_valued, directions
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

    def relate(features: tuple[np.ndarray, ...]) -> tuple[Neighbours, ...]:
        k = settings.n_neighbours
        return tuple(cosine_valued(all_nearest(directions(x), k)) for x in features)

    def relate_rows(
        features: tuple[np.ndarray, ...], rows: tuple[np.ndarray, ...]
    ) -> tuple[Neighbours, ...]:
        k, both = settings.n_neighbours, zip(features, rows, strict=True)
        return tuple(cosine_valued(all_nearest(directions(x), k, own)) for x, own in both)

    def gated(encoder: MGCNEncoder, z: Modal) -> Modal:
        item = encoder.tables.item
        if encoder.shifts:
            z = tuple(map(jnp.add, z, encoder.shifts))
        return tuple(
            item * jax.nn.sigmoid(gate(x)) for gate, x in zip(encoder.gates, z, strict=True)
        )

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

    def sides(encoder: MGCNEncoder, z: Modal, graph: Graph) -> tuple[Embeddings, Embeddings]:
        """LG_2, and side, of all nodes."""
        own, g = nodes(encoder, graph), gated(encoder, z)
        item = tuple(s(x) for s, x in zip(graph.relations, g, strict=True))
        by_user, by_item = (
            jax.lax.rsqrt(jnp.maximum(x.degrees, 1.0))[:, None] for x in (graph.users, graph.items)
        )
        user = tuple(by_user * sum_items(graph, by_item * x) for x in item)
        return own, Embeddings(fused(encoder, user, own.user), fused(encoder, item, own.item))

    def encode(encoder: MGCNEncoder, z: Modal, graph: Graph) -> Embeddings:
        return Embeddings(*map(jnp.add, *sides(encoder, z, graph)))

    def own_row(encoder: MGCNEncoder, clean: Served, edited: Served, item: jax.Array) -> jax.Array:
        """g_t, row t of each S_m (its new sum, the others' stored ones) and the fusion at t."""
        own = nodes(encoder, clean.graph).item[item][None]
        before, after = gated(encoder, clean.z), gated(encoder, edited.z)
        by_modality = []
        for m, (stored, new) in enumerate(zip(before, after, strict=True)):
            lists = edited.graph.relations[m].row_beside(clean.graph.relations[m], item)
            by_modality.append(lists(stored.at[item].set(new[item])))
        return (own + fused(encoder, tuple(by_modality), own))[0]

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
        width=dim,
        relate=relate,
        objective=objective,
        reads=("z", "raw"),
        own_row=own_row,
        relate_rows=relate_rows,
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
