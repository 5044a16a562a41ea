"""Recommenders as pure functions behind one protocol."""

from uatmc_jax.data.graph import (
    Adjacency,
    Graph,
    make_adjacency,
    make_graph,
    mean_neighbours,
    sum_neighbours,
)
from uatmc_jax.models.field import Field, FieldPass, pad_field, shells_of
from uatmc_jax.models.linear_vbpr import make_linear_vbpr
from uatmc_jax.models.mmgcn import make_mmgcn
from uatmc_jax.models.projection import by_blocks, project_all, project_catalogue
from uatmc_jax.models.protocol import (
    Batch,
    Embeddings,
    Modal,
    Model,
    Params,
    ProjectorHead,
    encode_changed,
    select,
)
from uatmc_jax.models.vbpr import make_vbpr

__all__ = [
    "Adjacency",
    "Batch",
    "Embeddings",
    "Field",
    "FieldPass",
    "Graph",
    "Modal",
    "Model",
    "Params",
    "ProjectorHead",
    "by_blocks",
    "encode_changed",
    "make_adjacency",
    "make_graph",
    "make_linear_vbpr",
    "make_mmgcn",
    "make_vbpr",
    "mean_neighbours",
    "pad_field",
    "project_all",
    "project_catalogue",
    "select",
    "shells_of",
    "sum_neighbours",
]
