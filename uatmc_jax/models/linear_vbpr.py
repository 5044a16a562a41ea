"""VBPR on the raw features, without projectors, as MMRec has it.

h_u in R^{2d} free,   h_i = [e_i ; W [x_i^1 ; ... ; x_i^M] + b],   y_ui = <h_u, h_i>

x^m are the raw features: z = x, of a width of its own per modality. The scores are affine
in z, but z may be of any length, so the model does not claim `affine_in_content`, and what rests on
unit rows (certificates, the exact defence) is not to be had.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from uatmc_jax.checks import one_of
from uatmc_jax.data.dataset import Sizes
from uatmc_jax.models.protocol import Model, Params
from uatmc_jax.models.settings import ModelSettings, made_once
from uatmc_jax.models.vbpr import VBPREncoder, vbpr


@dataclasses.dataclass(frozen=True)
class LinearVBPRSettings(ModelSettings):
    """Linear VBPR's settings; it has no projectors, and so reads no hidden widths, nor tau."""

    reg_by_batch: ClassVar[bool] = True

    name: str = "linear_vbpr"

    def __post_init__(self):
        super().__post_init__()
        one_of("model.name", self.name, ("linear_vbpr",))


def linear_vbpr(sizes: Sizes, **fields: Any) -> Model:
    """Linear VBPR for a catalogue of this size.

    Its encoder is VBPR's, the kernel being (sum of the raw widths, d); it has no projectors.

    Args:
      sizes: |U|, |I| and the widths of the raw features, as `Dataset.sizes`.
      **fields: of `LinearVBPRSettings`, in place of the published values: dim.

    Raises:
      InputError: a value that cannot be used.
    """
    return make(LinearVBPRSettings(**fields), sizes)


@made_once
def make(settings: LinearVBPRSettings, sizes: Sizes) -> Model:
    """What `linear_vbpr` gives for these settings."""
    n_users, n_items, raw_dims = sizes
    dim = settings.dim

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
        return Params({}, encoder, jnp.asarray(settings.temperature, jnp.float32))

    return vbpr(sizes, dim=dim)._replace(
        name="linear_vbpr",
        init=init,
        project=lambda _, features: tuple(features),
        affine_in_content=False,
        head=None,
        width=None,
    )
