"""MMGCF: LightGCN whose items take their content in at the end.

With LG_L of LightGCN on the id tables e, q_i = LG_L(e)_i, z_i^m = W_m x_i^m + b_m, M modalities,

    h_u = LG_L(e)_u,    h_i = fuse(q_i, z_i^1 .. z_i^M),    y_ui = <h_u, h_i>

  weighting     mean                                sum             concat
  "equal"       (q + mean_m z^m) / 2                q + sum_m z^m   C_2 [q ; C_1 [z^1 ; .. ; z^M]]
  "alpha"       (a q + (1-a) sum_m z^m) / (M+1)     without / M+1   C [a q ; (1-a) z^1 ; ..]
  "normalized"  as alpha, with M norm(q) and norm(z^m) in place of a q and (1-a) z^m

a is the logistic of a trained number, the C affine layers. Trained by L_BPR + mu L_reg on a graph
that keeps, anew each epoch, a share 1 - p of the edges, as FREEDOM's does. No item's content
reaches another item or a user, and but for "normalized" scores are affine in it: the certificate
of each user follows, and is attained.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from uatmc_jax.checks import at_least, one_of, require
from uatmc_jax.data.dataset import DeviceData, Sizes
from uatmc_jax.data.graph import Graph, edge_graph
from uatmc_jax.models.affine_content import init_affine, make_affine, project_affine
from uatmc_jax.models.freedom import keep_edges
from uatmc_jax.models.lightgcn import IdTables, init_tables, smooth
from uatmc_jax.models.mmgcn_records import Affine
from uatmc_jax.models.protocol import Batch, Embeddings, Modal, Model, Params
from uatmc_jax.models.settings import ModelSettings, made_once
from uatmc_jax.numerics import normalize_rows, take

WEIGHTINGS, FUSIONS = ("equal", "alpha", "normalized"), ("mean", "sum", "concat")


@flax.struct.dataclass
class MMGCFEncoder:
    """MMGCF's own parameters.

    Attributes:
      tables: e_u and e_i.
      alpha: () a before its logistic; of weighting "alpha" alone.
      layers: C, or C_1 and C_2; none without "concat".
    """

    tables: IdTables
    alpha: jax.Array
    layers: tuple[Affine, ...]


class Rows(NamedTuple):
    """What some rows' embeddings read: propagated ids, and how items are fused."""

    user: jax.Array
    item: jax.Array
    encoder: MMGCFEncoder


@dataclasses.dataclass(frozen=True)
class MMGCFSettings(ModelSettings):
    """MMGCF's settings; it has no projectors with hidden layers, nor tau.

    Attributes:
      n_layers: L of the user-item graph.
      weighting: one of `WEIGHTINGS`.
      fusion: one of `FUSIONS`.
      drop: p, the share of edges that an epoch leaves out.
    """

    name: str = "mmgcf"
    n_layers: int = 2
    weighting: str = "equal"
    fusion: str = "mean"
    drop: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        one_of("model.name", self.name, ("mmgcf",))
        one_of("model.weighting", self.weighting, WEIGHTINGS)
        one_of("model.fusion", self.fusion, FUSIONS)
        at_least("model.n_layers", self.n_layers, 1)
        require(0 <= self.drop < 1, "model.drop", self.drop, "a share in [0, 1)")

    @property
    def depth(self) -> int:
        """Propagation layers."""
        return self.n_layers


def mmgcf(sizes: Sizes, **fields: Any) -> Model:
    """MMGCF for a catalogue of this size.

    >>> mmgcf(Sizes(60, 50, {"visual": 64}), dim=8).affine_in_content
    True

    Args:
      sizes: |U|, |I| and the widths of the raw features, as `Dataset.sizes`.
      **fields: of `MMGCFSettings`: dim, n_layers, weighting, fusion, drop.

    Raises:
      InputError: a value that cannot be used.
    """
    return make(MMGCFSettings(**fields), sizes)


@made_once
def make(settings: MMGCFSettings, sizes: Sizes) -> Model:
    """What `mmgcf` gives for these settings."""
    n_users, n_items, raw_dims = sizes
    dim, n_layers, names = settings.dim, settings.n_layers, tuple(raw_dims)
    n = len(names)

    def init(key: jax.Array) -> Params:
        k_project, k_tables, k_first, k_last = jax.random.split(key, 4)
        layers: tuple[Affine, ...] = ()
        if settings.fusion == "concat":
            layers = (make_affine(k_first, (n + 1) * dim, dim),)
            if settings.weighting == "equal":
                layers = make_affine(k_first, n * dim, dim), make_affine(k_last, 2 * dim, dim)
        tables = init_tables(k_tables, n_users, n_items, dim)
        temperature = jnp.asarray(settings.temperature, jnp.float32)
        encoder = MMGCFEncoder(tables, jnp.zeros(()), layers)
        return Params(init_affine(k_project, raw_dims, dim), encoder, temperature)

    def weighted(encoder: MMGCFEncoder, q: jax.Array, z: Modal) -> tuple[jax.Array, Modal]:
        if settings.weighting == "normalized":
            return n * normalize_rows(q), tuple(map(normalize_rows, z))
        share = jax.nn.sigmoid(encoder.alpha)
        return share * q, tuple((1 - share) * x for x in z)

    def fuse(encoder: MMGCFEncoder, q: jax.Array, z: Modal) -> jax.Array:
        """(b, d) propagated ids and modal (b, d) content to (b, d) items."""
        if settings.weighting == "equal":
            if settings.fusion == "concat":
                content, both = encoder.layers
                return both(jnp.concatenate([q, content(jnp.concatenate(z, axis=1))], axis=1))
            added = sum(z[1:], z[0])
            return q + added if settings.fusion == "sum" else (q + added / n) / 2
        q, z = weighted(encoder, q, z)
        if settings.fusion == "concat":
            return encoder.layers[0](jnp.concatenate([q, *z], axis=1))
        total = sum(z, q)
        return total if settings.fusion == "sum" else total / (n + 1)

    def encode(encoder: MMGCFEncoder, z: Modal, graph: Graph) -> Embeddings:
        user, item = smooth(graph, encoder.tables.user, encoder.tables.item, n_layers)
        return Embeddings(user, fuse(encoder, item, z))

    def gather(encoder: MMGCFEncoder, graph: Graph, users: jax.Array, items: jax.Array) -> Rows:
        user, item = smooth(graph, encoder.tables.user, encoder.tables.item, n_layers)
        return Rows(take(user, users), take(item, items), encoder)

    def encode_rows(rows: Rows, z: Modal) -> Embeddings:
        return Embeddings(rows.user, fuse(rows.encoder, rows.item, z))

    def epoch_graph(key: jax.Array, params: Params, data: DeviceData) -> Graph:
        del params  # of degrees alone
        kept = math.floor(data.pairs[0].size * (1 - settings.drop))
        return edge_graph(*keep_edges(key, data, kept), data.graph)

    def regularize(encoder: MMGCFEncoder, batch: Batch, *_: jax.Array) -> jax.Array:
        """L_reg = sum over the batch of ||e_u||^2 + ||e_p||^2 + ||e_n||^2, over 2 B."""
        user, item = encoder.tables.user, encoder.tables.item
        rows = take(user, batch.users), take(item, batch.positives), take(item, batch.negatives)
        squares = sum(jnp.sum(x * x, axis=1) for x in rows)
        return jnp.sum(batch.weights * squares) / 2 / jnp.maximum(jnp.sum(batch.weights), 1.0)

    return Model(
        name="mmgcf",
        init=init,
        project=lambda params, features: project_affine(params, features, names),
        encode=encode,
        gather=gather,
        encode_rows=encode_rows,
        affine_in_content=settings.weighting != "normalized",
        unit_rows=False,
        regularize=regularize,
        width=dim,
        epoch_graph=epoch_graph,
    )
