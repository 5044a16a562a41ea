"""DRAGON (Zhou et al., ECAI 2023): content walks the purchases, users hear from co-buyers.

By modality m, with A^ the normalised adjacency matrix and P^m free preferences of users,

    z_i^m = norm(MLP_m(x_i^m)),    X^m = [norm(P^m) ; z^m],    T^m = sum_{l = 0..L} A^^l X^m

and, side by side over the modalities, with S_m the unweighted lists of raw features
(models/neighbours.py) and Omega the graph of co-buyers (models/user_lists.py),

    I = [T_i^m],    h_i = I_i + (sum_m share_m S_m I)_i
    r = [w_um T_u^m],    h_u = r_u + (Omega r)_u,    y_ui = <h_u, h_i>

Trained by L_BPR / ln 2 + mu (sum_m mean over the batch of P_u^m squared + mean of w squared): the
published code takes logarithms to base 2. Items have no embedding but their content, which is
read twice when it serves: z along the purchases, raw features in the lists.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.checks import at_least, one_of
from uatmc_jax.data.dataset import DeviceData, Sizes
from uatmc_jax.data.graph import Adjacency, Graph
from uatmc_jax.data.interactions import Interactions
from uatmc_jax.losses import bpr_loss
from uatmc_jax.models.affine_content import init_affine, project_affine
from uatmc_jax.models.field import Field, FieldPass, listing, shells_of
from uatmc_jax.models.freedom import shares_of
from uatmc_jax.models.lightgcn import smooth
from uatmc_jax.models.mmgcn_records import Affine
from uatmc_jax.models.neighbours import Neighbours, made_lists, unweighted
from uatmc_jax.models.protocol import (
    Batch,
    Embeddings,
    LinearPass,
    Modal,
    Model,
    Params,
    Served,
)
from uatmc_jax.models.settings import ModelSettings, made_once
from uatmc_jax.models.user_lists import UserLists, padded, user_lists
from uatmc_jax.numerics import normalize_rows, take, weighted_mean

PADS = ("resample", "none")


@flax.struct.dataclass
class DRAGONEncoder:
    """DRAGON's own parameters.

    Attributes:
      preferences: P^m, (|U|, d) each, in the data's order.
      weights: (|U|, M) w.
    """

    preferences: Modal
    weights: jax.Array


@flax.struct.dataclass
class Layers:
    """The projectors: {modality: layer} of the hidden ones and of those to z."""

    hidden: dict[str, Affine]
    output: dict[str, Affine]


class Trace(NamedTuple):
    """What the clean pass gave.

    Attributes:
      nodes: (|U|+|I|, M d) embeddings, users first.
      z: modal, (|I|, d).
    """

    nodes: jax.Array
    z: Modal


class Reached(NamedTuple):
    """What of it an edit of one item reaches, by shell.

    Attributes:
      nodes: by shell (n_k, M d).
      columns: by shell (n_k, M), how much of z_t^m the node's m-th part has.
      z: modal, (1, d) the target's.
    """

    nodes: tuple[jax.Array, ...]
    columns: tuple[jax.Array, ...]
    z: Modal


@dataclasses.dataclass(frozen=True)
class DRAGONSettings(ModelSettings):
    """DRAGON's settings; it reads no `hidden` widths, nor tau.

    Attributes:
      n_layers: L of the user-item graph.
      n_neighbours: k of the items' lists, an item itself included.
      n_cobuyers: length of the users' lists.
      shares: {modality: weight of its lists}; of no account with one modality, whose is 1.
      mlp_width: of the projectors' hidden layer.
      pad: "resample", shorter lists of co-buyers are filled up anew each epoch, or "none"; the
        model serves without.
    """

    name: str = "dragon"
    n_layers: int = 2
    n_neighbours: int = 10
    n_cobuyers: int = 40
    shares: Mapping[str, float] = dataclasses.field(
        default_factory=lambda: {"visual": 0.1, "textual": 0.9}
    )
    mlp_width: int = 256
    pad: str = "resample"

    def __post_init__(self):
        super().__post_init__()
        one_of("model.name", self.name, ("dragon",))
        one_of("model.pad", self.pad, PADS)
        for field in ("n_layers", "n_neighbours", "n_cobuyers", "mlp_width"):
            at_least(f"model.{field}", getattr(self, field), 1)
        for name, share in self.shares.items():
            at_least(f"model.shares.{name}", share, 0)

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of the layers."""
        return self.dim, self.mlp_width

    @property
    def depth(self) -> int:
        """Propagation layers."""
        return self.n_layers


def dragon(sizes: Sizes, **fields: Any) -> Model:
    """DRAGON for a catalogue of this size.

    >>> dragon(Sizes(60, 50, {"visual": 64}), dim=8).reads
    ('z', 'raw')

    Args:
      sizes: |U|, |I| and the widths of the raw features, as `Dataset.sizes`.
      **fields: of `DRAGONSettings`: dim, n_layers, n_neighbours, n_cobuyers, shares, mlp_width,
        pad.

    Raises:
      InputError: a value that cannot be used.
    """
    return make(DRAGONSettings(**fields), sizes)


@made_once
def make(settings: DRAGONSettings, sizes: Sizes) -> Model:
    """What `dragon` gives for these settings."""
    n_users, _, raw_dims = sizes
    dim, n_layers, k = settings.dim, settings.n_layers, settings.n_neighbours
    names, shares = tuple(raw_dims), shares_of(settings.shares, tuple(raw_dims))
    parts = tuple((m * dim, (m + 1) * dim) for m in range(len(names)))
    made = made_lists(unweighted, k)

    def init(key: jax.Array) -> Params:
        k_hidden, k_output, k_prefer, k_weights = jax.random.split(key, 4)
        normal = jax.nn.initializers.xavier_normal()
        hidden = init_affine(k_hidden, raw_dims, settings.mlp_width)
        output = init_affine(k_output, {name: settings.mlp_width for name in names}, dim)
        preferences = tuple(
            normal(jax.random.fold_in(k_prefer, m), (n_users, dim)) for m in range(len(names))
        )
        drawn = jax.random.normal(k_weights, (n_users, len(names)))
        weights = jax.nn.softmax(drawn * math.sqrt(2 / (len(names) + n_users)), axis=1)
        temperature = jnp.asarray(settings.temperature, jnp.float32)
        return Params(Layers(hidden, output), DRAGONEncoder(preferences, weights), temperature)

    def project(layers: Layers, features: Modal) -> Modal:
        hidden = project_affine(layers.hidden, features, names)
        rows = tuple(jax.nn.leaky_relu(x, 0.01) for x in hidden)
        return tuple(map(normalize_rows, project_affine(layers.output, rows, names)))

    def relate_users(train: Interactions) -> UserLists:
        return user_lists(train, n_users, sizes.n_items, settings.n_cobuyers)

    def walked(encoder: DRAGONEncoder, z: Modal, graph: Graph) -> Embeddings:
        """r and I."""
        users, items = [], []
        for m, (preference, x) in enumerate(zip(encoder.preferences, z, strict=True)):
            user, item = smooth(graph, normalize_rows(preference), x, n_layers)
            users.append((n_layers + 1) * encoder.weights[:, m, None] * user)
            items.append((n_layers + 1) * item)
        return Embeddings(jnp.concatenate(users, axis=1), jnp.concatenate(items, axis=1))

    def listed(lists: tuple[Neighbours, ...], item: jax.Array) -> jax.Array:
        parts = [share * s(item) for share, s in zip(shares, lists, strict=True)]
        return sum(parts[1:], parts[0])

    def encode(encoder: DRAGONEncoder, z: Modal, graph: Graph) -> Embeddings:
        user, item = walked(encoder, z, graph)
        return Embeddings(user + graph.user_relations(user), item + listed(graph.relations, item))

    def own_row(encoder: DRAGONEncoder, clean: Served, edited: Served, item: jax.Array):
        """I_t + z_t' - z_t, and its new lists; its walks through its buyers are stored."""
        moved = [new[item] - old[item] for old, new in zip(clean.z, edited.z, strict=True)]
        table = walked(encoder, clean.z, clean.graph).item.at[item].add(jnp.concatenate(moved))
        both = zip(edited.graph.relations, clean.graph.relations, strict=True)
        lists = tuple(new.row_beside(stored, item) for new, stored in both)
        return table[item] + listed(lists, table)[0]

    def trace(encoder: DRAGONEncoder, z: Modal, graph: Graph) -> Trace:
        return Trace(jnp.concatenate(encode(encoder, z, graph)), z)

    def columns(encoder: DRAGONEncoder, graph: Graph, item: jax.Array) -> Embeddings:
        one = jnp.zeros((sizes.n_items, 1)).at[item].set(1.0)
        user, one = smooth(graph, jnp.zeros((n_users, 1)), one, n_layers)
        user, one = (n_layers + 1) * user * encoder.weights, (n_layers + 1) * one
        one = jnp.tile(one + listed(graph.relations, one), len(names))
        return Embeddings(user + graph.user_relations(user), one)

    def gather(encoder: DRAGONEncoder, trace: Trace, graph: Graph, field: Field) -> Reached:
        by_node = jnp.concatenate(columns(encoder, graph, field.shells[0][0] - n_users))
        return Reached(
            nodes=tuple(take(trace.nodes, shell) for shell in field.shells),
            columns=tuple(take(by_node, shell) for shell in field.shells),
            z=tuple(take(x, field.shells[0] - n_users) for x in trace.z),
        )

    def encode_field(
        encoder: DRAGONEncoder, clean: Reached, field: Field, z: Modal
    ) -> tuple[jax.Array, ...]:
        del encoder, field
        moved = [new - old for new, old in zip(z, clean.z, strict=True)]
        return tuple(
            x + jnp.concatenate([c[:, m, None] * d for m, d in enumerate(moved)], axis=1)
            for x, c in zip(clean.nodes, clean.columns, strict=True)
        )

    def reach(graph: Graph, adjacency: Adjacency, item: int, limit: int) -> list[np.ndarray] | None:
        """Within L hops, whoever has one of these users among her co-buyers, items that list one
        of these items."""
        everyone = np.ones(len(adjacency.indptr) - 1, bool)
        shells = shells_of(adjacency, item, n_layers, everyone, limit)
        if shells is None:
            return None
        near, users = shells[1], np.concatenate(shells[1::2])
        lists = graph.user_relations
        hears = listing(np.where(np.asarray(lists.counts) > 0, lists.ids, -1), users)
        far = np.setdiff1d(np.union1d(users, hears), near)
        ids = np.concatenate([np.asarray(s.ids) for s in graph.relations], axis=1)
        items = listing(ids, np.concatenate(shells[0::2]) - n_users)
        found = [shells[0], near, items[items != item] + n_users, far]
        return found if sum(map(len, found)) <= limit else None

    def epoch_graph(key: jax.Array, params: Params, data: DeviceData) -> Graph:
        del params  # of the purchases alone
        return data.graph.replace(user_relations=padded(key, data.graph.user_relations))

    def objective(
        params: Params, data: DeviceData, mu: jax.Array, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """L_BPR / ln 2 + mu L_reg; its terms are L_BPR and L_reg."""
        del key  # nothing is drawn
        user, item = encode(params.encoder, project(params.projectors, data.features), data.graph)
        rows = (take(x, batch.users) for x in params.encoder.preferences)
        squares = (weighted_mean(jnp.mean(x * x, axis=1), batch.weights) for x in rows)
        terms = {
            "bpr": bpr_loss(
                take(user, batch.users),
                take(item, batch.positives),
                take(item, batch.negatives),
                batch.weights,
            ),
            "reg": sum(squares, jnp.mean(params.encoder.weights**2)),
        }
        return terms["bpr"] / math.log(2) + mu * terms["reg"], terms

    return Model(
        name="dragon",
        init=init,
        project=project,
        encode=encode,
        field=FieldPass(3, trace, gather, encode_field, reach),
        width=dim,
        relate=made.relate,
        relate_users=relate_users,
        epoch_graph=epoch_graph if settings.pad == "resample" else None,
        objective=objective,
        reads=("z", "raw"),
        own_row=own_row,
        linear=LinearPass(columns, parts, len(names) == 1, 1 + sum(shares) / k),
        relate_rows=made.relate_rows,
    )
