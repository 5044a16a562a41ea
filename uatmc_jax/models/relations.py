"""A data set as one model reads it: with what the model builds of its raw features."""

import functools

import numpy as np

from uatmc_jax.data.dataset import Dataset, DeviceData
from uatmc_jax.data.graph import Graph
from uatmc_jax.errors import InputError
from uatmc_jax.models.protocol import Model


def device_data(model: Model, dataset: Dataset) -> DeviceData:
    """What training and attacks read, its graph with the model's relations.

    For a model without `relate` and `relate_users` these are the data set's own arrays.

    Args:
      model: the recommender.
      dataset: the data.

    Raises:
      InputError: features that the model's `relate` cannot use.
    """
    if model.relate is None and model.relate_users is None:
        return dataset.on_device
    return _related(model, dataset)


@functools.lru_cache(maxsize=4)
def _related(model: Model, dataset: Dataset) -> DeviceData:
    """Comparing all items with all takes seconds, and every user of the data asks for it."""
    data = dataset.on_device
    return data.replace(graph=related(model, dataset, data.graph))


def related(model: Model, dataset: Dataset, graph: Graph) -> Graph:
    """The graph with the model's relations; itself for a model without.

    Args:
      model: the recommender.
      dataset: the data, whose interactions and features they are built of.
      graph: of the data.

    Raises:
      InputError: features that the model's `relate` cannot use.
    """
    if model.relate_users is not None:
        graph = graph.replace(user_relations=model.relate_users(dataset.train))
    if model.relate is not None:
        check_features(model, dataset)
        graph = graph.replace(relations=model.relate(dataset.features))
    return graph


def check_features(model: Model, dataset: Dataset) -> None:
    """Raises InputError for an item whose raw features have no direction, naming it."""
    for modality, rows in zip(dataset.modalities, dataset.features, strict=True):
        sizes = np.abs(rows).max(axis=1, initial=0.0)
        wrong = np.flatnonzero(~(np.isfinite(sizes) & (sizes > 0)))
        if len(wrong):
            raise InputError(
                f"data set '{dataset.name}': item {wrong[0]} has no {modality} feature (its row is "
                f"zero or not finite), so model {model.name} cannot say which items are like it. "
                f"{len(wrong)} items have none. Give them one, for example the mean of the others."
            )
