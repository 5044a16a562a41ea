"""A data set on the device."""

import flax.struct
import jax
import jax.numpy as jnp

from uatmc_jax.data.csr import CSR, make_csr
from uatmc_jax.data.dataset import Dataset
from uatmc_jax.data.graph import Graph, make_graph


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
    features: tuple[jax.Array, ...]


def put_on_device(dataset: Dataset) -> DeviceData:
    """Copies what training reads to the default device, once."""
    train = dataset.train
    return DeviceData(
        pairs=(jnp.asarray(train.users), jnp.asarray(train.items)),
        seen=make_csr(train, dataset.n_users),
        graph=make_graph(train, dataset.n_users, dataset.n_items),
        features=tuple(jnp.asarray(x) for x in dataset.features),
    )
