"""What settings name, made: the data set and the model."""

import functools
import json
import os
import pathlib

from uatmc_jax.data import Dataset, load_dataset, make_synthetic, parse_modalities
from uatmc_jax.errors import InputError
from uatmc_jax.models import Model, make_mmgcn, make_vbpr
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
    """
    plain = json.dumps(to_dict(settings), sort_keys=True)
    return _build_model(plain, n_users, n_items, tuple(raw_dims.items()))


@functools.cache
def _build_model(plain: str, n_users: int, n_items: int, widths: tuple) -> Model:
    settings, raw_dims = from_values(ModelSettings, json.loads(plain)), dict(widths)
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
