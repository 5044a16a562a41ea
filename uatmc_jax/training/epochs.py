"""The stages' epochs: objective, optimiser and order, the same objects for the same settings."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from uatmc_jax.data.dataset import DeviceData
from uatmc_jax.defenses import (
    AdversarialSettings,
    Coefficients,
    Defense,
    Frozen,
    adversarial_objective,
)
from uatmc_jax.errors import InputError
from uatmc_jax.models import Model
from uatmc_jax.models.protocol import PyTree
from uatmc_jax.optimizer import OptimizerSettings, make_adam, make_optimizer
from uatmc_jax.placement import Layout, Placement, on_every_device, spread_epoch, state_rows
from uatmc_jax.settings import PretrainSettings
from uatmc_jax.training.batches import draw_items
from uatmc_jax.training.epoch import (
    Epoch,
    Order,
    TrainState,
    compile_epoch,
    make_epoch,
    steps_per_epoch,
)
from uatmc_jax.training.objectives import pretrain_objective
from uatmc_jax.training.rows import Rows, table_kinds

# Of an epoch's key, what its graph is drawn with: far from the numbers of its other keys.
_GRAPH = 0x67726170


class Updates(NamedTuple):
    """What makes a stage's updates of its gradients, by value: equal ones are compiled once."""

    optimizer: OptimizerSettings
    steps: int
    epochs: int
    batch_size: int
    placement: Placement | None

    @property
    def order(self) -> Order:
        """Of the batches."""
        return Order(self.batch_size, self.optimizer.shuffle == "keyed", self.placement)


def updates_of(
    chosen: PretrainSettings | AdversarialSettings, data: DeviceData, layout: Layout | None
) -> Updates:
    """Of a stage's settings.

    Args:
      chosen: the stage's.
      data: on the device.
      layout: where the parameters lie on several devices; None on one.

    Raises:
      InputError: 2^31 training pairs or more are to be sorted.
    """
    if data.n_pairs >= 2**31 and chosen.optimizer.shuffle == "sort":
        raise InputError(
            f"optimizer.shuffle = 'sort': {data.n_pairs} training pairs are 2^31 or more, too many "
            "to be sorted. Set it to 'keyed' in both stages."
        )
    steps = steps_per_epoch(data.n_pairs, chosen.batch_size)
    placement = None if layout is None else layout.placement
    return Updates(chosen.optimizer, steps, chosen.epochs, chosen.batch_size, placement)


def rows_of(model: Model, updates: Updates) -> Rows | None:
    """What is a table, if steps write the batch's rows alone."""
    chosen = updates.optimizer
    if chosen.rows == "dense":
        return None
    adam = make_adam(chosen, updates.steps, updates.epochs)
    rows = Rows(table_kinds(model), adam, chosen.rows == "deferred")
    return rows if updates.placement is None else rows._replace(block=None)


def spread_rows(
    layout: Layout | None,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    trained: Callable[[PyTree], PyTree],
) -> TrainState | None:
    """The rows of a stage's state on several devices; None on one.

    Args:
      layout: where the parameters lie.
      optimizer: of the stage.
      state: of the stage.
      trained: Params -> what of it the stage trains.
    """
    if layout is None:
        return None
    rows, no_table = trained(layout.rows), {"epoch": 0, "key": 0}
    moments = state_rows(optimizer, state.optimizer, rows)
    return dataclasses.replace(state, trained=rows, optimizer=moments, **no_table)  # type: ignore[arg-type]


def compiled(epoch: Epoch, layout: Layout | None, rows: TrainState | None) -> Epoch:
    """The epoch compiled for one device, or for several that have the state by its rows."""
    return compile_epoch(epoch) if layout is None else spread_epoch(layout.placement, rows, epoch)


@functools.lru_cache(maxsize=16)
def pretrain_epoch(
    model: Model, nce_items: int, warmup_epochs: int, updates: Updates
) -> tuple[optax.GradientTransformation, Epoch]:
    """Optimiser and epoch of stage 1, the same objects for the same arguments."""
    order = updates.order._replace(numbered=model.epoch_graph is not None)

    def objective(params, fixed, batch, key):
        data, weights = fixed
        drawn = draw_items(key, data.graph.n_items, nce_items, order.keyed)
        if order.placement is not None:
            drawn = on_every_device(order.placement, drawn)
        return pretrain_objective(model, params, data, weights, drawn, batch, key)

    optimizer = make_optimizer(updates.optimizer, updates.steps, updates.epochs)
    full = make_epoch(objective, optimizer, order, rows_of(model, updates))

    def epoch(state: TrainState, fixed: tuple, *given: Any, **chosen: Any):
        read, weights = fixed
        if warmup_epochs:
            weights = weights._replace(mu=_risen(state, warmup_epochs) * weights.mu)
        if model.epoch_graph is not None:
            key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.epoch)
            drawn = model.epoch_graph(jax.random.fold_in(key, _GRAPH), state.trained, read)
            read = dataclasses.replace(read, graph=drawn)
        return full(state, (read, weights), *given, **chosen)

    return optimizer, epoch


def _risen(state: TrainState, epochs: int) -> jax.Array:
    """How far a weight has risen that takes so many epochs, in the epoch after `state`."""
    return jnp.minimum((state.epoch + 1) / epochs, 1.0)


@functools.lru_cache(maxsize=16)
def adversarial_epoch(
    model: Model, defense: Defense, ramp_epochs: int, updates: Updates
) -> tuple[optax.GradientTransformation, Epoch]:
    """Optimiser and epoch of stage 2, the same objects for the same arguments."""

    def objective(trained, fixed, batch, key):
        frozen, weights = fixed
        return adversarial_objective(model, defense, trained, frozen, weights, batch, key)

    optimizer = make_optimizer(updates.optimizer, updates.steps, updates.epochs)
    full = make_epoch(objective, optimizer, updates.order, rows_of(model, updates))

    def epoch(state: TrainState, fixed: tuple[Frozen, Coefficients], *given: Any, **chosen: Any):
        frozen, weights = fixed
        if ramp_epochs:
            share = _risen(state, ramp_epochs)
            lam, eps = share * weights.lam, share * weights.eps
            weights = dataclasses.replace(weights, lam=lam, eps=eps)
        return full(state, (frozen, weights), *given, **chosen)

    return optimizer, epoch
