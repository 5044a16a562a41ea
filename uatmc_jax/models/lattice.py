"""LATTICE (Zhang et al., ACM MM 2021): an item-item graph learned along with the items.

With S_m the cosine-valued lists of modality m's raw features (models/neighbours.py), K^m those
of z^m, not normalised (models/learned_lists.py), w = softmax of two trained numbers,

    H = (1 - lambda) lap(sum_m w_m K^m) + lambda sum_m w_m S_m,    lap(K)_ij = K_ij / sqrt(c_i c_j)
    h_u = LG_L(e)_u,    h_i = LG_L(e)_i + norm((H e_I)_i),    y_ui = <h_u, h_i>

LG_L as LightGCN's, but of G = D^-1 (A + I), the mean over neighbours and self; c are row sums,
z_i^m = W_m x_i^m + b_m. Trained by L_BPR + mu L_reg. The lists of z are made anew at the start of
every epoch; H has a gradient, through cosines and w, in the epoch's first batch and is a constant
in the others. (The published code; the paper normalises each modality's graph before it mixes
them.) When it serves, H is rebuilt: content acts through it alone.
"""

import dataclasses
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.checks import at_least, one_of, require
from uatmc_jax.data.dataset import DeviceData, Sizes
from uatmc_jax.data.graph import Graph, sum_items, sum_users
from uatmc_jax.losses import bpr_loss
from uatmc_jax.models.affine_content import init_affine, project_affine
from uatmc_jax.models.learned_lists import mixed_lists, mixed_row, nearest_ids
from uatmc_jax.models.lightgcn import IdTables, init_tables
from uatmc_jax.models.list_records import ListParts, NormedLists
from uatmc_jax.models.mmgcn_records import Affine
from uatmc_jax.models.neighbours import Neighbours, Raw, cosine_valued, made_lists
from uatmc_jax.models.protocol import Batch, Embeddings, Modal, Model, Params, Served
from uatmc_jax.models.settings import ModelSettings, made_once
from uatmc_jax.numerics import normalize_rows, take

_REG_BATCH = 2048  # the published batch, which L_reg is divided by in the last one too


@flax.struct.dataclass
class LATTICEEncoder:
    """LATTICE's own parameters.

    Attributes:
      tables: e_u and e_i.
      weights: (M,) w before its softmax.
    """

    tables: IdTables
    weights: jax.Array


@flax.struct.dataclass
class ShiftedEncoder(LATTICEEncoder):
    """The same where tables of raw features were trained along.

    Attributes:
      shifts: modal, (|I|, d) s, what training has moved z by.
    """

    shifts: Modal


class ItemGraphs(NamedTuple):
    """What H is made of.

    Attributes:
      raw: S_m, one a modality.
      learned: lap(sum_m w_m K^m) by modality, and
      shares: (M,) w, both as an epoch has them; None where they are those of the parameters.
    """

    raw: tuple[Neighbours, ...]
    learned: tuple[Neighbours, ...] | None = None
    shares: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class LATTICESettings(ModelSettings):
    """LATTICE's settings; it has no projectors with hidden layers, nor tau.

    Attributes:
      n_layers: L of the user-item graph.
      n_neighbours: k, an item itself included.
      raw_share: lambda, the weight of raw features' lists beside the learned ones.
      trained_features: the learned lists are of z_i + s_i, s_i a free row of each item's; what
        an imported checkpoint has whose tables of raw features were trained.
    """

    name: str = "lattice"
    n_layers: int = 2
    n_neighbours: int = 10
    raw_share: float = 0.9
    trained_features: bool = False

    def __post_init__(self):
        super().__post_init__()
        one_of("model.name", self.name, ("lattice",))
        at_least("model.n_layers", self.n_layers, 1)
        at_least("model.n_neighbours", self.n_neighbours, 1)
        require(0 <= self.raw_share <= 1, "model.raw_share", self.raw_share, "a share in [0, 1]")

    @property
    def depth(self) -> int:
        """Propagation layers."""
        return self.n_layers


def lattice(sizes: Sizes, **fields: Any) -> Model:
    """LATTICE for a catalogue of this size.

    >>> lattice(Sizes(60, 50, {"visual": 64}), dim=8).reads
    ('z', 'raw')

    Args:
      sizes: |U|, |I| and the widths of the raw features, as `Dataset.sizes`.
      **fields: of `LATTICESettings`: dim, n_layers, n_neighbours, raw_share, trained_features.

    Raises:
      InputError: a value that cannot be used.
    """
    return make(LATTICESettings(**fields), sizes)


def mean_with_self(graph: Graph, user: jax.Array, item: jax.Array, n_layers: int) -> Embeddings:
    """mean_{l = 0..L} G^l X with G = D^-1 (A + I); arguments as of `lightgcn.smooth`."""
    users, items = user, item
    for _ in range(n_layers):
        user, item = (
            (user + sum_items(graph, item)) / (1 + graph.users.degrees)[:, None],
            (item + sum_users(graph, user)) / (1 + graph.items.degrees)[:, None],
        )
        users, items = users + user, items + item
    return Embeddings(users / (n_layers + 1), items / (n_layers + 1))


@made_once
def make(settings: LATTICESettings, sizes: Sizes) -> Model:
    """What `lattice` gives for these settings."""
    n_users, n_items, raw_dims = sizes
    dim, n_layers, k = settings.dim, settings.n_layers, settings.n_neighbours
    names, raw_share = tuple(raw_dims), settings.raw_share
    lists = made_lists(cosine_valued, k)

    def init(key: jax.Array) -> Params:
        k_project, k_tables = jax.random.split(key)
        tables = init_tables(k_tables, n_users, n_items, dim)
        weights = jnp.full(len(names), 0.5, jnp.float32)
        temperature = jnp.asarray(settings.temperature, jnp.float32)
        projectors, encoder = init_affine(k_project, raw_dims, dim), LATTICEEncoder(tables, weights)
        if settings.trained_features:
            shifts = tuple(jnp.zeros((n_items, dim)) for _ in names)
            encoder = ShiftedEncoder(tables, weights, shifts)
        return Params(projectors, encoder, temperature)

    def shifted(encoder: LATTICEEncoder, z: Modal) -> Modal:
        if isinstance(encoder, ShiftedEncoder):
            return tuple(map(jnp.add, z, encoder.shifts))
        return z

    def relate(features: Raw) -> ItemGraphs:
        return ItemGraphs(lists.relate(features))

    def relate_rows(features: Raw, rows: Raw) -> ItemGraphs:
        return ItemGraphs(lists.relate_rows(features, rows))

    def learned(encoder: LATTICEEncoder, z: Modal, raw: tuple[Neighbours, ...]) -> ItemGraphs:
        shares, z = jax.nn.softmax(encoder.weights), shifted(encoder, z)
        return ItemGraphs(raw, mixed_lists(z, tuple(nearest_ids(x, k) for x in z), shares), shares)

    def listed(encoder: LATTICEEncoder, graphs: ItemGraphs) -> jax.Array:
        """H e_I of the rows that the graphs have."""
        item, shares = encoder.tables.item, graphs.shares
        kept = sum(w * s(item) for w, s in zip(shares, graphs.raw, strict=True))
        return (1 - raw_share) * sum(p(item) for p in graphs.learned) + raw_share * kept

    def nodes(encoder: LATTICEEncoder, graph: Graph) -> Embeddings:
        return mean_with_self(graph, encoder.tables.user, encoder.tables.item, n_layers)

    def encode(encoder: LATTICEEncoder, z: Modal, graph: Graph) -> Embeddings:
        user, item = nodes(encoder, graph)
        added = listed(encoder, learned(encoder, z, graph.relations.raw))
        return Embeddings(user, item + normalize_rows(added))

    def own_row(encoder: LATTICEEncoder, clean: Served, edited: Served, item: jax.Array):
        """Row t of every list, its new sums beside the others' stored ones; no user moves."""
        stored = learned(encoder, clean.z, clean.graph.relations.raw)
        pairs = zip(edited.graph.relations.raw, stored.raw, strict=True)
        raw = tuple(new.row_beside(old, item) for new, old in pairs)
        rows = tuple(x[item] for x in shifted(encoder, edited.z))
        row = mixed_row(shifted(encoder, clean.z), rows, stored.learned, stored.shares, item)
        added = normalize_rows(listed(encoder, ItemGraphs(raw, row, stored.shares)))[0]
        return nodes(encoder, clean.graph).item[item] + added

    def parts(encoder: LATTICEEncoder, z: Modal, graph: Graph) -> ListParts:
        graphs = learned(encoder, z, graph.relations.raw)
        base = nodes(encoder, graph).item
        return ListParts(base, encoder.tables.item, graphs.raw, graphs.learned, graphs.shares)

    def lengths(projectors: dict[str, Affine]) -> tuple[np.floating, ...]:
        kernels = (np.asarray(projectors[name].kernel, np.float64) for name in names)
        return tuple(np.linalg.norm(kernel, 2) for kernel in kernels)

    def epoch_graph(key: jax.Array, params: Params, data: DeviceData) -> Graph:
        """With the lists of z as the parameters are now."""
        del key  # nothing is drawn
        z = project_affine(params.projectors, data.features, names)
        made = learned(params.encoder, z, data.graph.relations.raw)
        return data.graph.replace(relations=jax.lax.stop_gradient(made))

    def objective(
        params: Params, data: DeviceData, mu: jax.Array, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """L_BPR + mu L_reg; H has a gradient in an epoch's first batch alone."""
        del key  # nothing is drawn
        encoder, graphs = params.encoder, data.graph.relations

        def anew() -> jax.Array:
            z = project_affine(params.projectors, data.features, names)
            if graphs.learned is None:
                return listed(encoder, learned(encoder, z, graphs.raw))
            # The parameters are those that the epoch's lists were made with.
            shares = jax.nn.softmax(encoder.weights)
            ids = tuple(x.ids for x in graphs.learned)
            values = mixed_lists(shifted(encoder, z), ids, shares)
            return listed(encoder, ItemGraphs(graphs.raw, values, shares))

        if graphs.learned is None:
            added = anew()
        else:
            added = jax.lax.cond(batch.step == 0, anew, lambda: listed(encoder, graphs))
        own = nodes(encoder, data.graph)
        item = own.item + normalize_rows(added)
        user, positive, negative = (
            take(own.user, batch.users),
            take(item, batch.positives),
            take(item, batch.negatives),
        )
        squares = sum(jnp.sum(x * x, axis=1) for x in (user, positive, negative))
        terms = {
            "bpr": bpr_loss(user, positive, negative, batch.weights),
            "reg": jnp.sum(batch.weights * squares) / 2 / _REG_BATCH,
        }
        return terms["bpr"] + mu * terms["reg"], terms

    return Model(
        name="lattice",
        init=init,
        project=lambda params, features: project_affine(params, features, names),
        encode=encode,
        width=dim,
        relate=relate,
        epoch_graph=epoch_graph,
        objective=objective,
        reads=("z", "raw"),
        own_row=own_row,
        # Bounds are of lists of z itself.
        normed_lists=None if settings.trained_features else NormedLists(raw_share, parts, lengths),
        relate_rows=relate_rows,
    )
