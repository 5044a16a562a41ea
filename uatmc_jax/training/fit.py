"""One stage trained in memory: what the stages of a run are, without its files."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from uatmc_jax.data import Dataset
from uatmc_jax.defenses import check_model
from uatmc_jax.errors import InputError
from uatmc_jax.evaluation.metrics import make_measure
from uatmc_jax.evaluation.ranking import make_plan
from uatmc_jax.models import Modal, Model, Params, device_data
from uatmc_jax.settings import AdversarialSettings, DataSettings, PretrainSettings, Settings
from uatmc_jax.training.epoch import TrainState
from uatmc_jax.training.stage import SELECTED_BY, Hooks, Progress, run_stage
from uatmc_jax.training.stages import adversarial_stage, init_params, pretrain_stage


def fit(
    model: Model,
    data: Dataset,
    stage: PretrainSettings | AdversarialSettings,
    *,
    init: Params | None = None,
    seed: int = 0,
    keep: str = "",
    on_epoch: Callable[[dict], None] = lambda record: None,
) -> Params:
    """Pre-trains a model, or hardens a pre-trained one.

    The bits are those of `uatmc train` under the same settings and seed.

    Args:
      model: the recommender.
      data: to train on.
      stage: `pretrain(...)`, or one of `defenses`.
      init: where to start; by default fresh parameters of the seed. A hardening needs it.
      seed: of initial parameters, batches and negatives.
      keep: "best" epoch by validation recall@20, or the "last"; by default the best one
        of a pre-training, the last one of a hardening, which goes on with every epoch.
      on_epoch: told every epoch's record: losses by term, validation metrics, seconds.

    Raises:
      InputError: something given cannot be used, before any long work.
      DivergedError: a value that is not finite, or all embeddings have shrunk to nothing.
    """
    hardens = isinstance(stage, AdversarialSettings)
    which = keep or ("last" if hardens else "best")
    if which not in ("best", "last"):
        raise InputError(f"keep = {keep!r}: wanted 'best' or 'last'.")
    if hardens and init is None:
        raise InputError("hardening starts from a trained model: give its parameters as init.")
    if stage.epochs < 1:
        raise InputError(f"epochs = {stage.epochs}: wanted 1 or more.")
    if isinstance(stage, AdversarialSettings):
        check_model(stage, model, data.raw_dims)
    elif stage.init_from:
        raise InputError(
            f"init_from = '{stage.init_from}': nothing is read from a folder here. Give its "
            "parameters as init: open_run(FOLDER, 'pretrain/best').params."
        )
    settings = _settings(data, stage, seed)
    params = init_params(settings, model) if init is None else init
    make = adversarial_stage if hardens else pretrain_stage
    on_device = device_data(model, data)
    built, state = make(settings, model, params, on_device, _validation(model, data))
    kept: dict[str, TrainState] = {}

    def save(name: str, state: TrainState, progress: Progress) -> None:
        del progress
        if name not in ("best", "latest"):
            return
        # The stage's next epoch consumes its state.
        kept[name] = jax.tree.map(jnp.copy, state)

    hooks = Hooks(save, on_epoch, lambda: False, lambda: "none, as nothing is written")
    run_stage(built, state, Progress(), on_device, hooks, save_seconds=math.inf)
    return built.assemble(kept["best" if which == "best" else "latest"].trained)


def _settings(data: Dataset, stage: PretrainSettings | AdversarialSettings, seed: int) -> Settings:
    """A run's settings around the stage's; the data's modalities by their names alone."""
    named = DataSettings(modalities=tuple(f"{name}:{name}.npy" for name in data.modalities))
    if isinstance(stage, AdversarialSettings):
        return Settings(seed=seed, data=named, adversarial=stage)
    unhardened = AdversarialSettings(defense="none", epochs=0)
    return Settings(seed=seed, data=named, pretrain=stage, adversarial=unhardened)


def _validation(
    model: Model, data: Dataset
) -> Callable[[Params, Modal | None], dict[str, jax.Array]]:
    k = int(SELECTED_BY.partition("@")[2])
    if k > data.n_items:
        raise InputError(f"data set '{data.name}' has {data.n_items} items; wanted {k} or more.")
    plan = make_plan(data.train, data.n_users, data.n_items)
    held_out = data.held_out("valid")
    measure = make_measure(model, device_data(model, data), plan, (k,))
    return lambda params, z: measure(params, z, [held_out])[0]
