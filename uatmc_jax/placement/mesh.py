"""The mesh, the padding of tables to a fixed multiple, and the shardings of a pytree.

A table is a parameter with a row for every user or item: the leaves whose shapes change with
|U| or |I| (`jax.eval_shape`), so that models declare nothing. Between compiled calls it is
filled up with rows of zeros to a multiple of `row_multiple`, whatever the number of devices;
inside it is cut to its true rows, and the compiler keeps it by rows.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from uatmc_jax.data.dataset import Sizes
from uatmc_jax.errors import InputError
from uatmc_jax.hosts import several

AXIS = "rows"
PyTree = Any


class Placement(NamedTuple):
    """Several devices.

    Attributes:
      mesh: of one axis, `AXIS`.
      multiple: tables and users are cut into as many equal parts, of which each device has as
        many as any other.
      features: the type of raw features that lie there.
    """

    mesh: Mesh
    multiple: int
    features: str = "float32"


class Layout(NamedTuple):
    """Where a model's parameters lie.

    Attributes:
      placement: the devices.
      rows: as Params; of a table its true number of rows, of all else 0.
    """

    placement: Placement
    rows: PyTree


def make_placement(devices: int, multiple: int, features: str = "float32") -> Placement | None:
    """The devices that settings ask for; None for one, which nothing is spread over.

    Args:
      devices: how many of those that JAX sees; -1 for all.
      multiple: `row_multiple`.
      features: as of `Placement`.

    Raises:
      InputError: there are fewer, they do not divide `multiple`, or they are not all that
        several processes have.
    """
    there = jax.devices()
    count = len(there) if devices == -1 else devices
    if count > len(there):
        raise InputError(
            f"config.mesh.devices = {devices}: JAX sees {len(there)} {there[0].platform} "
            "device(s). Ask for at most so many, or -1 for all."
        )
    if several() and count < len(there):
        raise InputError(
            f"config.mesh.devices = {devices}: {jax.process_count()} processes work on all of "
            f"their {len(there)} devices. Set it to -1."
        )
    if multiple % count:
        raise InputError(
            f"config.mesh.row_multiple = {multiple}: wanted a multiple of the {count} devices. "
            f"Set it to {count * -(-multiple // count)}, or use fewer devices."
        )
    if count == 1:
        return None
    # Auto: with explicit axes, indexing a sharded table would have to say where its result lies.
    mesh = jax.make_mesh((count,), (AXIS,), (AxisType.Auto,), devices=there[:count])
    return Placement(mesh, multiple, features)


def lay_out(placement: Placement, shapes_of: Callable[[Sizes], PyTree], sizes: Sizes) -> Layout:
    """Which parameters are tables.

    Args:
      placement: the devices.
      shapes_of: sizes of a catalogue -> the shapes of the parameters for it.
      sizes: of the data.
    """
    more_users = sizes._replace(n_users=sizes.n_users + 1)
    more_items = sizes._replace(n_items=sizes.n_items + 1)

    def rows(here: Any, *others: Any) -> int:
        grows = any(x.shape[:1] != here.shape[:1] for x in others)
        return here.shape[0] if grows else 0

    trees = (shapes_of(some) for some in (sizes, more_users, more_items))
    return Layout(placement, jax.tree.map(rows, *trees))


def state_rows(
    optimizer: optax.GradientTransformation, optimizer_state: PyTree, trained: PyTree
) -> PyTree:
    """The rows of an optimiser's state, whose moments are as the trained parameters.

    Args:
      optimizer: whose state it is.
      optimizer_state: arrays or shapes.
      trained: rows of the trained parameters.
    """
    return optax.tree_map_params(
        optimizer, lambda _, n: n, optimizer_state, trained, transform_non_params=lambda _: 0
    )


def padded(placement: Placement, n: int) -> int:
    """n, filled up to the multiple."""
    return -(-n // placement.multiple) * placement.multiple


def pad(placement: Placement, rows: PyTree, tree: PyTree) -> PyTree:
    """The tables filled up with rows of zeros.

    Args:
      placement: the devices.
      rows: of the tree's leaves, 0 for what is no table.
      tree: arrays of their true shapes.
    """

    def fill(n: int, x: jax.Array) -> jax.Array:
        missing = padded(placement, n) - n
        return jnp.pad(x, ((0, missing), *((0, 0),) * (x.ndim - 1))) if missing else x

    return jax.tree.map(fill, rows, tree)


def cut(placement: Placement, rows: PyTree, tree: PyTree) -> PyTree:
    """The way back, inside a compiled function: true shapes, still by rows."""
    by_rows = NamedSharding(placement.mesh, PartitionSpec(AXIS))

    def true(n: int, x: jax.Array) -> jax.Array:
        return jax.lax.with_sharding_constraint(x[:n], by_rows) if n else x

    return jax.tree.map(true, rows, tree)


def on_every_device(placement: Placement, tree: PyTree) -> PyTree:
    """Inside a compiled function: whole on every device, not as its compiler would spread it."""
    return jax.lax.with_sharding_constraint(tree, NamedSharding(placement.mesh, PartitionSpec()))


def shardings(placement: Placement, rows: PyTree) -> PyTree:
    """Tables by rows, all else whole on every device."""
    return jax.tree.map(
        lambda n: NamedSharding(placement.mesh, PartitionSpec(AXIS) if n else PartitionSpec()),
        rows,
    )


def place(tree: PyTree, where: PyTree) -> PyTree:
    """Arrays put where they lie; of several processes each puts its own parts there.

    Args:
      tree: arrays, the same in every process.
      where: a sharding for all, or a tree of them.
    """
    if not several():
        return jax.device_put(tree, where)

    def own(x: Any, sharding: NamedSharding) -> jax.Array:
        if isinstance(x, jax.Array) and not x.is_fully_addressable:
            return jax.device_put(x, sharding)
        whole = np.asarray(x)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    return jax.tree.map(own, tree, jax.tree.broadcast(where, tree))


def put(placement: Placement, rows: PyTree, tree: PyTree) -> PyTree:
    """Arrays of their true shapes, filled up and put where they lie."""
    return place(pad(placement, rows, tree), shardings(placement, rows))


def replicate(placement: Placement, tree: PyTree) -> PyTree:
    """The arrays whole on every device."""
    return place(tree, NamedSharding(placement.mesh, PartitionSpec()))


def replicate_features(placement: Placement, features: Sequence[Any]) -> tuple[jax.Array, ...]:
    """Raw features whole on every device, in the type that the placement has.

    Args:
      placement: the devices.
      features: modal, (|I|, dim_m) float32.

    Raises:
      InputError: they are to be float16, which does not hold all of them.
    """
    if placement.features == "float32":
        return replicate(placement, tuple(features))
    found = []
    for place, matrix in enumerate(features):
        whole = np.asarray(matrix)
        with np.errstate(over="ignore"):
            half = whole.astype(np.float16)
        if not np.array_equal(half, whole):
            raise InputError(
                f"config.mesh.features = 'float16': of modality {place} it does not hold all "
                "numbers. Set it to 'float32', or write the features' file in float16 before."
            )
        found.append(replicate(placement, half))
    return tuple(found)


def made(placement: Placement, rows: PyTree, function: Callable[..., PyTree]) -> Callable:
    """A function's results made where they lie, no device having a whole table."""
    return jax.jit(
        lambda *given: pad(placement, rows, function(*given)),
        out_shardings=shardings(placement, rows),
    )


def spread_epoch(placement: Placement, rows: PyTree, epoch: Callable) -> Callable:
    """An epoch compiled for the mesh; it consumes the state it is given.

    Args:
      placement: the devices.
      rows: of the state.
      epoch: (state, fixed, data, ...) -> state, terms, finite, of true shapes.

    Returns:
      The same of filled-up states.
    """

    def spread(state: PyTree, *given: Any, **chosen: Any) -> tuple:
        state, terms, finite = epoch(cut(placement, rows, state), *given, **chosen)
        return pad(placement, rows, state), terms, finite

    whole = NamedSharding(placement.mesh, PartitionSpec())
    return jax.jit(
        spread,
        donate_argnums=0,
        static_argnames="count",
        out_shardings=(shardings(placement, rows), whole, whole),
    )
