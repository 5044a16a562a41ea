"""A data set on several devices: pairs by owning user, all that models read whole on each."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from uatmc_jax.data import Dataset, Graph, make_graph
from uatmc_jax.data.dataset import DeviceData, Sizes
from uatmc_jax.data.graph import Side, edgeless_graph
from uatmc_jax.environment import device_memory_bytes
from uatmc_jax.errors import InputError
from uatmc_jax.models import Modal, Model
from uatmc_jax.models.protocol import PyTree
from uatmc_jax.models.relations import related
from uatmc_jax.placement.mesh import Placement, replicate, replicate_features
from uatmc_jax.placement.pairs import own_pairs


def spread_data(
    placement: Placement, model: Model, dataset: Dataset, block_users: int = 2048
) -> DeviceData:
    """What training and attacks read, on the devices.

    A model whose rows are encoded one by one (`encode_rows`) gets a graph without edges.

    Args:
      placement: the devices.
      model: the recommender.
      dataset: the data.
      block_users: as of `own_pairs`.

    Raises:
      InputError: features that are to be float16 and are not; the model draws a graph of the
        pairs every epoch, or propagates over one that does not fit; or `own_pairs` raises it.
    """
    if model.epoch_graph is not None:
        raise InputError(
            f"config.mesh.devices: model {model.name} draws every epoch's graph of all training "
            "pairs, which several devices have not got in one place. Set it to 1."
        )
    sizes = dataset.n_users, dataset.n_items
    if model.encode_rows is None:
        check_fits(model, dataset.sizes, len(dataset.train), device_memory_bytes())
    make = make_graph if model.encode_rows is None else edgeless_graph
    graph = related(model, dataset, make(dataset.train, *sizes))
    return DeviceData(
        pairs=own_pairs(placement, dataset.train, *sizes, block_users),
        seen=None,
        graph=replicate(placement, graph),
        features=replicate_features(placement, dataset.features),
    )


def check_fits(model: Model, sizes: Sizes, n_pairs: int, limit: int) -> None:
    """Requires that a model which propagates over the whole graph can do so on each device.

    The graph lies whole on each, 4 bytes an edge and direction, and what a backward pass keeps
    of every node's states is counted whole too: how far the compiler cuts it is its own affair.

    Args:
      model: the recommender.
      sizes: of the data.
      n_pairs: training pairs.
      limit: bytes of a device.

    Raises:
      InputError: it cannot; with the arithmetic.
    """
    params = jax.eval_shape(model.init, jax.random.key(0))
    rows = tuple(
        jax.ShapeDtypeStruct((sizes.n_items, n), "float32") for n in sizes.raw_dims.values()
    )
    z = jax.eval_shape(model.project, params.projectors, rows)

    def nodes() -> Graph:
        none = jnp.zeros(0, jnp.int32)
        return Graph(*(Side(none[None], none, jnp.zeros(n)) for n in sizes[:2]))

    def backward(encoder: PyTree, z: Modal, graph: Graph) -> Callable:
        return jax.vjp(lambda encoder, z: model.encode(encoder, z, graph), encoder, z)[1]

    kept = jax.eval_shape(backward, params.encoder, z, jax.eval_shape(nodes))
    states = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(kept))
    edges = 2 * 4 * n_pairs
    if states + edges > limit:
        raise InputError(
            f"config.mesh.devices: model {model.name} propagates over the whole graph in every "
            f"step. {n_pairs} pairs x 8 bytes = {edges / 1e9:.1f} GB, and {states / 1e9:.1f} GB of "
            f"states of {sizes.n_users} users and {sizes.n_items} items, are more than a device's "
            f"{limit / 1e9:.1f} GB. Use a model that reads its batch's rows alone, as vbpr."
        )
