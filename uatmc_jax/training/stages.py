"""The two stages, assembled from settings: objective, optimiser, compiled epoch, first state."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from uatmc_jax.data.dataset import DeviceData
from uatmc_jax.defenses import (
    AdversarialSettings,
    Coefficients,
    Defense,
    Frozen,
    Trained,
    Whole,
    adversarial_objective,
    coefficients,
    static_defense,
)
from uatmc_jax.errors import InputError
from uatmc_jax.models import Modal, Model, Params, ProjectorHead, unlike_widths, unmet
from uatmc_jax.models.projection import by_blocks, project_catalogue
from uatmc_jax.models.protocol import PyTree
from uatmc_jax.optimizer import OptimizerSettings, make_adam, make_optimizer
from uatmc_jax.settings import PretrainSettings, Settings
from uatmc_jax.training.epoch import (
    Epoch,
    Order,
    TrainState,
    compile_epoch,
    init_state,
    make_epoch,
    steps_per_epoch,
)
from uatmc_jax.training.objectives import PretrainCoefficients, pretrain_objective
from uatmc_jax.training.rows import Rows, check_rows, table_kinds
from uatmc_jax.training.stage import Stage

# Of an epoch's key, what its graph is drawn with: far from the numbers of its other keys.
_GRAPH = 0x67726170
# (parameters, z or None to project the features) -> validation metrics
Validate = Callable[[Params, Modal | None], dict[str, jax.Array]]


def stage_key(seed: int, purpose: str) -> jax.Array:
    """The key of "init", "pretrain" or "adversarial"; independent of one another."""
    purposes = ("init", "pretrain", "adversarial")
    return jax.random.fold_in(jax.random.key(seed), purposes.index(purpose))


def init_params(settings: Settings, model: Model) -> Params:
    """Fresh parameters from the config's seed."""
    return jax.jit(model.init)(stage_key(settings.seed, "init"))


def pretrain_stage(
    settings: Settings, model: Model, params: Params, data: DeviceData, validate: Validate
) -> tuple[Stage, TrainState]:
    """Stage 1, which trains everything.

    Args:
      settings: the experiment.
      model: the recommender.
      params: where to start.
      data: on the device.
      validate: (Params, z or None) -> validation metrics.

    Raises:
      InputError: L_NCE is wanted of modalities whose z are of unlike width, or of a model
        with an objective of its own; or steps by rows of a model that reads others than the
        batch's.
    """
    chosen = settings.pretrain
    if chosen.alpha and model.objective is not None:
        raise InputError(
            f"config.pretrain.alpha = {chosen.alpha}: model {model.name} is trained by its own "
            "objective, which has no L_NCE. Set it to 0."
        )
    raw_dims = {str(m): x.shape[1] for m, x in enumerate(data.features)}
    widths = unlike_widths(model, raw_dims) if chosen.alpha else None
    if widths:
        raise InputError(
            f"config.pretrain.alpha = {chosen.alpha}: L_NCE compares the modalities' z, which "
            f"model {model.name} has of unlike widths, {[*widths.values()]}. Set it to 0."
        )
    check_steps(settings, model, params, data, "pretrain")
    warmup, updates = chosen.mu_warmup_epochs, _updates(chosen, data)
    optimizer, epoch = _pretrain_epoch(model, chosen.nce_items, warmup, updates)
    weights = PretrainCoefficients(jnp.float32(chosen.mu), jnp.float32(chosen.alpha))
    stage = Stage(
        name="pretrain",
        run_epoch=compile_epoch(epoch),
        fixed=(data, weights),
        assemble=lambda trained: trained,
        disassemble=lambda params: params,
        validate=lambda params: validate(params, None),
        epochs=chosen.epochs,
        patience=chosen.patience,
        eval_every=settings.eval.every,
        keep_every=settings.checkpoint.keep_every,
    )
    return stage, init_state(_copy(params), optimizer, stage_key(settings.seed, "pretrain"))


class _Updates(NamedTuple):
    """What makes a stage's updates of its gradients, by value: equal ones are compiled once."""

    optimizer: OptimizerSettings
    steps: int
    epochs: int
    batch_size: int


def _updates(chosen: PretrainSettings | AdversarialSettings, data: DeviceData) -> _Updates:
    steps = steps_per_epoch(data.pairs[0].size, chosen.batch_size)
    return _Updates(chosen.optimizer, steps, chosen.epochs, chosen.batch_size)


def _rows(model: Model, updates: _Updates) -> Rows | None:
    """What is a table, if steps write the batch's rows alone."""
    chosen = updates.optimizer
    if chosen.rows == "dense":
        return None
    adam = make_adam(chosen, updates.steps, updates.epochs)
    return Rows(table_kinds(model), adam, chosen.rows == "deferred")


def check_steps(
    settings: Settings, model: Model, params: Params, data: DeviceData, *stages: str
) -> None:
    """Requires of a model what the stages' `optimizer.rows` needs of it.

    Args:
      settings: the experiment.
      model: the recommender.
      params: of the model.
      data: on the device.
      *stages: of "pretrain" and "adversarial".

    Raises:
      InputError: a batch's loss reads rows of the tables beyond the batch's own.
    """
    for stage in stages:
        rows = getattr(settings, stage).optimizer.rows
        if rows != "dense":
            check_rows(model, params, data.features, f"config.{stage}.optimizer.rows = {rows!r}")


@functools.lru_cache(maxsize=16)
def _pretrain_epoch(
    model: Model, nce_items: int, warmup_epochs: int, updates: _Updates
) -> tuple[optax.GradientTransformation, Epoch]:
    """Optimiser and epoch of stage 1, the same objects for the same arguments."""

    def objective(params, fixed, batch, key):
        data, weights = fixed
        return pretrain_objective(model, params, data, weights, nce_items, batch, key)

    optimizer = make_optimizer(updates.optimizer, updates.steps, updates.epochs)
    order = Order(updates.batch_size, updates.optimizer.shuffle == "keyed")
    full = make_epoch(objective, optimizer, order, _rows(model, updates))

    def epoch(state: TrainState, fixed: tuple[DeviceData, PretrainCoefficients], data: DeviceData):
        read, weights = fixed
        if warmup_epochs:
            weights = weights._replace(mu=_risen(state, warmup_epochs) * weights.mu)
        if model.epoch_graph is not None:
            key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.epoch)
            drawn = model.epoch_graph(jax.random.fold_in(key, _GRAPH), read)
            read = dataclasses.replace(read, graph=drawn)
        return full(state, (read, weights), data)

    return optimizer, epoch


def _risen(state: TrainState, epochs: int) -> jax.Array:
    """How far a weight has risen that takes so many epochs, in the epoch after `state`."""
    return jnp.minimum((state.epoch + 1) / epochs, 1.0)


@functools.lru_cache(maxsize=16)
def _adversarial_epoch(
    model: Model, defense: Defense, ramp_epochs: int, updates: _Updates
) -> tuple[optax.GradientTransformation, Epoch]:
    """Optimiser and epoch of stage 2, the same objects for the same arguments."""

    def objective(trained, fixed, batch, key):
        frozen, weights = fixed
        return adversarial_objective(model, defense, trained, frozen, weights, batch, key)

    optimizer = make_optimizer(updates.optimizer, updates.steps, updates.epochs)
    order = Order(updates.batch_size, updates.optimizer.shuffle == "keyed")
    full = make_epoch(objective, optimizer, order, _rows(model, updates))

    def epoch(state: TrainState, fixed: tuple[Frozen, Coefficients], data: DeviceData):
        frozen, weights = fixed
        if ramp_epochs:
            share = _risen(state, ramp_epochs)
            lam, eps = share * weights.lam, share * weights.eps
            weights = dataclasses.replace(weights, lam=lam, eps=eps)
        return full(state, (frozen, weights), data)

    return optimizer, epoch


def adversarial_stage(
    settings: Settings, model: Model, params: Params, data: DeviceData, validate: Validate
) -> tuple[Stage, TrainState]:
    """Stage 2, which trains the encoder and, if told so, the projectors' last layer.

    What is frozen of the projectors is computed once, for the whole catalogue.

    Args:
      settings: the experiment.
      model: the recommender.
      params: the pre-trained parameters.
      data: on the device.
      validate: (Params, z or None) -> validation metrics.
    """
    chosen = settings.adversarial
    parts = adversarial_parts(settings, model, params, data)
    stage = Stage(
        name="adversarial",
        run_epoch=compile_epoch(parts.epoch),
        fixed=(parts.frozen, coefficients(chosen)),
        assemble=parts.assemble,
        disassemble=parts.disassemble,
        validate=lambda params: validate(params, parts.content(parts.disassemble(params))),
        epochs=chosen.epochs,
        patience=chosen.patience,
        eval_every=settings.eval.every,
        keep_every=settings.checkpoint.keep_every,
    )
    return stage, parts.first_state(settings.seed)


class AdversarialParts(NamedTuple):
    """Stage 2 without its scalars and its seed.

    Attributes:
      epoch: not compiled; its fixed values are (Frozen, Coefficients).
      frozen: what it reads and does not train.
      first_state: seed -> the state it starts from.
      assemble: trained parameters -> the whole model's Params.
      disassemble: the way back.
      content: trained parameters -> z, modal, (|I|, d).
    """

    epoch: Epoch
    frozen: Frozen
    first_state: Callable[[int], TrainState]
    assemble: Callable[[Trained], Params]
    disassemble: Callable[[Params], Trained]
    content: Callable[[Trained], Modal]


def adversarial_parts(
    settings: Settings, model: Model, params: Params, data: DeviceData, z: Modal | None = None
) -> AdversarialParts:
    """What trainings that differ in scalars and seeds only share; arguments as above.

    Args:
      settings, model, params, data: as above.
      z: modal, (|I|, d), of the pre-trained projectors, if known already.

    Raises:
      InputError: the projectors' last layer is to be trained and the model names none; steps
        by rows are wanted of a model that reads others than the batch's.
    """
    chosen = settings.adversarial
    layer = model.head if chosen.train_projector_head else None
    lacks = unmet(model, "train_projector_head") if chosen.train_projector_head else None
    if lacks:
        raise InputError(f"config.adversarial.train_projector_head = True {lacks}")
    check_steps(settings, model, params, data, "adversarial")
    defense = static_defense(chosen, settings.data.modality_names)
    updates = _updates(chosen, data)
    optimizer, epoch = _adversarial_epoch(model, defense, chosen.ramp_epochs, updates)
    on_features = chosen.level == "feature"
    clean = project_catalogue(model, params, data.features) if z is None else z
    frozen = Frozen(
        z=clean[::-1] if chosen.swap_modalities else clean,
        graph=data.graph,
        projectors=params.projectors if on_features else None,
        features=data.features if on_features else None,
        hidden=_read_all(layer, params, data) if layer else None,
        whole=None if model.objective is None else Whole(params, data),
    )

    def assemble(trained: Trained) -> Params:
        if layer is None:
            return dataclasses.replace(params, encoder=trained.encoder)
        projectors = layer.join(params.projectors, trained.output)
        return dataclasses.replace(params, encoder=trained.encoder, projectors=projectors)

    def disassemble(params: Params) -> Trained:
        return Trained(params.encoder, layer.split(params.projectors) if layer else None)

    def content(trained: Trained) -> Modal:
        return layer.apply(trained.output, frozen.hidden) if layer else clean  # type: ignore[arg-type]

    def first_state(seed: int) -> TrainState:
        return init_state(_copy(disassemble(params)), optimizer, stage_key(seed, "adversarial"))

    return AdversarialParts(epoch, frozen, first_state, assemble, disassemble, content)


def _read_all(layer: ProjectorHead, params: Params, data: DeviceData) -> Modal:
    """What the projectors' last layer reads of every item."""

    @jax.jit
    def read(projectors: PyTree, features: Modal) -> Modal:
        return by_blocks(functools.partial(layer.read, projectors), features)

    return read(params.projectors, data.features)


def _copy(tree):
    # An epoch consumes its state; the caller's arrays must survive it.
    return jax.tree.map(jnp.copy, tree)
