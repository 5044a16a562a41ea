"""BM3 (Zhou et al., WWW 2023): trained without negatives, on views with dropout.

    h_u = LG_L(e)_u,    h_i = LG_L(e)_i + e_i,    y_ui = <f(h_u), f(h_i)>,    f(a) = Q a + q

With C(a, b) = 1 - mean cos(a, b) over the batch's pairs, and for targets, through which no
gradient goes, u* = drop(h_u), i* = drop(h_i), z* = drop(z), z_i^m = W_m x_i^m + b_m,

    L = C(f(h_u), i*) + C(f(h_i), u*) + 2 sum_m [C(f(z^m), i*) + C(f(z^m), z^m*)]
        + mu (||h_U||_F + ||h_I||_F) / |I|

the last over all users and items. When the model serves it reads no content at all: no edit
reaches any score. (The published code; the paper has no factor 2 and squares the norms.)
"""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from uatmc_jax.checks import at_least, one_of, require
from uatmc_jax.data.dataset import DeviceData, Sizes
from uatmc_jax.data.graph import Graph
from uatmc_jax.models.affine_content import init_affine, make_affine, project_affine
from uatmc_jax.models.lightgcn import IdTables, init_tables, smooth
from uatmc_jax.models.mmgcn_records import Affine
from uatmc_jax.models.protocol import Batch, Embeddings, Modal, Model, Params
from uatmc_jax.models.settings import ModelSettings, made_once
from uatmc_jax.numerics import safe_norm, take, weighted_mean

_COSINE_FLOOR = 1e-8  # of a norm, as PyTorch's


@flax.struct.dataclass
class BM3Encoder:
    """BM3's own parameters.

    Attributes:
      tables: e_u and e_i.
      predictor: Q and q.
    """

    tables: IdTables
    predictor: Affine


@dataclasses.dataclass(frozen=True)
class BM3Settings(ModelSettings):
    """BM3's settings; it has no projectors with hidden layers, nor tau.

    Attributes:
      n_layers: L.
      dropout: share of the coordinates that a target loses.
    """

    name: str = "bm3"
    n_layers: int = 1
    dropout: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        one_of("model.name", self.name, ("bm3",))
        at_least("model.n_layers", self.n_layers, 1)
        require(0 <= self.dropout < 1, "model.dropout", self.dropout, "a share in [0, 1)")

    @property
    def depth(self) -> int:
        """Propagation layers."""
        return self.n_layers


def bm3(sizes: Sizes, **fields: Any) -> Model:
    """BM3 for a catalogue of this size.

    >>> bm3(Sizes(60, 50, {"visual": 64}), dim=8).reads
    ()

    Args:
      sizes: |U|, |I| and the widths of the raw features, as `Dataset.sizes`.
      **fields: of `BM3Settings`: dim, n_layers, dropout.

    Raises:
      InputError: a value that cannot be used.
    """
    return make(BM3Settings(**fields), sizes)


@made_once
def make(settings: BM3Settings, sizes: Sizes) -> Model:
    """What `bm3` gives for these settings."""
    n_users, n_items, raw_dims = sizes
    dim, n_layers, rate = settings.dim, settings.n_layers, settings.dropout
    names = tuple(raw_dims)
    normal = jax.nn.initializers.xavier_normal()

    def init(key: jax.Array) -> Params:
        k_project, k_tables, k_predictor = jax.random.split(key, 3)
        encoder = BM3Encoder(
            tables=init_tables(k_tables, n_users, n_items, dim),
            predictor=make_affine(k_predictor, dim, dim, normal),
        )
        temperature = jnp.asarray(settings.temperature, jnp.float32)
        return Params(init_affine(k_project, raw_dims, dim, normal), encoder, temperature)

    def nodes(tables: IdTables, graph: Graph) -> Embeddings:
        user, item = smooth(graph, tables.user, tables.item, n_layers)
        return Embeddings(user, item + tables.item)

    def encode(encoder: BM3Encoder, z: Modal, graph: Graph) -> Embeddings:
        del z  # of no account when it serves
        return Embeddings(*map(encoder.predictor, nodes(encoder.tables, graph)))

    def objective(
        params: Params, data: DeviceData, mu: jax.Array, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """L, its terms "user_item", "content" (with its factor 2) and "reg"."""
        f = params.encoder.predictor
        user, item = nodes(params.encoder.tables, data.graph)
        z = project_affine(params.projectors, data.features, names)
        keys = jax.random.split(key, 2 + len(z))
        # Of whole tables: a row that is twice in the batch has one mask.
        target_user, target_item, *target_z = (
            take(_dropped(k, x, rate), batch.users if n == 0 else batch.positives)
            for n, (k, x) in enumerate(zip(keys, (user, item, *z), strict=True))
        )

        def apart(a: jax.Array, b: jax.Array) -> jax.Array:
            return 1.0 - weighted_mean(_cosine(a, b), batch.weights)

        online = tuple(f(take(x, batch.positives)) for x in z)
        content = [
            apart(a, target_item) + apart(a, own) for a, own in zip(online, target_z, strict=True)
        ]
        terms = {
            "user_item": apart(f(take(user, batch.users)), target_item)
            + apart(f(take(item, batch.positives)), target_user),
            "content": 2 * sum(content, jnp.zeros(())),
            "reg": (safe_norm(user.reshape(-1)) + safe_norm(item.reshape(-1))) / n_items,
        }
        return terms["user_item"] + terms["content"] + mu * terms["reg"], terms

    return Model(
        name="bm3",
        init=init,
        project=lambda params, features: project_affine(params, features, names),
        encode=encode,
        width=dim,
        objective=objective,
        reads=(),
    )


def _dropped(key: jax.Array, table: jax.Array, rate: float) -> jax.Array:
    """A target: inverted dropout, and no gradient."""
    table = jax.lax.stop_gradient(table)
    if not rate:
        return table
    return jnp.where(jax.random.bernoulli(key, 1 - rate, table.shape), table / (1 - rate), 0.0)


def _cosine(a: jax.Array, b: jax.Array) -> jax.Array:
    """(B,) of (B, d); of rows shorter than the floor as if they had its length."""
    lengths = (jnp.maximum(safe_norm(x), _COSINE_FLOOR) for x in (a, b))
    return jnp.sum(a * b, axis=1) / jnp.prod(jnp.stack([*lengths]), axis=0)
