"""Content as the later victims read it: z_i^m = W_m x_i^m + b_m, not normalised."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.models.mmgcn_records import Affine
from uatmc_jax.models.protocol import Modal

# (key, (in, out)) -> kernel
Draw = Callable[[jax.Array, tuple[int, int]], jax.Array]


def uniform_kernel(key: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """U(-1/sqrt(in), 1/sqrt(in)), PyTorch's default."""
    bound = 1.0 / np.sqrt(shape[0])
    return jax.random.uniform(key, shape, jnp.float32, -bound, bound)


def make_affine(key: jax.Array, n_in: int, n_out: int, draw: Draw = uniform_kernel) -> Affine:
    """A layer with PyTorch's default bias, U(-1/sqrt(in), 1/sqrt(in)).

    Args:
      key: of both draws.
      n_in, n_out: widths.
      draw: makes the kernel.
    """
    k_kernel, k_bias = jax.random.split(key)
    bound = 1.0 / np.sqrt(n_in)
    bias = jax.random.uniform(k_bias, (n_out,), jnp.float32, -bound, bound)
    return Affine(draw(k_kernel, (n_in, n_out)), bias)


def init_affine(
    key: jax.Array, raw_dims: Mapping[str, int], dim: int, draw: Draw = uniform_kernel
) -> dict[str, Affine]:
    """One layer a modality, by its name.

    Args:
      key: of all of them.
      raw_dims: ordered {modality: width of its raw features}.
      dim: d.
      draw: makes the kernels.
    """
    keys = jax.random.split(key, max(len(raw_dims), 1))
    return {
        name: make_affine(k, width, dim, draw)
        for k, (name, width) in zip(keys, raw_dims.items(), strict=False)
    }


def project_affine(params: Mapping[str, Affine], features: Modal, names: tuple[str, ...]) -> Modal:
    """z of some items.

    Args:
      params: from `init_affine`.
      features: modal, (n, dim_m).
      names: of the modalities, in the data's order.

    Returns:
      Modal, (n, d).
    """
    return tuple(params[name](x) for name, x in zip(names, features, strict=True))
