"""FREEDOM (Zhou and Shen, ACM MM 2023): a frozen item-item graph, a pruned user-item graph.

With LG_2 of LightGCN on the id tables e and S_m of modality m's lists (models/neighbours.py),

    h_u = LG_2(e)_u,    h_i = LG_2(e)_i + sum_m share_m (S_m e_I)_i,    y_ui = <h_u, h_i>

trained by L_BPR(h) + lambda sum_m L_BPR(h_u, z^m) on a graph that keeps, anew each epoch, a
share 1 - p of the edges, drawn without replacement with probability proportional to
1/sqrt(d_u d_i). z_i^m = W_m x_i^m + b_m occurs in the second term alone: when the model
serves, content acts through the lists, which are made of raw features once.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from uatmc_jax.checks import at_least, one_of, require
from uatmc_jax.data.dataset import DeviceData, Sizes
from uatmc_jax.data.graph import Graph, edge_graph
from uatmc_jax.losses import bpr_loss
from uatmc_jax.models.affine_content import init_affine, project_affine
from uatmc_jax.models.lightgcn import IdTables, init_tables, smooth
from uatmc_jax.models.neighbours import made_lists, unweighted
from uatmc_jax.models.protocol import Batch, Embeddings, ItemLists, Modal, Model, Params, Served
from uatmc_jax.models.settings import ModelSettings, made_once
from uatmc_jax.numerics import take


@dataclasses.dataclass(frozen=True)
class FREEDOMSettings(ModelSettings):
    """FREEDOM's settings; it has no projectors with hidden layers, nor tau.

    Attributes:
      n_layers: L of the user-item graph.
      n_neighbours: k, an item itself included.
      shares: {modality: weight of its lists}; of no account with one modality, whose is 1.
      drop: p, the share of edges that an epoch leaves out.
      content_weight: lambda.
    """

    name: str = "freedom"
    n_layers: int = 2
    n_neighbours: int = 10
    shares: Mapping[str, float] = dataclasses.field(
        default_factory=lambda: {"visual": 0.1, "textual": 0.9}
    )
    drop: float = 0.8
    content_weight: float = 1e-3

    def __post_init__(self):
        super().__post_init__()
        one_of("model.name", self.name, ("freedom",))
        at_least("model.n_layers", self.n_layers, 1)
        at_least("model.n_neighbours", self.n_neighbours, 1)
        at_least("model.content_weight", self.content_weight, 0)
        require(0 <= self.drop < 1, "model.drop", self.drop, "a share in [0, 1)")
        for name, share in self.shares.items():
            at_least(f"model.shares.{name}", share, 0)

    @property
    def depth(self) -> int:
        """Propagation layers."""
        return self.n_layers


def freedom(sizes: Sizes, **fields: Any) -> Model:
    """FREEDOM for a catalogue of this size.

    >>> freedom(Sizes(60, 50, {"visual": 64}), dim=8).lists.shares
    (1.0,)

    Args:
      sizes: |U|, |I| and the widths of the raw features, as `Dataset.sizes`.
      **fields: of `FREEDOMSettings`: dim, n_layers, n_neighbours, shares, drop,
        content_weight.

    Raises:
      InputError: a value that cannot be used.
    """
    return make(FREEDOMSettings(**fields), sizes)


def keep_edges(key: jax.Array, data: DeviceData, n: int) -> tuple[jax.Array, jax.Array]:
    """n training pairs, drawn one after another in proportion to 1/sqrt(d_u d_i).

    The n largest of log w_e plus Gumbel noise have that law.

    Args:
      key: of the draw.
      data: its pairs, and its graph's degrees.
      n: at most their number.

    Returns:
      users and items, (n,) int32 each.
    """
    users, items = data.pairs
    degrees = data.graph.users.degrees[users] * data.graph.items.degrees[items]
    noise = jax.random.gumbel(key, users.shape)
    _, kept = jax.lax.top_k(noise - jnp.log(degrees) / 2, n)
    return users[kept], items[kept]


@made_once
def make(settings: FREEDOMSettings, sizes: Sizes) -> Model:
    """What `freedom` gives for these settings."""
    n_users, n_items, raw_dims = sizes
    dim, n_layers, k = settings.dim, settings.n_layers, settings.n_neighbours
    names = tuple(raw_dims)
    shares, lists = shares_of(settings.shares, names), made_lists(unweighted, k)

    def init(key: jax.Array) -> Params:
        k_project, k_tables = jax.random.split(key)
        tables = init_tables(k_tables, n_users, n_items, dim)
        temperature = jnp.asarray(settings.temperature, jnp.float32)
        return Params(init_affine(k_project, raw_dims, dim), tables, temperature)

    def parts(encoder: IdTables, graph: Graph) -> tuple[jax.Array, jax.Array]:
        return smooth(graph, encoder.user, encoder.item, n_layers).item, encoder.item

    def encode(encoder: IdTables, z: Modal, graph: Graph) -> Embeddings:
        del z  # of no account when it serves
        user, item = smooth(graph, encoder.user, encoder.item, n_layers)
        listed = [w * s(encoder.item) for w, s in zip(shares, graph.relations, strict=True)]
        return Embeddings(user, sum(listed, item))

    def own_row(encoder: IdTables, clean: Served, edited: Served, item: jax.Array) -> jax.Array:
        """That of the whole: the rows it adds up are free, and no user moves."""
        del clean
        return encode(encoder, edited.z, edited.graph).item[item]

    def epoch_graph(key: jax.Array, params: Params, data: DeviceData) -> Graph:
        del params  # of degrees alone
        n = math.floor(data.pairs[0].size * (1 - settings.drop))
        return edge_graph(*keep_edges(key, data, n), data.graph)

    def objective(
        params: Params, data: DeviceData, mu: jax.Array, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """L_BPR(h) + lambda sum_m L_BPR(h_u, z^m); positives are all edges, pruned ones too."""
        del mu, key  # there is no L_reg, and nothing is drawn
        user, item = encode(params.encoder, (), data.graph)
        user = take(user, batch.users)
        rows = jnp.concatenate([batch.positives, batch.negatives])
        z = project_affine(params.projectors, tuple(take(x, rows) for x in data.features), names)

        def bpr(table: jax.Array) -> jax.Array:
            positive, negative = jnp.split(table, 2)
            return bpr_loss(user, positive, negative, batch.weights)

        terms = {
            "bpr": bpr(take(item, rows)),
            "content": sum((bpr(x) for x in z), jnp.zeros(())),
        }
        return terms["bpr"] + settings.content_weight * terms["content"], terms

    return Model(
        name="freedom",
        init=init,
        project=lambda params, features: project_affine(params, features, names),
        encode=encode,
        width=dim,
        relate=lists.relate,
        epoch_graph=epoch_graph,
        objective=objective,
        reads=("raw",),
        own_row=own_row,
        lists=ItemLists(k, shares, parts),
        relate_rows=lists.relate_rows,
    )


def shares_of(shares: Mapping[str, float], names: tuple[str, ...]) -> tuple[float, ...]:
    """The weights of the modalities' lists, in the data's order; 1 of a single modality.

    Raises:
      InputError: a modality without a weight.
    """
    if len(names) == 1:
        return (1.0,)
    for name in names:
        wanted = f"a weight for each of the data's modalities, {name!r} among them"
        require(name in shares, "model.shares", dict(shares), wanted)
    return tuple(float(shares[name]) for name in names)
