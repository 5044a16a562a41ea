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
    Frozen,
    Trained,
    Whole,
    coefficients,
    static_defense,
)
from uatmc_jax.errors import InputError
from uatmc_jax.models import Modal, Model, Params, ProjectorHead, unlike_widths, unmet
from uatmc_jax.models.projection import by_blocks, project_catalogue
from uatmc_jax.models.protocol import PyTree
from uatmc_jax.placement import Layout, made, place, shardings
from uatmc_jax.settings import Settings
from uatmc_jax.training.epoch import Epoch, TrainState, init_state, steps_per_epoch
from uatmc_jax.training.epochs import (
    adversarial_epoch,
    compiled,
    pretrain_epoch,
    spread_rows,
    updates_of,
)
from uatmc_jax.training.harmless import harmless_shapes
from uatmc_jax.training.objectives import PretrainCoefficients
from uatmc_jax.training.rows import check_rows
from uatmc_jax.training.stage import Stage

# (parameters, z or None to project the features) -> validation metrics
Validate = Callable[[Params, Modal | None], dict[str, jax.Array]]


def stage_key(seed: int, purpose: str) -> jax.Array:
    """The key of "init", "pretrain" or "adversarial"; independent of one another."""
    purposes = ("init", "pretrain", "adversarial")
    return jax.random.fold_in(jax.random.key(seed), purposes.index(purpose))


def init_params(settings: Settings, model: Model, layout: Layout | None = None) -> Params:
    """Fresh parameters from the config's seed, on several devices where these have them."""
    init = jax.jit(model.init) if layout is None else made(*layout, model.init)
    return init(stage_key(settings.seed, "init"))


def pretrain_stage(
    settings: Settings,
    model: Model,
    params: Params,
    data: DeviceData,
    validate: Validate,
    layout: Layout | None = None,
) -> tuple[Stage, TrainState]:
    """Stage 1, which trains everything.

    Args:
      settings: the experiment.
      model: the recommender.
      params: where to start.
      data: on the device.
      validate: (Params, z or None) -> validation metrics.
      layout: where the parameters lie on several devices, then filled up; None for one.

    Raises:
      InputError: L_NCE is wanted of modalities whose z are of unlike width, or of a model
        with an objective of its own; steps by rows of a model that reads others than the
        batch's; or epochs in chunks of a model with `epoch_graph`.
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
    if settings.checkpoint.chunk_steps and model.epoch_graph is not None:
        raise InputError(
            f"config.checkpoint.chunk_steps = {settings.checkpoint.chunk_steps}: model "
            f"{model.name} makes a graph as each epoch begins, of the parameters then. "
            "Set it to 0."
        )
    check_steps(settings, model, params, data, "pretrain")
    warmup, updates = chosen.mu_warmup_epochs, updates_of(chosen, data, layout)
    optimizer, epoch = pretrain_epoch(model, chosen.nce_items, warmup, updates)
    weights = PretrainCoefficients(jnp.float32(chosen.mu), jnp.float32(chosen.alpha))
    state = init_state(_copy(params), optimizer, stage_key(settings.seed, "pretrain"))
    rows = spread_rows(layout, optimizer, state, lambda params: params)
    stage = Stage(
        name="pretrain",
        run_epoch=compiled(epoch, layout, rows),
        fixed=(data, weights),
        assemble=lambda trained: trained,
        disassemble=lambda params: params,
        validate=lambda params: validate(params, None),
        epochs=chosen.epochs,
        patience=chosen.patience,
        eval_every=settings.eval.every,
        keep_every=settings.checkpoint.keep_every,
        n_steps=steps_per_epoch(data.n_pairs, chosen.batch_size),
        chunk_steps=settings.checkpoint.chunk_steps,
        rows=rows,
    )
    return stage, _placed(state, layout, rows)


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


def adversarial_stage(
    settings: Settings,
    model: Model,
    params: Params,
    data: DeviceData,
    validate: Validate,
    layout: Layout | None = None,
) -> tuple[Stage, TrainState]:
    """Stage 2, which trains the encoder and, if told so, the projectors' last layer.

    What is frozen of the projectors is computed once, for the whole catalogue.

    Args:
      settings: the experiment.
      model: the recommender.
      params: the pre-trained parameters.
      data: on the device.
      validate: (Params, z or None) -> validation metrics.
      layout: as of `pretrain_stage`.
    """
    chosen = settings.adversarial
    parts = adversarial_parts(settings, model, params, data, layout=layout)
    state = parts.first_state(settings.seed)
    rows = spread_rows(layout, parts.optimizer, state, parts.disassemble)
    stage = Stage(
        name="adversarial",
        run_epoch=compiled(parts.epoch, layout, rows),
        fixed=(parts.frozen, coefficients(chosen)),
        assemble=parts.assemble,
        disassemble=parts.disassemble,
        validate=lambda params: validate(params, parts.content(parts.disassemble(params))),
        epochs=chosen.epochs,
        patience=chosen.patience,
        eval_every=settings.eval.every,
        keep_every=settings.checkpoint.keep_every,
        n_steps=steps_per_epoch(data.n_pairs, chosen.batch_size),
        chunk_steps=settings.checkpoint.chunk_steps,
        rows=rows,
    )
    return stage, _placed(state, layout, rows)


class AdversarialParts(NamedTuple):
    """Stage 2 without its scalars and its seed.

    Attributes:
      epoch: not compiled; its fixed values are (Frozen, Coefficients).
      optimizer: makes its updates.
      frozen: what it reads and does not train.
      first_state: seed -> the state it starts from.
      assemble: trained parameters -> the whole model's Params.
      disassemble: the way back.
      content: trained parameters -> z, modal, (|I|, d).
    """

    epoch: Epoch
    optimizer: optax.GradientTransformation
    frozen: Frozen
    first_state: Callable[[int], TrainState]
    assemble: Callable[[Trained], Params]
    disassemble: Callable[[Params], Trained]
    content: Callable[[Trained], Modal]


def adversarial_parts(
    settings: Settings,
    model: Model,
    params: Params,
    data: DeviceData,
    z: Modal | None = None,
    layout: Layout | None = None,
) -> AdversarialParts:
    """What trainings that differ in scalars and seeds only share; arguments as above.

    Args:
      settings, model, params, data: as above.
      z: modal, (|I|, d), of the pre-trained projectors, if known already.
      layout: as of `pretrain_stage`.

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
    names = settings.data.modality_names
    defense = static_defense(chosen, names)
    updates = updates_of(chosen, data, layout)
    optimizer, epoch = adversarial_epoch(model, defense, chosen.ramp_epochs, updates)
    on_features = chosen.level == "feature"
    clean = project_catalogue(model, params, data.features) if z is None else z
    frozen = Frozen(
        z=clean[::-1] if chosen.swap_modalities else clean,
        graph=data.graph,
        projectors=params.projectors if on_features else None,
        features=data.features if on_features else None,
        hidden=_read_all(layer, params, data) if layer else None,
        shapes=None
        if chosen.defense != "shaped"
        else harmless_shapes(chosen, names, model, params, data.features),
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

    return AdversarialParts(epoch, optimizer, frozen, first_state, assemble, disassemble, content)


def _read_all(layer: ProjectorHead, params: Params, data: DeviceData) -> Modal:
    """What the projectors' last layer reads of every item."""

    @jax.jit
    def read(projectors: PyTree, features: Modal) -> Modal:
        return by_blocks(functools.partial(layer.read, projectors), features)

    return read(params.projectors, data.features)


def _placed(state: TrainState, layout: Layout | None, rows: TrainState | None) -> TrainState:
    return state if layout is None else place(state, shardings(layout.placement, rows))


def _copy(tree):
    # An epoch consumes its state; the caller's arrays must survive it.
    return jax.tree.map(jnp.copy, tree)
