"""LightGCN (He et al., SIGIR 2020), without content and with it.

With A^ the normalised adjacency matrix (entry 1/sqrt(d_u d_i), rows of isolated nodes 0),

    LG_L(X) = mean_{l = 0..L} A^^l X,    h = LG_L([e_u; e_i]),    y_ui = <h_u, h_i>

and with content e_i + sum_m z_i^m in place of e_i, z_i^m = W_m x_i^m + b_m. Without, no edit
reaches any score: it is the control that content is measured against. With it propagation is
linear: an edit of item t moves the nodes within L hops by its column of LG_L,

    h_n' = h_n + (LG_L)_nt sum_m (z_t'^m - z_t^m)
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from uatmc_jax.checks import at_least, one_of
from uatmc_jax.data.dataset import Sizes
from uatmc_jax.data.graph import Graph, sum_items, sum_users
from uatmc_jax.models.affine_content import init_affine, project_affine
from uatmc_jax.models.field import Field, FieldPass, moved_sums
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
from uatmc_jax.numerics import safe_norm, take


@flax.struct.dataclass
class IdTables:
    """Free embeddings.

    Attributes:
      user: (|U|, d) e_u.
      item: (|I|, d) e_i.
    """

    user: jax.Array
    item: jax.Array


@dataclasses.dataclass(frozen=True)
class LightGCNSettings(ModelSettings):
    """LightGCN's settings; it has no projectors with hidden layers, nor tau.

    Attributes:
      n_layers: L.
      content: add the projected features to the items' embeddings before propagation.
    """

    reg_by_batch: ClassVar[bool] = True

    name: str = "lightgcn"
    n_layers: int = 2
    content: bool = False

    def __post_init__(self):
        super().__post_init__()
        one_of("model.name", self.name, ("lightgcn",))
        at_least("model.n_layers", self.n_layers, 1)

    @property
    def depth(self) -> int:
        """Propagation layers."""
        return self.n_layers


def lightgcn(sizes: Sizes, **fields: Any) -> Model:
    """LightGCN for a catalogue of this size.

    >>> lightgcn(Sizes(60, 50, {"visual": 64}), dim=8).reads
    ()

    Args:
      sizes: |U|, |I| and the widths of the raw features, as `Dataset.sizes`.
      **fields: of `LightGCNSettings`: dim, n_layers, content.

    Raises:
      InputError: a value that cannot be used.
    """
    return make(LightGCNSettings(**fields), sizes)


def init_tables(key: jax.Array, n_users: int, n_items: int, dim: int) -> IdTables:
    """Xavier uniform, each table by its own bound sqrt(6 / (rows + d))."""
    k_user, k_item = jax.random.split(key)
    uniform = jax.nn.initializers.xavier_uniform()
    return IdTables(uniform(k_user, (n_users, dim)), uniform(k_item, (n_items, dim)))


def smooth(graph: Graph, user: jax.Array, item: jax.Array, n_layers: int) -> Embeddings:
    """LG_L.

    Args:
      graph: whose degrees normalise it.
      user: (|U|, d).
      item: (|I|, d).
      n_layers: L.
    """
    by_user, by_item = (
        jax.lax.rsqrt(jnp.maximum(side.degrees, 1.0))[:, None]
        for side in (graph.users, graph.items)
    )
    users, items = user, item
    for _ in range(n_layers):
        user, item = (
            by_user * sum_items(graph, by_item * item),
            by_item * sum_users(graph, by_user * user),
        )
        users, items = users + user, items + item
    return Embeddings(users / (n_layers + 1), items / (n_layers + 1))


def row_norms(rows: tuple[jax.Array, ...], weights: jax.Array) -> jax.Array:
    """(||a||_F + ||b||_F + ...) / B of the batch's stacked rows, norms not squared.

    Args:
      rows: (B, d) each.
      weights: (B,) 1, or 0 for padding.
    """
    norms = (safe_norm((weights[:, None] * x).reshape(-1)) for x in rows)
    return sum(norms, jnp.zeros(())) / jnp.sum(weights)


class Trace(NamedTuple):
    """What the clean pass gave.

    Attributes:
      nodes: (|U|+|I|, d) embeddings, users first.
      content: (|I|, d) sum_m z_i^m.
    """

    nodes: jax.Array
    content: jax.Array


class FieldRows(NamedTuple):
    """What a receptive field reads of it.

    Attributes:
      nodes: by shell (n_k, d).
      column: by shell (n_k, 1), (LG_L)_nt.
      content: (1, d) the target's.
    """

    nodes: tuple[jax.Array, ...]
    column: tuple[jax.Array, ...]
    content: jax.Array


def column_of(graph: Graph, field: Field, n_layers: int) -> tuple[jax.Array, ...]:
    """By shell (n_k, 1), the target's column of LG_L; of padding finite and meaningless.

    Args:
      graph: whose degrees normalise it.
      field: of the target, of depth L.
      n_layers: L.
    """
    scale = [
        jax.lax.rsqrt(jnp.maximum(take(graph.degrees, shell), 1.0))[:, None]
        for shell in field.shells
    ]
    step = [jnp.ones((1, 1))]
    total = [jnp.zeros_like(x) for x in scale]
    total[0] = step[0]
    for _ in range(n_layers):
        sums = moved_sums(field, [s * x for s, x in zip(scale, step, strict=False)])
        step = [s * x for s, x in zip(scale, sums, strict=False)]
        total = [x + step[k] if k < len(step) else x for k, x in enumerate(total)]
    return tuple(x / (n_layers + 1) for x in total)


@made_once
def make(settings: LightGCNSettings, sizes: Sizes) -> Model:
    """What `lightgcn` gives for these settings."""
    n_users, n_items, raw_dims = sizes
    dim, n_layers, content = settings.dim, settings.n_layers, settings.content
    names = tuple(raw_dims)

    def init(key: jax.Array) -> Params:
        k_project, k_tables = jax.random.split(key)
        projectors = init_affine(k_project, raw_dims, dim) if content else {}
        tables = init_tables(k_tables, n_users, n_items, dim)
        return Params(projectors, tables, jnp.asarray(settings.temperature, jnp.float32))

    def encode(encoder: IdTables, z: Modal, graph: Graph) -> Embeddings:
        item = sum(z, encoder.item) if content else encoder.item
        return smooth(graph, encoder.user, item, n_layers)

    def own_row(encoder: IdTables, clean: Served, edited: Served, item: jax.Array) -> jax.Array:
        """h_t + sum_m (z_t'^m - z_t^m) / (L + 1): the other layers' rows are stored."""
        stored = encode(encoder, clean.z, clean.graph).item[item]
        moved = [new[item] - old[item] for old, new in zip(clean.z, edited.z, strict=True)]
        return stored + sum(moved, jnp.zeros(dim)) / (n_layers + 1)

    def trace(encoder: IdTables, z: Modal, graph: Graph) -> Trace:
        return Trace(jnp.concatenate(encode(encoder, z, graph)), sum(z[1:], z[0]))

    def gather(encoder: IdTables, trace: Trace, graph: Graph, field: Field) -> FieldRows:
        del encoder  # all of it is in the trace
        return FieldRows(
            nodes=tuple(take(trace.nodes, shell) for shell in field.shells),
            column=column_of(graph, field, n_layers),
            content=take(trace.content, field.shells[0] - n_users),
        )

    def encode_field(
        encoder: IdTables, clean: FieldRows, field: Field, z: Modal
    ) -> tuple[jax.Array, ...]:
        del encoder, field
        moved = sum(z, -clean.content)
        return tuple(x + c * moved for x, c in zip(clean.nodes, clean.column, strict=True))

    def columns(encoder: IdTables, graph: Graph, item: jax.Array) -> Embeddings:
        del encoder  # of the graph alone
        one = jnp.zeros((n_items, 1)).at[item].set(1.0)
        user, item = smooth(graph, jnp.zeros((n_users, 1)), one, n_layers)
        return Embeddings(*(jnp.tile(x, len(names)) for x in (user, item)))

    def regularize(encoder: IdTables, batch: Batch, *_: jax.Array) -> jax.Array:
        """L_reg = (||e_u||_F + ||e_p||_F + ||e_n||_F) / B, of the id rows before propagation."""
        items = (take(encoder.item, rows) for rows in (batch.positives, batch.negatives))
        return row_norms((take(encoder.user, batch.users), *items), batch.weights)

    if not content:
        return Model(
            name="lightgcn",
            init=init,
            project=lambda _, features: tuple(features),
            encode=encode,
            regularize=regularize,
            reads=(),
        )
    return Model(
        name="lightgcn",
        init=init,
        project=lambda params, features: project_affine(params, features, names),
        encode=encode,
        field=FieldPass(n_layers, trace, gather, encode_field),
        regularize=regularize,
        width=dim,
        own_row=own_row,
        linear=LinearPass(columns, ((0, dim),) * len(names), True, 1 / (n_layers + 1)),
    )
