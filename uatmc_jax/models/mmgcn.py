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
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from uatmc_jax.checks import at_least, is_count, one_of, require
from uatmc_jax.data.dataset import Sizes
from uatmc_jax.data.graph import Graph, mean_items, mean_users
from uatmc_jax.models.field import Field, FieldPass, moved_sums
from uatmc_jax.models.mmgcn_records import (
    Affine,
    FieldRows,
    Layer,
    MMGCNEncoder,
    Prepared,
    Tower,
)
from uatmc_jax.models.projectors import init_projectors, make_projector_head, project
from uatmc_jax.models.protocol import Batch, Embeddings, Modal, Model, Params
from uatmc_jax.models.settings import ModelSettings, hidden_widths, made_once
from uatmc_jax.numerics import normalize_rows, take, weighted_mean

LEAKY_SLOPE = 0.01


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

    def user_input(tower: Tower) -> jax.Array:
        return normalize_rows(preference(tower))

    def item_input(tower: Tower, z: jax.Array) -> jax.Array:
        return normalize_rows(z if tower.widen is None else tower.widen(z))

    # mean_j (x_j W_l), with W_l on the items' side of the mean, as a rule the smaller one.
    def heard_by_users(layer: Layer, item: jax.Array, graph: Graph) -> jax.Array:
        return mean_items(graph, item @ layer.neighbour)

    def heard_by_items(layer: Layer, user: jax.Array, graph: Graph) -> jax.Array:
        return mean_users(graph, user) @ layer.neighbour

    def heard_part(layer: Layer, mean: jax.Array) -> jax.Array:
        """What B_l makes of h, its bias included."""
        kernel = layer.fuse.kernel[: layer.neighbour.shape[1]]
        return jax.nn.leaky_relu(mean, LEAKY_SLOPE) @ kernel + layer.fuse.bias

    def own_part(layer: Layer, x: jax.Array, identity: jax.Array) -> jax.Array:
        """What B_l makes of x_hat."""
        x_hat = jax.nn.leaky_relu(layer.own(x), LEAKY_SLOPE) + identity
        return x_hat @ layer.fuse.kernel[layer.neighbour.shape[1] :] if fuse == "concat" else x_hat

    def fused(heard: jax.Array, own: jax.Array) -> jax.Array:
        return jax.nn.leaky_relu(heard + own, LEAKY_SLOPE)

    def update(layer: Layer, x: jax.Array, mean: jax.Array, identity: jax.Array) -> jax.Array:
        """A layer on some rows."""
        return fused(heard_part(layer, mean), own_part(layer, x, identity))

    def states(
        tower: Tower, z: jax.Array, identity: Embeddings, graph: Graph
    ) -> tuple[list[tuple[Embeddings, Embeddings]], Embeddings]:
        """(x, the mean it is updated with) before each layer; and the last x."""
        x, found = Embeddings(user_input(tower), item_input(tower, z)), []
        for layer in tower.layers:
            mean = Embeddings(
                heard_by_users(layer, x.item, graph), heard_by_items(layer, x.user, graph)
            )
            found.append((x, mean))
            x = Embeddings(*(update(layer, *rows) for rows in zip(x, mean, identity, strict=True)))
        return found, x

    def sides(table: jax.Array) -> Embeddings:
        return Embeddings(table[:n_users], table[n_users:])

    def average(towers: list[Embeddings]) -> Embeddings:
        return Embeddings(*(sum(x) / len(towers) for x in zip(*towers, strict=True)))

    def encode(encoder: MMGCNEncoder, z: Modal, graph: Graph) -> Embeddings:
        identity = sides(encoder.identity)
        towers = zip(encoder.towers, z, strict=True)
        return average([states(tower, z_m, identity, graph)[1] for tower, z_m in towers])

    def prepare(encoder: MMGCNEncoder, graph: Graph) -> Prepared:
        identity, first = sides(encoder.identity), []
        for tower in encoder.towers:
            layer, user = tower.layers[0], user_input(tower)
            heard = heard_part(layer, heard_by_items(layer, user, graph))
            first.append(Embeddings(own_part(layer, user, identity.user), heard))
        return Prepared(encoder, tuple(first))

    def propagate(
        prepared: Prepared, z: Modal, graph: Graph, users: jax.Array, items: jax.Array
    ) -> Embeddings:
        encoder, identity = prepared.encoder, sides(prepared.encoder.identity)
        towers = zip(encoder.towers, prepared.first, z, strict=True)
        return average([rows_of_tower(*tower, identity, graph, (users, items)) for tower in towers])

    def rows_of_tower(
        tower: Tower,
        first: Embeddings,
        z: jax.Array,
        identity: Embeddings,
        graph: Graph,
        rows: tuple[jax.Array, jax.Array],
    ) -> Embeddings:
        """One tower's last x, of some rows; the last layer is computed for these alone."""

        def pick(tables: Iterable[jax.Array]) -> Embeddings:
            return Embeddings(*(take(x, some) for x, some in zip(tables, rows, strict=True)))

        layer, *others = tower.layers
        item = item_input(tower, z)
        x = Embeddings(
            fused(heard_part(layer, heard_by_users(layer, item, graph)), first.user),
            fused(first.item, own_part(layer, item, identity.item)),
        )
        if not others:
            return pick(x)
        for layer in others[:-1]:
            mean = heard_by_users(layer, x.item, graph), heard_by_items(layer, x.user, graph)
            x = Embeddings(*(update(layer, *one) for one in zip(x, mean, identity, strict=True)))
        layer = others[-1]
        mean = pick((heard_by_users(layer, x.item, graph), mean_users(graph, x.user)))
        mean = mean._replace(item=mean.item @ layer.neighbour)
        tables = zip(pick(x), mean, pick(identity), strict=True)
        return Embeddings(*(update(layer, *one) for one in tables))

    def trace(encoder: MMGCNEncoder, z: Modal, graph: Graph) -> list:
        identity = sides(encoder.identity)
        return [
            [tuple(map(jnp.concatenate, state)) for state in states(tower, z_m, identity, graph)[0]]
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
            tower_field(tower, rows, clean, field, z_m)
            for tower, rows, z_m in zip(encoder.towers, clean.towers, z, strict=True)
        ]
        return tuple(sum(x) / len(encoder.towers) for x in zip(*shells, strict=True))

    def tower_field(
        tower: Tower, rows: tuple, clean: FieldRows, field: Field, z: jax.Array
    ) -> list[jax.Array]:
        """One tower's last x by shell: each layer's change reaches one shell further."""
        changed = [item_input(tower, z)]
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
        """L_reg = mean(E_u^2) + mean(E_p^2) / 2 + mean(E_n^2) / 2 + mean((P^v)^2).

        The first three over the batch's users, positives and negatives; P^v is the first
        modality's table.
        """

        def mean_square(rows: jax.Array) -> jax.Array:
            return weighted_mean(jnp.mean(take(encoder.identity, rows) ** 2, axis=1), batch.weights)

        item = mean_square(batch.positives + n_users) + mean_square(batch.negatives + n_users)
        first = jnp.mean(preference(encoder.towers[0]) ** 2)
        return mean_square(batch.users) + item / 2 + first

    def content_kernels(encoder: MMGCNEncoder) -> tuple[jax.Array, ...]:
        kernels = []
        for tower in encoder.towers:
            kernels += [] if tower.widen is None else [tower.widen.kernel]
            for layer in tower.layers:
                kernels += [layer.neighbour, layer.own.kernel, layer.fuse.kernel]
        return tuple(kernels)

    def redraw(encoder: MMGCNEncoder, key: jax.Array) -> MMGCNEncoder:
        """P^m, which the published code keeps out of its module and so out of its checkpoints."""
        keys = jax.random.split(key, len(encoder.towers))
        towers = [
            tower.replace(preference=normal(k, tower.preference.shape))
            for k, tower in zip(keys, encoder.towers, strict=True)
        ]
        return encoder.replace(towers=tuple(towers))

    return Model(
        name="mmgcn",
        init=init,
        project=lambda params, features: project(params, features, hidden, dim),
        encode=encode,
        prepare=prepare,
        propagate=propagate,
        field=FieldPass(settings.n_layers, trace, gather, encode_field),
        regularize=regularize,
        content_kernels=content_kernels,
        redraw=redraw,
        head=make_projector_head(hidden, dim),
        width=dim,
    )
