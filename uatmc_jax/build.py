"""What settings name, made: the data set and the model."""

import functools
import importlib
import json
import os
import pathlib
import traceback

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.data import (
    Dataset,
    Interactions,
    load_dataset,
    make_synthetic,
    parse_modalities,
)
from uatmc_jax.errors import InputError
from uatmc_jax.models import Model, make_graph, make_linear_vbpr, make_mmgcn, make_vbpr
from uatmc_jax.settings import DataSettings, ModelSettings, from_values, to_dict

DEFAULT_ROOT = "data"


def open_dataset(settings: DataSettings) -> Dataset:
    """Reads or draws the data set a config names.

    Raises:
      InputError: see `load_dataset`.
    """
    if settings.source == "synthetic":
        dataset = make_synthetic(settings.synthetic_seed)
        named = tuple(parse_modalities(settings.modalities))
        if named != dataset.modalities:
            raise InputError(
                f"config.data.modalities names {named}, but the synthetic data has "
                f"{dataset.modalities}. Leave the field as it is, or use files."
            )
        return dataset
    return load_dataset(dataset_folder(settings), settings.name, settings.modalities)


def dataset_folder(settings: DataSettings) -> pathlib.Path:
    """Where a data set's files are: below `root`, or UATMC_DATA in place of its default."""
    root = settings.root
    if root == DEFAULT_ROOT:
        root = os.environ.get("UATMC_DATA", root)
    return pathlib.Path(root) / settings.name


def build_model(
    settings: ModelSettings, n_users: int, n_items: int, raw_dims: dict[str, int]
) -> Model:
    """The model a config names, for a catalogue of this size.

    The same arguments give the same functions, so that what is compiled for a
    model serves every checkpoint of it.

    Args:
      settings: the config's `model` section.
      n_users: |U|.
      n_items: |I|.
      raw_dims: ordered {modality: width of its raw features}.

    Raises:
      InputError: a model of your own that cannot be imported, or whose functions
        give arrays of other shapes than `Model` says.
    """
    plain = json.dumps(to_dict(settings), sort_keys=True)
    return _build_model(plain, n_users, n_items, tuple(raw_dims.items()))


@functools.cache
def _build_model(plain: str, n_users: int, n_items: int, widths: tuple) -> Model:
    settings, raw_dims = from_values(ModelSettings, json.loads(plain)), dict(widths)
    if ":" in settings.name:
        return _own_model(settings, n_users, n_items, raw_dims)
    if settings.name == "linear_vbpr":
        return make_linear_vbpr(n_users, n_items, raw_dims, settings.dim, settings.temperature)
    hidden = {m: tuple(settings.hidden.get(m, settings.default_hidden)) for m in raw_dims}
    shared = (n_users, n_items, raw_dims, hidden, settings.dim, settings.temperature)
    if settings.name == "vbpr":
        return make_vbpr(*shared)
    return make_mmgcn(
        *shared,
        latent_dims=dict(settings.latent_dims),
        n_layers=settings.n_layers,
        fuse=settings.fuse,
        train_preference=settings.train_preference,
    )


def _own_model(
    settings: ModelSettings, n_users: int, n_items: int, raw_dims: dict[str, int]
) -> Model:
    """What the function that "module:function" names makes."""
    module, _, function = settings.name.partition(":")
    sizes = n_users, n_items, raw_dims
    try:
        model = getattr(importlib.import_module(module), function)(settings, *sizes)
        _check_shapes(settings.name, model, *sizes)
    except InputError:
        raise
    # The module is the user's code: whatever it raises is about the model it makes.
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        raise InputError(
            f"config.model.name = {settings.name!r}: {type(error).__name__}: {error} "
            f"({where.filename}, line {where.lineno}). Name an importable module and a factory in "
            "it, as in 'my_models:make_lightgcn' (docs/own_model.md)."
        ) from error
    return model


def _check_shapes(
    name: str, model: Model, n_users: int, n_items: int, raw_dims: dict[str, int]
) -> None:
    """Requires that the functions fit together, without computing anything."""
    if not isinstance(model, Model):
        raise InputError(
            f"config.model.name = {name!r}: it returned {type(model).__name__}, not a "
            "uatmc_jax.models.Model. See docs/own_model.md."
        )
    params = jax.eval_shape(model.init, jax.random.key(0))
    features = tuple(jax.ShapeDtypeStruct((n_items, w), jnp.float32) for w in raw_dims.values())
    z = jax.eval_shape(model.project, params.projectors, features)
    if len(z) != len(raw_dims) or any(x.ndim != 2 or len(x) != n_items for x in z):
        raise InputError(
            f"config.model.name = {name!r}: project gives {[x.shape for x in z]} for "
            f"{len(raw_dims)} modalities of {n_items} items; wanted one (items, d) for each."
        )
    one = Interactions(np.zeros(1, np.int32), np.zeros(1, np.int32))
    user, item = jax.eval_shape(model.encode, params.encoder, z, make_graph(one, n_users, n_items))
    rows = user.shape[:1] + item.shape[:1]
    if rows != (n_users, n_items) or user.shape[1:] != item.shape[1:] or user.ndim != 2:
        raise InputError(
            f"config.model.name = {name!r}: encode gives users {user.shape} and items "
            f"{item.shape}; wanted ({n_users}, D) and ({n_items}, D)."
        )
