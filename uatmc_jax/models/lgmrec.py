"""LGMRec (Guo et al., AAAI 2024): content walks the purchases, and joins all through hyperedges.

With LG_L of LightGCN on the id tables e, X = LG_L(e), by modality m and without biases,

    f_i = x_i W_m,    f_u = mean of her items' f,    F^m = A^^N [f_U ; f_I]
    logits l_i = x_i V_m,    l_u = sum of her items' l,    p = softmax((l + Gumbel noise) / 0.2)
    i_0 = X_I,    Lambda_n = p_I^T i_{n-1},    i_n = p_I Lambda_n,    u_n = p_U Lambda_n
    h = X + sum_m norm(F^m) + alpha norm(sum_m G^m),    G^m = [u_n ; i_n] of the last n

and y_ui = <h_u, h_i>. In training memberships p have inverted dropout, one mask for all n. The
loss is

    L_BPR + mu (||h_u||_F + ||h_p||_F + ||h_n||_F) / B + c_l [T(users) + T(positives)]

T sums over the batch logsumexp_j cos(G^v_i, G^t_j) / t - cos(G^v_i, G^t_i) / t, t = 0.2, j over all
users or items; of more modalities than two over all their pairs. When it serves there is neither
noise nor dropout (the published ranking has the noise, drawn anew for every block of users).

z = [x W ; x V]: content enters twice, so an edit of z in one ball would mix the two; edits are of
raw features.
"""

import dataclasses
import itertools
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from uatmc_jax.checks import at_least, one_of, require
from uatmc_jax.data.dataset import DeviceData, Sizes
from uatmc_jax.data.graph import Graph, mean_items, sum_items, sum_users
from uatmc_jax.losses import bpr_loss
from uatmc_jax.models.lightgcn import IdTables, init_tables, row_norms, smooth
from uatmc_jax.models.protocol import Batch, Embeddings, Modal, Model, Params, Served
from uatmc_jax.models.settings import ModelSettings, made_once
from uatmc_jax.numerics import normalize_rows, take

_TEMPERATURE = 0.2


@flax.struct.dataclass
class Kernels:
    """One modality's projectors.

    Attributes:
      content: (D_m, d) W_m.
      edges: (D_m, H) V_m.
    """

    content: jax.Array
    edges: jax.Array


class Hyper(NamedTuple):
    """One modality's pass through the hyperedges.

    Attributes:
      user: (|U|, d) u_n of the last n.
      item: (|I|, d) i_n.
      edges: (H, d) Lambda_n.
    """

    user: jax.Array
    item: jax.Array
    edges: jax.Array


@dataclasses.dataclass(frozen=True)
class LGMRecSettings(ModelSettings):
    """LGMRec's settings; it has no projectors with hidden layers, nor a trained tau.

    Attributes:
      n_layers: L of the ids' propagation.
      n_content_layers: N of the content's.
      n_hyper_layers: passes through the hyperedges.
      n_edges: H, hyperedges a modality.
      keep: share of the memberships that training keeps.
      hyper_weight: alpha.
      contrast: c_l.
      noise: memberships have Gumbel noise in training.
    """

    name: str = "lgmrec"
    n_layers: int = 2
    n_content_layers: int = 2
    n_hyper_layers: int = 1
    n_edges: int = 4
    keep: float = 0.5
    hyper_weight: float = 0.3
    contrast: float = 1e-4
    noise: bool = True

    def __post_init__(self):
        super().__post_init__()
        one_of("model.name", self.name, ("lgmrec",))
        for field in ("n_layers", "n_content_layers", "n_hyper_layers", "n_edges"):
            at_least(f"model.{field}", getattr(self, field), 1)
        at_least("model.hyper_weight", self.hyper_weight, 0)
        at_least("model.contrast", self.contrast, 0)
        require(0 < self.keep <= 1, "model.keep", self.keep, "a share in (0, 1]")

    @property
    def depth(self) -> int:
        """Propagation layers."""
        return self.n_layers + self.n_content_layers


def lgmrec(sizes: Sizes, **fields: Any) -> Model:
    """LGMRec for a catalogue of this size.

    >>> lgmrec(Sizes(60, 50, {"visual": 64}), dim=8).levels
    ('feature',)

    Args:
      sizes: |U|, |I| and the widths of the raw features, as `Dataset.sizes`.
      **fields: of `LGMRecSettings`: dim, n_layers, n_content_layers, n_hyper_layers, n_edges,
        keep, hyper_weight, contrast, noise.

    Raises:
      InputError: a value that cannot be used.
    """
    return make(LGMRecSettings(**fields), sizes)


def walked(graph: Graph, user: jax.Array, item: jax.Array, n_layers: int) -> Embeddings:
    """A^^N X, the last layer alone; arguments as of `lightgcn.smooth`."""
    by_user, by_item = (
        jax.lax.rsqrt(jnp.maximum(side.degrees, 1.0))[:, None]
        for side in (graph.users, graph.items)
    )
    for _ in range(n_layers):
        user, item = (
            by_user * sum_items(graph, by_item * item),
            by_item * sum_users(graph, by_user * user),
        )
    return Embeddings(user, item)


@made_once
def make(settings: LGMRecSettings, sizes: Sizes) -> Model:
    """What `lgmrec` gives for these settings."""
    n_users, n_items, raw_dims = sizes
    dim, n_edges, names = settings.dim, settings.n_edges, tuple(raw_dims)

    def init(key: jax.Array) -> Params:
        k_tables, *keys = jax.random.split(key, 1 + 2 * len(names))
        uniform = jax.nn.initializers.xavier_uniform()
        projectors = {
            name: Kernels(
                uniform(keys[2 * m], (raw_dims[name], dim)),
                uniform(keys[2 * m + 1], (raw_dims[name], n_edges)),
            )
            for m, name in enumerate(names)
        }
        tables = init_tables(k_tables, n_users, n_items, dim)
        return Params(projectors, tables, jnp.asarray(settings.temperature, jnp.float32))

    def project(projectors: dict[str, Kernels], features: Modal) -> Modal:
        both = ((x, projectors[name]) for name, x in zip(names, features, strict=True))
        return tuple(jnp.concatenate([x @ of.content, x @ of.edges], axis=1) for x, of in both)

    def local(z: Modal, graph: Graph) -> Embeddings:
        """sum_m norm(F^m)."""
        parts = []
        for x in z:
            content = x[:, :dim]
            user = mean_items(graph, content)
            parts.append(walked(graph, user, content, settings.n_content_layers))
        return Embeddings(*(sum(map(normalize_rows, x)) for x in zip(*parts, strict=True)))

    def members(logits: jax.Array, key: jax.Array | None) -> jax.Array:
        """(n, H) p; with noise and dropout if there is a key."""
        if key is None:
            return jax.nn.softmax(logits / _TEMPERATURE, axis=1)
        k_noise, k_drop = jax.random.split(key)
        if settings.noise:
            logits = logits + jax.random.gumbel(k_noise, logits.shape)
        p = jax.nn.softmax(logits / _TEMPERATURE, axis=1)
        if settings.keep == 1:
            return p
        kept = jax.random.bernoulli(k_drop, settings.keep, p.shape)
        return jnp.where(kept, p / settings.keep, 0.0)

    def hyper(z: Modal, item: jax.Array, graph: Graph, key: jax.Array | None) -> list[Hyper]:
        found = []
        for m, x in enumerate(z):
            logits, keys = x[:, dim:], (None, None)
            if key is not None:
                keys = tuple(jax.random.split(jax.random.fold_in(key, m)))
            p_user, p_item = members(sum_items(graph, logits), keys[0]), members(logits, keys[1])
            own = item
            for _ in range(settings.n_hyper_layers):
                edges = p_item.T @ own
                own = p_item @ edges
            found.append(Hyper(p_user @ edges, own, edges))
        return found

    def joined(z: Modal, encoder: IdTables, graph: Graph, key: jax.Array | None):
        """h of all nodes, and the passes through the hyperedges."""
        ids = smooth(graph, encoder.user, encoder.item, settings.n_layers)
        near, passes = local(z, graph), hyper(z, ids.item, graph, key)
        far = (
            normalize_rows(sum(x)) for x in zip(*((h.user, h.item) for h in passes), strict=True)
        )
        parts = zip(ids, near, far, strict=True)
        return Embeddings(*(x + f + settings.hyper_weight * g for x, f, g in parts)), passes

    def encode(encoder: IdTables, z: Modal, graph: Graph) -> Embeddings:
        return joined(z, encoder, graph, None)[0]

    def own_row(encoder: IdTables, clean: Served, edited: Served, item: jax.Array) -> jax.Array:
        """p_t alone is new: F_t is its buyers' stored rows, the hyperedges are stored."""
        ids = smooth(clean.graph, encoder.user, encoder.item, settings.n_layers).item
        passes = hyper(clean.z, ids, clean.graph, None)
        own = sum(
            members(x[item, dim:][None], None) @ h.edges
            for x, h in zip(edited.z, passes, strict=True)
        )
        near = local(clean.z, clean.graph).item[item]
        return ids[item] + near + settings.hyper_weight * normalize_rows(own)[0]

    def objective(
        params: Params, data: DeviceData, mu: jax.Array, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """L, its terms "bpr", "reg" and "contrast"."""
        z = project(params.projectors, data.features)
        h, passes = joined(z, params.encoder, data.graph, key)
        rows = (
            take(h.user, batch.users),
            take(h.item, batch.positives),
            take(h.item, batch.negatives),
        )
        pairs = list(itertools.combinations(passes, 2))
        contrast = [
            _contrast(a.user, b.user, batch.users, batch.weights)
            + _contrast(a.item, b.item, batch.positives, batch.weights)
            for a, b in pairs
        ]
        terms = {
            "bpr": bpr_loss(*rows, batch.weights),
            "reg": row_norms(rows, batch.weights),
            "contrast": sum(contrast, jnp.zeros(())),
        }
        loss = terms["bpr"] + mu * terms["reg"] + settings.contrast * terms["contrast"]
        return loss, terms

    return Model(
        name="lgmrec",
        init=init,
        project=project,
        encode=encode,
        width=dim + n_edges,
        objective=objective,
        levels=("feature",),
        own_row=own_row,
    )


def _contrast(a: jax.Array, b: jax.Array, rows: jax.Array, weights: jax.Array) -> jax.Array:
    """T, one-sided: a's rows of the batch against all of b.

    Args:
      a, b: (n, d) tables.
      rows: (B,) int32.
      weights: (B,) 1, or 0 for padding.
    """
    a, b = normalize_rows(take(a, rows)), normalize_rows(b)
    own = jnp.sum(a * take(b, rows), axis=1)
    return jnp.sum(
        weights * (jax.nn.logsumexp(a @ b.T / _TEMPERATURE, axis=1) - own / _TEMPERATURE)
    )
