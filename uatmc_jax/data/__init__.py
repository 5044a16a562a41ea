"""Interactions and item features: reading, checking, splitting, generating."""

from uatmc_jax.data.csr import CSR, contains, degrees, make_csr, nth_absent
from uatmc_jax.data.dataset import (
    DEFAULT_MODALITIES,
    Dataset,
    DeviceData,
    Sizes,
    load_dataset,
    make_dataset,
    present_modalities,
    put_on_device,
    warm,
)
from uatmc_jax.data.features import load_features, parse_modalities
from uatmc_jax.data.graph import Adjacency, Graph, make_adjacency, make_graph
from uatmc_jax.data.ids import canonical
from uatmc_jax.data.interactions import (
    SPLITS,
    Interactions,
    of_users,
    read_inter,
    split_interactions,
)
from uatmc_jax.data.names import (
    ItemNames,
    load_item_names,
    load_item_titles,
    load_names,
    resolve_items,
)
from uatmc_jax.data.source import DataSettings, dataset_folder, open_dataset
from uatmc_jax.data.statistics import format_statistics, statistics
from uatmc_jax.data.synthetic import make_synthetic
from uatmc_jax.data.writing import write_dataset

__all__ = [
    "CSR",
    "DEFAULT_MODALITIES",
    "SPLITS",
    "Adjacency",
    "DataSettings",
    "Dataset",
    "DeviceData",
    "Graph",
    "Interactions",
    "ItemNames",
    "Sizes",
    "canonical",
    "contains",
    "dataset_folder",
    "degrees",
    "format_statistics",
    "load_dataset",
    "load_features",
    "load_item_names",
    "load_item_titles",
    "load_names",
    "make_adjacency",
    "make_csr",
    "make_dataset",
    "make_graph",
    "make_synthetic",
    "nth_absent",
    "of_users",
    "open_dataset",
    "parse_modalities",
    "present_modalities",
    "put_on_device",
    "read_inter",
    "resolve_items",
    "split_interactions",
    "statistics",
    "warm",
    "write_dataset",
]
