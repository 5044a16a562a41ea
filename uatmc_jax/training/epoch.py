"""One epoch as one compiled scan over batches."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from uatmc_jax.data.dataset import DeviceData
from uatmc_jax.models import Batch
from uatmc_jax.placement import Placement, draw_batch
from uatmc_jax.training.batches import keyed_numbers, make_batch, shuffled_batches
from uatmc_jax.training.rows import ITEMS, USERS, Rows, Updates, row_updates

PyTree = Any
# (trained parameters, fixed values, batch, key) -> loss and its terms by name
Objective = Callable[[PyTree, PyTree, Batch, jax.Array], tuple[jax.Array, dict[str, jax.Array]]]


@flax.struct.dataclass
class TrainState:
    """What an epoch changes, and the key its randomness comes from.

    Attributes:
      trained: the stage's trained parameters.
      optimizer: optax's state.
      epoch: () int32, epochs done.
      key: key data of the stage; epoch n draws from fold_in(key, n), so a
        resumed stage repeats the same numbers.
    """

    trained: PyTree
    optimizer: optax.OptState
    epoch: jax.Array
    key: jax.Array


def init_state(
    trained: PyTree, optimizer: optax.GradientTransformation, key: jax.Array
) -> TrainState:
    """The state before a stage's first epoch."""
    return TrainState(
        trained, optimizer.init(trained), jnp.zeros((), jnp.int32), jax.random.key_data(key)
    )


def steps_per_epoch(n_pairs: int, batch_size: int) -> int:
    """Batches in an epoch, the partial last one included."""
    return -(-n_pairs // batch_size)


# (state, fixed values, data) -> state after the epoch, {term: (steps,) values}, all finite; of a
# chunk of it with (..., its first step, count=) beside them
Epoch = Callable[..., tuple[TrainState, dict[str, jax.Array], jax.Array]]


class Order(NamedTuple):
    """How an epoch goes through the training pairs.

    Attributes:
      batch_size: B.
      keyed: batches are computed one by one (`keyed_numbers`); else all at once by a sort.
      placement: the devices that own the pairs; None for one that has them all.
      numbered: each says which of the epoch's it is (`Batch.step`).
    """

    batch_size: int
    keyed: bool = False
    placement: Placement | None = None
    numbered: bool = False


def make_epoch(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    order: Order,
    rows: Rows | None = None,
) -> Epoch:
    """An epoch: shuffle, and for each batch sample, differentiate, update.

    Args:
      objective: what is descended on.
      optimizer: makes updates of its gradients.
      order: of the batches.
      rows: what is a table, for steps that write the batch's rows alone; None for all rows.

    Returns:
      (state, fixed, data) -> (state after the epoch, {term: (steps,) values},
      whether all trained parameters are finite), the terms being the
      objective's and "loss". With (first, count=) beside them, `count` steps of it from step
      `first` on; the epoch is done with its last.
    """

    def epoch(
        state: TrainState,
        fixed: PyTree,
        data: DeviceData,
        first: jax.Array | int = 0,
        count: int | None = None,
    ):
        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.epoch)
        k_shuffle, k_steps = jax.random.split(key)
        n_pairs, size = data.n_pairs, order.batch_size
        n_steps = steps_per_epoch(n_pairs, size)
        batches = jnp.arange(n_steps) if order.keyed else shuffled_batches(k_shuffle, n_pairs, size)
        numbers = jnp.arange(n_steps) if order.numbered else None
        inputs = jax.random.split(k_steps, n_steps), batches, numbers
        epochs = state.epoch + 1
        if count is not None:
            inputs = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, first, count), inputs)
            epochs = state.epoch + (first + count == n_steps)
        begin = _dense_updates(objective, optimizer)
        if rows is not None:
            counts = {USERS: data.graph.n_users, ITEMS: data.graph.n_items}
            begin = row_updates(objective, optimizer, rows, counts, count or n_steps)
        updates = begin(state.trained, state.optimizer)

        def draw(key: jax.Array, some: PyTree) -> Batch:
            if order.keyed:
                numbers, weights = keyed_numbers(k_shuffle, n_pairs, some, size)
            else:
                places, weights = some
                numbers = jnp.zeros_like(places), places
            if order.placement is not None:
                return draw_batch(order.placement, key, data.pairs, numbers, weights)
            n_items = data.graph.n_items
            pairs, seen = data.pairs, data.seen
            return make_batch(key, pairs, seen, numbers[1], weights, n_items)  # type: ignore[arg-type]

        def step(carry, inputs):
            step_key, some, number = inputs
            k_negatives, k_objective = jax.random.split(step_key)
            batch = dataclasses.replace(draw(k_negatives, some), step=number)
            return updates.step(carry, fixed, batch, k_objective)

        carry, terms = jax.lax.scan(step, updates.carry, inputs)
        trained, optimizer_state = updates.end(carry)
        finite = jnp.all(jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(trained)]))
        return TrainState(trained, optimizer_state, epochs, state.key), terms, finite

    return epoch


def _dense_updates(
    objective: Objective, optimizer: optax.GradientTransformation
) -> Callable[[PyTree, optax.OptState], Updates]:
    """What begins an epoch of steps that write all parameters."""

    def step(carry, fixed: PyTree, batch: Batch, key: jax.Array):
        trained, optimizer_state = carry
        (loss, terms), gradients = jax.value_and_grad(objective, has_aux=True)(
            trained, fixed, batch, key
        )
        updates, optimizer_state = optimizer.update(gradients, optimizer_state, trained)
        trained = optax.apply_updates(trained, updates)
        return (trained, optimizer_state), {"loss": loss, **terms}

    return lambda trained, state: Updates((trained, state), step, lambda carry: carry)


@functools.lru_cache(maxsize=16)
def compile_epoch(epoch: Epoch) -> Epoch:
    """The epoch compiled, once for the same function; it consumes the state it is given."""
    return jax.jit(epoch, donate_argnums=0, static_argnames="count")


@functools.lru_cache(maxsize=16)
def compile_epochs(epoch: Epoch, fixed_axes: PyTree) -> Epoch:
    """Several trainings' epoch compiled as one: states and results have a leading axis.

    Args:
      epoch: of one training.
      fixed_axes: hashable, which of its fixed values differ between them (0) and which do
        not (None).
    """
    return jax.jit(jax.vmap(epoch, in_axes=(0, fixed_axes, None)), donate_argnums=0)
