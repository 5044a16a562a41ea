"""VBPR on the raw features, without projectors, as MMRec has it.

h_u in R^{2d} free,   h_i = [e_i ; W [x_i^1 ; ... ; x_i^M] + b],   y_ui = <h_u, h_i>

x^m are the raw features: z = x, of a width of its own per modality. The scores are affine
in z, but z may be of any length, so the model does not claim `affine_in_content`, and what rests on
unit rows (certificates, the exact defence) is not to be had.
"""

import jax
import jax.numpy as jnp

from uatmc_jax.models.protocol import Model, Params
from uatmc_jax.models.vbpr import VBPREncoder, make_vbpr


def make_linear_vbpr(
    n_users: int, n_items: int, raw_dims: dict[str, int], dim: int, temperature: float
) -> Model:
    """Linear VBPR for a catalogue of this size.

    Its encoder is VBPR's, the kernel being (sum of the raw widths, d); it has no projectors.

    Args:
      n_users: |U|.
      n_items: |I|.
      raw_dims: ordered {modality: width of its raw features}.
      dim: d.
      temperature: tau, which nothing here reads.
    """

    def init(key: jax.Array) -> Params:
        k_user, k_item, k_fuse = jax.random.split(key, 3)
        uniform = jax.nn.initializers.xavier_uniform()
        normal = jax.nn.initializers.xavier_normal()
        encoder = VBPREncoder(
            user=uniform(k_user, (n_users, 2 * dim)),
            item=uniform(k_item, (n_items, dim)),
            kernel=normal(k_fuse, (sum(raw_dims.values()), dim)),
            bias=jnp.zeros(dim),
        )
        return Params({}, encoder, jnp.asarray(temperature, jnp.float32))

    projected = make_vbpr(n_users, n_items, raw_dims, dict.fromkeys(raw_dims, ()), dim, temperature)
    return projected._replace(
        name="linear_vbpr",
        init=init,
        project=lambda _, features: tuple(features),
        affine_in_content=False,
        head=None,
    )
