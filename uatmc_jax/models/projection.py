"""Raw features of the whole catalogue to z, in bounded memory."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from uatmc_jax.models.protocol import Modal, Model, Params
from uatmc_jax.numerics import EXACT

PROJECTION_BLOCK = 8192


@functools.partial(jax.jit, static_argnames=("model",))
def project_catalogue(model: Model, params: Params, features: Modal) -> Modal:
    """z of all items, compiled: what everything that reads a trained model hands on.

    Args:
      model: the recommender.
      params: its parameters.
      features: modal, raw, (|I|, dim_m).

    Returns:
      Modal, (|I|, d).
    """
    with jax.default_matmul_precision(EXACT):
        return project_all(model, params, features)


def project_all(model: Model, params: Params, features: Modal) -> Modal:
    """z of the whole catalogue; see `by_blocks`."""
    return by_blocks(functools.partial(model.project, params.projectors), features)


def by_blocks(function: Callable[[Modal], Modal], features: Modal) -> Modal:
    """A function of rows on the whole catalogue, in blocks so that hidden layers stay small.

    The backward pass computes the blocks again rather than keep their layers.
    """
    n = features[0].shape[0]
    if n <= PROJECTION_BLOCK:
        return function(tuple(x.astype(jnp.float32) for x in features))
    n_blocks = -(-n // PROJECTION_BLOCK)
    overlap = n_blocks * PROJECTION_BLOCK - n  # the last block is moved back by this

    @jax.checkpoint
    def project_block(start: jax.Array) -> Modal:
        rows = tuple(jax.lax.dynamic_slice_in_dim(x, start, PROJECTION_BLOCK) for x in features)
        return function(tuple(x.astype(jnp.float32) for x in rows))

    starts = jnp.minimum(jnp.arange(n_blocks) * PROJECTION_BLOCK, n - PROJECTION_BLOCK)
    return tuple(
        jnp.concatenate([z[:-1].reshape(-1, z.shape[-1]), z[-1, overlap:]])
        for z in jax.lax.map(project_block, starts)
    )
