"""A data set on the device, and its features projected there in bounded memory."""

import functools
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp

from uatmc_jax.data import CSR, Dataset, make_csr
from uatmc_jax.models import Graph, Modal, Model, Params, make_graph

PROJECTION_BLOCK = 8192


@flax.struct.dataclass
class DeviceData:
    """A data set on the device.

    Attributes:
      pairs: (users, items), each (n,) int32 training interactions.
      seen: the same, by user.
      graph: the same, as a graph.
      features: modal, raw, (|I|, dim_m) float32.
    """

    pairs: tuple[jax.Array, jax.Array]
    seen: CSR
    graph: Graph
    features: Modal


def put_on_device(dataset: Dataset) -> DeviceData:
    """Copies what training reads to the default device, once."""
    train = dataset.train
    return DeviceData(
        pairs=(jnp.asarray(train.users), jnp.asarray(train.items)),
        seen=make_csr(train, dataset.n_users),
        graph=make_graph(train, dataset.n_users, dataset.n_items),
        features=tuple(jnp.asarray(x) for x in dataset.features),
    )


def project_all(model: Model, params: Params, features: Modal) -> Modal:
    """z of the whole catalogue; see `by_blocks`."""
    return by_blocks(functools.partial(model.project, params.projectors), features)


def by_blocks(function: Callable[[Modal], Modal], features: Modal) -> Modal:
    """A function of rows on the whole catalogue, in blocks so that hidden layers stay small.

    The backward pass computes the blocks again rather than keep their layers.
    """
    n = features[0].shape[0]
    if n <= PROJECTION_BLOCK:
        return function(features)
    n_blocks = -(-n // PROJECTION_BLOCK)
    overlap = n_blocks * PROJECTION_BLOCK - n  # the last block is moved back by this

    @jax.checkpoint
    def project_block(start: jax.Array) -> Modal:
        rows = tuple(jax.lax.dynamic_slice_in_dim(x, start, PROJECTION_BLOCK) for x in features)
        return function(rows)

    starts = jnp.minimum(jnp.arange(n_blocks) * PROJECTION_BLOCK, n - PROJECTION_BLOCK)
    return tuple(
        jnp.concatenate([z[:-1].reshape(-1, z.shape[-1]), z[-1, overlap:]])
        for z in jax.lax.map(project_block, starts)
    )
