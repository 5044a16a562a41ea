"""VBPR (He and McAuley, AAAI 2016) on projected features.

h_u in R^{2d} free,   h_i = [e_i ; W [z_i^1 ; ... ; z_i^M] + b],   y_ui = <h_u, h_i>
"""

import dataclasses
from typing import Any, ClassVar

import flax.struct
import jax
import jax.numpy as jnp

from uatmc_jax.checks import one_of
from uatmc_jax.data.dataset import Sizes
from uatmc_jax.data.graph import Graph
from uatmc_jax.models.projectors import init_projectors, make_projector_head, project
from uatmc_jax.models.protocol import Batch, Embeddings, Modal, Model, Params
from uatmc_jax.models.settings import ModelSettings, hidden_widths, made_once
from uatmc_jax.numerics import safe_norm, take


@flax.struct.dataclass
class VBPREncoder:
    """VBPR's own parameters, M the number of modalities.

    Attributes:
      user: (|U|, 2d) h_u.
      item: (|I|, d) e_i.
      kernel: (M d, d), W transposed; in linear VBPR (sum of the raw widths, d).
      bias: (d,) b.
    """

    user: jax.Array
    item: jax.Array
    kernel: jax.Array
    bias: jax.Array


@dataclasses.dataclass(frozen=True)
class VBPRSettings(ModelSettings):
    """VBPR's settings: those that every model has."""

    reg_by_batch: ClassVar[bool] = True

    name: str = "vbpr"

    def __post_init__(self):
        super().__post_init__()
        one_of("model.name", self.name, ("vbpr",))


def vbpr(sizes: Sizes, **fields: Any) -> Model:
    """VBPR for a catalogue of this size.

    >>> vbpr(Sizes(60, 50, {"visual": 64}), dim=8).affine_in_content
    True

    Args:
      sizes: |U|, |I| and the widths of the raw features, as `Dataset.sizes`.
      **fields: of `VBPRSettings`, in place of the published values: dim, hidden,
        default_hidden, temperature.

    Raises:
      InputError: a value that cannot be used.
    """
    return make(VBPRSettings(**fields), sizes)


@made_once
def make(settings: VBPRSettings, sizes: Sizes) -> Model:
    """What `vbpr` gives for these settings."""
    n_users, n_items, raw_dims = sizes
    dim, hidden = settings.dim, hidden_widths(settings, sizes)

    def init(key: jax.Array) -> Params:
        k_project, k_user, k_item, k_fuse = jax.random.split(key, 4)
        uniform = jax.nn.initializers.xavier_uniform()
        normal = jax.nn.initializers.xavier_normal()
        encoder = VBPREncoder(
            user=uniform(k_user, (n_users, 2 * dim)),
            item=uniform(k_item, (n_items, dim)),
            kernel=normal(k_fuse, (len(raw_dims) * dim, dim)),
            bias=jnp.zeros(dim),
        )
        projectors = init_projectors(k_project, raw_dims, hidden, dim)
        return Params(projectors, encoder, jnp.asarray(settings.temperature, jnp.float32))

    return Model(
        name="vbpr",
        init=init,
        project=lambda params, features: project(params, features, hidden, dim),
        encode=_encode,
        select=_select,
        encode_rows=_encode,
        affine_in_content=True,
        regularize=_regularize,
        content_kernels=lambda encoder: (encoder.kernel,),
        head=make_projector_head(hidden, dim),
        width=dim,
    )


def _encode(encoder: VBPREncoder, z: Modal, graph: Graph | None = None) -> Embeddings:
    del graph  # VBPR reads no neighbours
    fused = jnp.concatenate(z, axis=1) @ encoder.kernel + encoder.bias
    return Embeddings(encoder.user, jnp.concatenate([encoder.item, fused], axis=1))


def _select(encoder: VBPREncoder, users: jax.Array, items: jax.Array) -> VBPREncoder:
    return encoder.replace(user=take(encoder.user, users), item=take(encoder.item, items))


def _regularize(
    encoder: VBPREncoder, batch: Batch, user: jax.Array, positive: jax.Array, negative: jax.Array
) -> jax.Array:
    """L_reg = (||h_u|| + ||h_p|| + ||h_n||) / B, Frobenius norms of the batch's stacked rows."""
    del encoder
    w = batch.weights[:, None]
    norms = [safe_norm((w * h).reshape(-1)) for h in (user, positive, negative)]
    return sum(norms) / jnp.sum(batch.weights)
