"""The user-item graph as a pytree, and mean aggregation over it.

Each side's edges are sorted by destination and laid out in groups of `width` edges that
share one destination, short groups filled with a source that reads zeros. A group is
summed while it is gathered, so the edge messages never exist in memory, and
`jax.ops.segment_sum` then adds up the groups of each node: one scatter row per group
instead of one per edge. `experiments/benchmark.py` times it beside groups of one edge.

Users hear from items and items from users, and the one sum is the other's transpose: a
layer that needs one side alone, or another width on each, does no more than that.
"""

import dataclasses
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.data.interactions import Interactions

_WIDTHS = (1, 2, 4, 8, 16, 32)
# Measured on a CPU: adding one scattered row costs as much as gathering nine.
_SCATTER_COST = 9


@flax.struct.dataclass
class Side:
    """The edges into one side's nodes, from the other side's.

    Attributes:
      senders: (width, n_groups) int32 source nodes, the g-th column one group; the
        number of sources stands for "no edge".
      receivers: (n_groups,) int32 destination of each group, ascending.
      degrees: (n,) float32 number of neighbours.
    """

    senders: jax.Array
    receivers: jax.Array
    degrees: jax.Array


@flax.struct.dataclass
class Graph:
    """The bipartite graph; node ids are users 0..|U|-1, then items |U|..|U|+|I|-1.

    Attributes:
      users: edges into the users, from items 0..|I|-1.
      items: edges into the items, from users 0..|U|-1.
      relations: what a model's `relate` built beside it of raw features; None for models that
        read the interactions alone.
      user_relations: what a model's `relate_users` built of the interactions; or None.
    """

    users: Side
    items: Side
    relations: Any = None
    user_relations: Any = None

    @property
    def n_users(self) -> int:
        """|U|."""
        return self.users.degrees.shape[-1]

    @property
    def n_items(self) -> int:
        """|I|."""
        return self.items.degrees.shape[-1]

    @property
    def degrees(self) -> jax.Array:
        """(|U|+|I|,) float32 number of neighbours."""
        return jnp.concatenate([self.users.degrees, self.items.degrees], axis=-1)


def make_graph(pairs: Interactions, n_users: int, n_items: int, width: int | None = None) -> Graph:
    """Builds the symmetrised graph of `pairs`.

    Args:
      pairs: the training interactions.
      n_users: |U|.
      n_items: |I|.
      width: edges per group; None picks the cheapest for each side's degrees.
    """
    return Graph(
        users=_side(pairs.items, pairs.users, n_items, n_users, width),
        items=_side(pairs.users, pairs.items, n_users, n_items, width),
    )


def edgeless_graph(pairs: Interactions, n_users: int, n_items: int) -> Graph:
    """Nodes and degrees of `make_graph` without its edges, for models that do not propagate."""

    def side(destinations: np.ndarray, n: int) -> Side:
        none, degrees = jnp.zeros(0, jnp.int32), np.bincount(destinations, minlength=n)
        return Side(none[None], none, jnp.asarray(degrees, jnp.float32))

    return Graph(side(pairs.users, n_users), side(pairs.items, n_items))


def edge_graph(users: jax.Array, items: jax.Array, graph: Graph) -> Graph:
    """The bipartite graph of some edges, of static shape whichever they are.

    Groups are of one edge: how many edges a node has is not known when it is compiled.

    Args:
      users: (n,) int32.
      items: (n,) int32, the pairs being distinct.
      graph: whose nodes and relations it has.
    """

    def side(sources: jax.Array, destinations: jax.Array, n: int) -> Side:
        order = jnp.lexsort((sources, destinations))
        degrees = jnp.zeros(n, jnp.float32).at[destinations].add(1.0)
        return Side(sources[order][None], destinations[order], degrees)

    return dataclasses.replace(
        graph, users=side(items, users, graph.n_users), items=side(users, items, graph.n_items)
    )


def _side(
    sources: np.ndarray, destinations: np.ndarray, n_sources: int, n: int, width: int | None
) -> Side:
    order = np.lexsort((sources, destinations))
    sources, destinations = sources[order], destinations[order]
    degrees = np.bincount(destinations, minlength=n)
    if width is None:
        width = min(_WIDTHS, key=lambda w: (w + _SCATTER_COST) * int((-(-degrees // w)).sum()))
    groups = -(-degrees // width)
    first_edge = np.cumsum(degrees) - degrees
    first_slot = (np.cumsum(groups) - groups) * width
    slots = first_slot[destinations] + np.arange(len(sources)) - first_edge[destinations]
    senders = np.full(int(groups.sum()) * width, n_sources, np.int32)
    senders[slots] = sources
    return Side(
        senders=jnp.asarray(np.ascontiguousarray(senders.reshape(-1, width).T)),
        receivers=jnp.asarray(np.repeat(np.arange(n, dtype=np.int32), groups)),
        degrees=jnp.asarray(degrees, jnp.float32),
    )


@jax.custom_vjp
def _sum_into(side: Side, back: Side, x: jax.Array) -> jax.Array:
    """What the side's nodes hear: A x of its part A of the adjacency matrix.

    The backward pass is the sorted sum over the other side, whose matrix is A's transpose;
    JAX's own transpose of the gather would be an unsorted scatter. Reverse mode to any
    order and `vmap` work; forward mode does not.
    """
    del back
    grouped = sum(x.at[row].get(mode="fill", fill_value=0) for row in side.senders)
    return jax.ops.segment_sum(
        grouped, side.receivers, num_segments=side.degrees.shape[0], indices_are_sorted=True
    )


_sum_into.defvjp(
    lambda side, back, x: (_sum_into(side, back, x), (side, back)),
    lambda sides, cotangent: (None, None, _sum_into(sides[1], sides[0], cotangent)),
)


def sum_items(graph: Graph, x: jax.Array) -> jax.Array:
    """The users' sums over their items: (|I|, f) to (|U|, f); zeros without neighbours."""
    return _sum_into(graph.users, graph.items, x)


def sum_users(graph: Graph, x: jax.Array) -> jax.Array:
    """The items' sums over their users: (|U|, f) to (|I|, f); zeros without neighbours."""
    return _sum_into(graph.items, graph.users, x)


def mean_items(graph: Graph, x: jax.Array) -> jax.Array:
    """The users' means over their items; shapes and zeros as `sum_items`."""
    return sum_items(graph, x) / jnp.maximum(graph.users.degrees, 1.0)[:, None]


def mean_users(graph: Graph, x: jax.Array) -> jax.Array:
    """The items' means over their users; shapes and zeros as `sum_users`."""
    return sum_users(graph, x) / jnp.maximum(graph.items.degrees, 1.0)[:, None]


def sum_neighbours(graph: Graph, x: jax.Array) -> jax.Array:
    """A x, with A the symmetric adjacency matrix.

    Args:
      graph: the graph.
      x: (|U|+|I|, f) node values.

    Returns:
      (|U|+|I|, f); nodes without neighbours get zeros.
    """
    users, items = jnp.split(jnp.asarray(x), [graph.n_users])
    return jnp.concatenate([sum_items(graph, items), sum_users(graph, users)])


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
