"""MMGCN (Wei et al., ACM MM 2019): one graph network per modality, means over neighbours.

For modality m, with P^m the users' preference table and E the id table shared
by the modalities,

    x^0   = normalize([P^m ; M^m z^m])
    h     = leaky_relu(mean_{j in N(i)} x_j W_l)
    x_hat = leaky_relu(A_l x) + E
    x     = leaky_relu(B_l [h ; x_hat])        fuse = "concat"
    x     = leaky_relu(B_l h + x_hat)          fuse = "add"

and the embeddings are the mean over modalities of the last layer's x.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from uatmc_jax.checks import at_least, is_count, one_of, require
from uatmc_jax.data.dataset import Sizes
from uatmc_jax.data.graph import Graph, mean_neighbours
from uatmc_jax.models.field import Field, FieldPass, moved_sums
from uatmc_jax.models.projectors import init_projectors, make_projector_head, project
from uatmc_jax.models.protocol import Batch, Embeddings, Modal, Model, Params
from uatmc_jax.models.settings import ModelSettings, hidden_widths, made_once
from uatmc_jax.numerics import normalize_rows, take

LEAKY_SLOPE = 0.01


@flax.struct.dataclass
class Affine:
    """x -> x kernel + bias; kernel (in, out), bias (out,)."""

    kernel: jax.Array
    bias: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        """(n, in) to (n, out)."""
        return x @ self.kernel + self.bias


@flax.struct.dataclass
class Layer:
    """One propagation layer, from width w to d.

    Attributes:
      neighbour: (w, w) W_l.
      own: A_l, w to d.
      fuse: B_l, w + d (concat) or w (add) to d.
    """

    neighbour: jax.Array
    own: Affine
    fuse: Affine


@flax.struct.dataclass
class Tower:
    """One modality's network.

    Attributes:
      preference: (|U|, w) P^m.
      widen: M^m, d to w; None where w = d and M^m is the identity.
      layers: the propagation layers.
    """

    preference: jax.Array
    widen: Affine | None
    layers: tuple[Layer, ...]


@flax.struct.dataclass
class MMGCNEncoder:
    """MMGCN's own parameters.

    Attributes:
      identity: (|U|+|I|, d) E.
      towers: one per modality, in order.
    """

    identity: jax.Array
    towers: tuple[Tower, ...]


@flax.struct.dataclass
class FieldRows:
    """What a receptive field reads of the clean pass, by shell.

    Attributes:
      towers: by tower and layer (x, mean), each by shell (n_k, width).
      identity: by shell (n_k, d) rows of E.
      degrees: by shell (n_k, 1) number of neighbours, at least 1.
    """

    towers: tuple
    identity: tuple[jax.Array, ...]
    degrees: tuple[jax.Array, ...]


@dataclasses.dataclass(frozen=True)
class MMGCNSettings(ModelSettings):
    """MMGCN's settings: those that every model has, and its own.

    Attributes:
      latent_dims: {modality: w}; d where not named.
      n_layers: propagation layers (the published code: 3 whatever its setting).
      fuse: "concat" (what the published code runs) or "add".
      train_preference: False keeps P^m at its initial values, as the published code does.
    """

    name: str = "mmgcn"
    latent_dims: Mapping[str, int] = dataclasses.field(default_factory=lambda: {"visual": 256})
    n_layers: int = 3
    fuse: str = "concat"
    train_preference: bool = True

    def __post_init__(self):
        super().__post_init__()
        one_of("model.name", self.name, ("mmgcn",))
        one_of("model.fuse", self.fuse, ("concat", "add"))
        at_least("model.n_layers", self.n_layers, 1)
        for name, width in self.latent_dims.items():
            require(is_count(width), f"model.latent_dims.{name}", width, "a positive integer")

    @property
    def widths(self) -> tuple[int, ...]:
        """Those of every model, and of the towers."""
        return (*super().widths, *self.latent_dims.values())

    @property
    def depth(self) -> int:
        """Propagation layers."""
        return self.n_layers


def mmgcn(sizes: Sizes, **fields: Any) -> Model:
    """MMGCN for a catalogue of this size.

    >>> mmgcn(Sizes(60, 50, {"visual": 64}), dim=8, n_layers=2).field.depth
    2

    Args:
      sizes: |U|, |I| and the widths of the raw features, as `Dataset.sizes`.
      **fields: of `MMGCNSettings`, in place of the published values: dim, hidden,
        default_hidden, temperature, latent_dims, n_layers, fuse, train_preference.

    Raises:
      InputError: a value that cannot be used.
    """
    return make(MMGCNSettings(**fields), sizes)


@made_once
def make(settings: MMGCNSettings, sizes: Sizes) -> Model:
    """What `mmgcn` gives for these settings."""
    n_users, n_items, raw_dims = sizes
    dim, fuse, hidden = settings.dim, settings.fuse, hidden_widths(settings, sizes)
    normal = jax.nn.initializers.xavier_normal()

    def affine(key: jax.Array, n_in: int, n_out: int) -> Affine:
        return Affine(normal(key, (n_in, n_out)), jnp.zeros(n_out))

    def layer(key: jax.Array, width: int) -> Layer:
        k_neighbour, k_own, k_fuse = jax.random.split(key, 3)
        return Layer(
            neighbour=normal(k_neighbour, (width, width)),
            own=affine(k_own, width, dim),
            fuse=affine(k_fuse, width + (dim if fuse == "concat" else 0), dim),
        )

    def tower(key: jax.Array, width: int) -> Tower:
        k_preference, k_widen, *k_layers = jax.random.split(key, 2 + settings.n_layers)
        return Tower(
            preference=normal(k_preference, (n_users, width)),
            widen=None if width == dim else affine(k_widen, dim, width),
            layers=tuple(layer(k, width if n == 0 else dim) for n, k in enumerate(k_layers)),
        )

    def init(key: jax.Array) -> Params:
        k_project, k_identity, *k_towers = jax.random.split(key, 2 + len(raw_dims))
        encoder = MMGCNEncoder(
            identity=normal(k_identity, (n_users + n_items, dim)),
            towers=tuple(
                tower(k, settings.latent_dims.get(name, dim))
                for k, name in zip(k_towers, raw_dims, strict=True)
            ),
        )
        projectors = init_projectors(k_project, raw_dims, hidden, dim)
        return Params(projectors, encoder, jnp.asarray(settings.temperature, jnp.float32))

    def preference(tower: Tower) -> jax.Array:
        trained = settings.train_preference
        return tower.preference if trained else jax.lax.stop_gradient(tower.preference)

    def inputs(tower: Tower, z: jax.Array) -> jax.Array:
        return normalize_rows(z if tower.widen is None else tower.widen(z))

    def update(layer: Layer, x: jax.Array, mean: jax.Array, identity: jax.Array) -> jax.Array:
        """A layer on some rows, `mean` being mean_j (x_j W_l) over their neighbours."""
        h = jax.nn.leaky_relu(mean, LEAKY_SLOPE)
        x_hat = jax.nn.leaky_relu(layer.own(x), LEAKY_SLOPE) + identity
        if fuse == "concat":
            fused = layer.fuse(jnp.concatenate([h, x_hat], axis=1))
        else:
            fused = layer.fuse(h) + x_hat
        return jax.nn.leaky_relu(fused, LEAKY_SLOPE)

    def run_tower(
        tower: Tower, z: jax.Array, identity: jax.Array, graph: Graph
    ) -> list[tuple[jax.Array, jax.Array]]:
        """(x, the mean it is updated with) before each layer, and (the last x, None)."""
        x = jnp.concatenate([normalize_rows(preference(tower)), inputs(tower, z)])
        states = []
        for layer in tower.layers:
            mean = mean_neighbours(graph, x @ layer.neighbour)
            states.append((x, mean))
            x = update(layer, x, mean, identity)
        return [*states, (x, None)]

    def encode(encoder: MMGCNEncoder, z: Modal, graph: Graph) -> Embeddings:
        nodes = sum(
            run_tower(tower, z_m, encoder.identity, graph)[-1][0]
            for tower, z_m in zip(encoder.towers, z, strict=True)
        ) / len(encoder.towers)
        return Embeddings(nodes[:n_users], nodes[n_users:])

    def trace(encoder: MMGCNEncoder, z: Modal, graph: Graph) -> list:
        return [
            run_tower(tower, z_m, encoder.identity, graph)[:-1]
            for tower, z_m in zip(encoder.towers, z, strict=True)
        ]

    def gather(encoder: MMGCNEncoder, trace: list, graph: Graph, field: Field) -> FieldRows:
        def rows(table: jax.Array) -> tuple[jax.Array, ...]:
            return tuple(take(table, shell) for shell in field.shells)

        return FieldRows(
            towers=tuple(tuple((rows(x), rows(mean)) for x, mean in tower) for tower in trace),
            identity=rows(encoder.identity),
            degrees=rows(jnp.maximum(graph.degrees, 1.0)[:, None]),
        )

    def encode_field(
        encoder: MMGCNEncoder, clean: FieldRows, field: Field, z: Modal
    ) -> tuple[jax.Array, ...]:
        shells = [
            propagate(tower, rows, clean, field, z_m)
            for tower, rows, z_m in zip(encoder.towers, clean.towers, z, strict=True)
        ]
        return tuple(sum(x) / len(encoder.towers) for x in zip(*shells, strict=True))

    def propagate(
        tower: Tower, rows: tuple, clean: FieldRows, field: Field, z: jax.Array
    ) -> list[jax.Array]:
        """One tower's last x by shell: each layer's change reaches one shell further."""
        changed = [inputs(tower, z)]
        for layer, (x, mean) in zip(tower.layers, rows, strict=True):
            moved = [new - old for new, old in zip(changed, x, strict=False)]
            sums = moved_sums(field, moved)
            before = [*changed, *x[len(changed) :]]
            changed = [
                update(
                    layer,
                    before[k],
                    mean[k] + (total / clean.degrees[k]) @ layer.neighbour,
                    clean.identity[k],
                )
                for k, total in enumerate(sums)
            ]
        return changed

    def regularize(encoder: MMGCNEncoder, batch: Batch, *_: jax.Array) -> jax.Array:
        """L_reg: mean square of the batch's rows of E, plus that of the first modality's P."""
        rows = jnp.stack([batch.users, batch.positives + n_users, batch.negatives + n_users])
        squares = jnp.mean(encoder.identity[rows] ** 2, axis=(0, 2))
        batch_mean = jnp.sum(batch.weights * squares) / jnp.sum(batch.weights)
        return batch_mean + jnp.mean(preference(encoder.towers[0]) ** 2)

    def content_kernels(encoder: MMGCNEncoder) -> tuple[jax.Array, ...]:
        kernels = []
        for tower in encoder.towers:
            kernels += [] if tower.widen is None else [tower.widen.kernel]
            for layer in tower.layers:
                kernels += [layer.neighbour, layer.own.kernel, layer.fuse.kernel]
        return tuple(kernels)

    return Model(
        name="mmgcn",
        init=init,
        project=lambda params, features: project(params, features, hidden, dim),
        encode=encode,
        field=FieldPass(settings.n_layers, trace, gather, encode_field),
        regularize=regularize,
        content_kernels=content_kernels,
        head=make_projector_head(hidden, dim),
        width=dim,
    )
