"""The part of the graph that one item's content can reach, and nothing else.

A model that propagates n times changes, when the content of item t changes, the
embeddings of the nodes within n hops of t only. The nodes at distance k are
*shell* k: shell 0 is t, odd shells are users, even ones items; in a bipartite
graph every edge inside the field joins two consecutive shells. Sizes are padded
to those of a *class*, so that fields of one class share one compiled program.

In a model that has other edges too (lists of neighbours) it says itself whom an item reaches.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.data.graph import Adjacency

PyTree = Any


@flax.struct.dataclass
class Field:
    """The receptive field of one item.

    Attributes:
      shells: k-th: (n_k,) int32 node ids at distance k, |U|+|I| for padding.
      links: k-th: (n_{k+1}, n_k) float32, 1 where an edge joins shell k+1 to shell k; none of
        a model with `FieldPass.reach`.
    """

    shells: tuple[jax.Array, ...]
    links: tuple[jax.Array, ...] = ()


class FieldPass(NamedTuple):
    """A model's propagation of the difference that one item's new content makes.

    Attributes:
      depth: n, how many hops a change travels.
      trace: (Params.encoder, clean z, Graph) -> what the pass reads of the clean one.
      gather: (Params.encoder, trace, Graph, Field) -> its rows in the field.
      encode: (Params.encoder, gathered, Field, z_t: Modal of (1, d)) -> k-th: (n_k, D)
        embeddings of shell k. Padding rows are finite and meaningless.
      reach: (Graph, Adjacency, item, limit) -> whom its content moves, on the host: ids of the
        item, of users that are ranked in full, of other items, and perhaps of users who move
        little; None if there are more than `limit`. For models whose change does not travel
        along the bipartite edges alone; None for those where it does.
    """

    depth: int
    trace: Callable[..., PyTree]
    gather: Callable[..., PyTree]
    encode: Callable[..., tuple[jax.Array, ...]]
    reach: Callable[..., list[np.ndarray] | None] | None = None


def listing(ids: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Ascending ids of those whose list (n, k) has one of the items."""
    return np.flatnonzero(np.isin(ids, items).any(axis=1))


def shells_of(
    adjacency: Adjacency, item: int, depth: int, wanted: np.ndarray, limit: int
) -> list[np.ndarray] | None:
    """Node ids by distance from an item.

    Args:
      adjacency: of the training graph.
      item: its id, from 0.
      depth: greatest distance.
      wanted: (|U|+|I|,) bool; a node of the outermost shell is left out if it
        is not wanted, as nothing inside depends on it.
      limit: most nodes.

    Returns:
      depth + 1 arrays of ascending ids; None if there are more nodes than `limit`.
    """
    shells = [np.array([item + adjacency.n_users])]
    known = {int(shells[0][0])}
    for distance in range(1, depth + 1):
        found = np.unique(neighbours_of(adjacency, shells[-1]))
        found = found[[int(node) not in known for node in found]] if len(found) else found
        if distance == depth:
            found = found[wanted[found]]
        known.update(found.tolist())
        if len(known) > limit:
            return None
        shells.append(found)
    return shells


def neighbours_of(adjacency: Adjacency, nodes: np.ndarray | Sequence[int]) -> np.ndarray:
    """All neighbours of these nodes, repeated where they share some."""
    spans = [
        adjacency.neighbours[adjacency.indptr[node] : adjacency.indptr[node + 1]] for node in nodes
    ]
    return np.concatenate(spans) if spans else np.zeros(0, np.int64)


def pad_field(adjacency: Adjacency, shells: Sequence[np.ndarray], sizes: Sequence[int]) -> Field:
    """The shells as a `Field` of the given sizes, with NumPy leaves.

    Args:
      adjacency: of the training graph.
      shells: from `shells_of`.
      sizes: of the padded shells, none smaller than its shell.
    """
    n_nodes = len(adjacency.indptr) - 1
    links = []
    for inner, outer, n_inner, n_outer in zip(shells, shells[1:], sizes, sizes[1:], strict=False):
        link = np.zeros((n_outer, n_inner), np.float32)
        for column, node in enumerate(inner):
            near = neighbours_of(adjacency, [node])
            link[: len(outer), column] = np.isin(outer, near)
        links.append(link)
    return Field(pad_shells(shells, sizes, n_nodes), tuple(links))


def pad_shells(
    shells: Sequence[np.ndarray], sizes: Sequence[int], n_nodes: int
) -> tuple[np.ndarray, ...]:
    """Shells of the given sizes, filled up with |U|+|I|."""
    return tuple(
        np.pad(shell, (0, size - len(shell)), constant_values=n_nodes).astype(np.int32)
        for shell, size in zip(shells, sizes, strict=True)
    )


def moved_sums(field: Field, moved: Sequence[jax.Array]) -> tuple[jax.Array, ...]:
    """How much each node's sum over its neighbours changes.

    Args:
      field: the receptive field.
      moved: k-th: (n_k, w) change of shell k's values, for the shells 0..m that
        have changed.

    Returns:
      k-th: (n_k, w), for the shells 0..m+1 (or the last one).
    """
    sums = []
    for k in range(min(len(moved) + 1, len(field.shells))):
        total = jnp.zeros((field.shells[k].shape[0], moved[0].shape[1]), moved[0].dtype)
        if k > 0:
            total += field.links[k - 1] @ moved[k - 1]
        if k + 1 < len(moved):
            total += field.links[k].T @ moved[k + 1]
        sums.append(total)
    return tuple(sums)
