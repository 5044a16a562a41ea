"""The user-item graph as a pytree, and mean aggregation over it.

Edges of the symmetrised training graph are sorted by destination and laid out
in groups of `width` edges that share one destination, short groups filled with
a source that reads zeros. A group is summed while it is gathered, so the edge
messages never exist in memory, and `jax.ops.segment_sum` then adds up the
groups of each node: one scatter row per group instead of one per edge.
`experiments/benchmark.py` times it beside groups of one edge.
"""

from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.data.interactions import Interactions

_WIDTHS = (1, 2, 4, 8, 16, 32)
# Measured on a CPU: adding one scattered row costs as much as gathering nine.
_SCATTER_COST = 9


@flax.struct.dataclass
class Graph:
    """The bipartite graph; node ids are users 0..|U|-1, then items |U|..|U|+|I|-1.

    Attributes:
      senders: (width, n_groups) int32 source nodes, the g-th column one group;
        |U|+|I| stands for "no edge".
      receivers: (n_groups,) int32 destination of each group, ascending.
      degrees: (|U|+|I|,) float32 number of neighbours.
      n_users: |U| (static).
      n_items: |I| (static).
    """

    senders: jax.Array
    receivers: jax.Array
    degrees: jax.Array
    n_users: int = flax.struct.field(pytree_node=False)
    n_items: int = flax.struct.field(pytree_node=False)


def make_graph(pairs: Interactions, n_users: int, n_items: int, width: int | None = None) -> Graph:
    """Builds the symmetrised graph of `pairs`.

    Args:
      pairs: the training interactions.
      n_users: |U|.
      n_items: |I|.
      width: edges per group; None picks the cheapest for these degrees.
    """
    n_nodes = n_users + n_items
    items = pairs.items.astype(np.int64) + n_users
    sources = np.concatenate([items, pairs.users])
    destinations = np.concatenate([pairs.users, items])
    order = np.lexsort((sources, destinations))
    sources, destinations = sources[order], destinations[order]
    degrees = np.bincount(destinations, minlength=n_nodes)
    if width is None:
        width = min(_WIDTHS, key=lambda w: (w + _SCATTER_COST) * int((-(-degrees // w)).sum()))
    groups = -(-degrees // width)
    first_edge = np.cumsum(degrees) - degrees
    first_slot = (np.cumsum(groups) - groups) * width
    slots = first_slot[destinations] + np.arange(len(sources)) - first_edge[destinations]
    senders = np.full(int(groups.sum()) * width, n_nodes, np.int32)
    senders[slots] = sources
    return Graph(
        senders=jnp.asarray(np.ascontiguousarray(senders.reshape(-1, width).T)),
        receivers=jnp.asarray(np.repeat(np.arange(n_nodes, dtype=np.int32), groups)),
        degrees=jnp.asarray(degrees, jnp.float32),
        n_users=n_users,
        n_items=n_items,
    )


@jax.custom_vjp
def sum_neighbours(graph: Graph, x: jax.Array) -> jax.Array:
    """A x, with A the symmetric adjacency matrix.

    As A is its own transpose, the backward pass is the same sorted sum; JAX's
    own transpose of the gather would be an unsorted scatter. Reverse mode to
    any order and `vmap` work; forward mode does not.

    Args:
      graph: the graph.
      x: (|U|+|I|, f) node values.

    Returns:
      (|U|+|I|, f); nodes without neighbours get zeros.
    """
    padded = jnp.concatenate([x, jnp.zeros((1, x.shape[1]), x.dtype)])
    grouped = sum(padded[row] for row in graph.senders)
    return jax.ops.segment_sum(
        grouped, graph.receivers, num_segments=x.shape[0], indices_are_sorted=True
    )


sum_neighbours.defvjp(
    lambda graph, x: (sum_neighbours(graph, x), graph),
    lambda graph, cotangent: (None, sum_neighbours(graph, cotangent)),
)


def mean_neighbours(graph: Graph, x: jax.Array) -> jax.Array:
    """D^-1 A x, the mean over each node's neighbours; shapes and zeros as `sum_neighbours`."""
    return sum_neighbours(graph, x) / jnp.maximum(graph.degrees, 1.0)[:, None]


class Adjacency(NamedTuple):
    """Neighbours of every node, on the host: `neighbours[indptr[v]:indptr[v+1]]`."""

    indptr: np.ndarray
    neighbours: np.ndarray
    n_users: int


def make_adjacency(pairs: Interactions, n_users: int, n_items: int) -> Adjacency:
    """Both directions of the training interactions, items numbered from |U| on."""
    items = pairs.items.astype(np.int64) + n_users
    sources = np.concatenate([pairs.users, items])
    order = np.argsort(sources, kind="stable")
    indptr = np.zeros(n_users + n_items + 1, np.int64)
    np.cumsum(np.bincount(sources, minlength=n_users + n_items), out=indptr[1:])
    return Adjacency(indptr, np.concatenate([items, pairs.users])[order], n_users)
