"""Recommenders as pure functions behind one protocol.

A function of its name makes each for a catalogue, `vbpr(dataset.sizes, dim=64)`; `build_model`
makes what settings name.
"""

from uatmc_jax.data.dataset import Sizes
from uatmc_jax.data.graph import (
    Adjacency,
    Graph,
    make_adjacency,
    make_graph,
    mean_items,
    mean_neighbours,
    mean_users,
    sum_items,
    sum_neighbours,
    sum_users,
)
from uatmc_jax.models.bm3 import BM3Settings, bm3
from uatmc_jax.models.declarations import (
    POLICIES,
    blind,
    bounded_lists,
    certifiable,
    inconsistent,
    no_edit_at,
    undefined,
    unlike_widths,
    unmet,
)
from uatmc_jax.models.dragon import DRAGONSettings, dragon
from uatmc_jax.models.field import Field, FieldPass, pad_field, shells_of
from uatmc_jax.models.freedom import FREEDOMSettings, freedom
from uatmc_jax.models.lattice import LATTICESettings, lattice
from uatmc_jax.models.lgmrec import LGMRecSettings, lgmrec
from uatmc_jax.models.lightgcn import LightGCNSettings, lightgcn
from uatmc_jax.models.linear_vbpr import LinearVBPRSettings, linear_vbpr
from uatmc_jax.models.list_records import GatedLists, GatedParts, ListParts, NormedLists
from uatmc_jax.models.mgcn import MGCNSettings, mgcn
from uatmc_jax.models.mmgcf import MMGCFSettings, mmgcf
from uatmc_jax.models.mmgcn import MMGCNSettings, mmgcn
from uatmc_jax.models.own import OwnModelSettings
from uatmc_jax.models.projection import by_blocks, project_all, project_catalogue
from uatmc_jax.models.protocol import (
    Batch,
    Embeddings,
    ItemLists,
    LinearPass,
    Modal,
    Model,
    Params,
    ProjectorHead,
    Served,
    encode_changed,
    select,
)
from uatmc_jax.models.registry import MODELS, Entry, build_model, find_model
from uatmc_jax.models.relations import device_data
from uatmc_jax.models.settings import ModelSettings
from uatmc_jax.models.vbpr import VBPRSettings, vbpr

__all__ = [
    "MODELS",
    "POLICIES",
    "Adjacency",
    "BM3Settings",
    "Batch",
    "DRAGONSettings",
    "Embeddings",
    "Entry",
    "FREEDOMSettings",
    "Field",
    "FieldPass",
    "GatedLists",
    "GatedParts",
    "Graph",
    "ItemLists",
    "LATTICESettings",
    "LGMRecSettings",
    "LightGCNSettings",
    "LinearPass",
    "LinearVBPRSettings",
    "ListParts",
    "MGCNSettings",
    "MMGCFSettings",
    "MMGCNSettings",
    "Modal",
    "Model",
    "ModelSettings",
    "NormedLists",
    "OwnModelSettings",
    "Params",
    "ProjectorHead",
    "Served",
    "Sizes",
    "VBPRSettings",
    "blind",
    "bm3",
    "bounded_lists",
    "build_model",
    "by_blocks",
    "certifiable",
    "device_data",
    "dragon",
    "encode_changed",
    "find_model",
    "freedom",
    "inconsistent",
    "lattice",
    "lgmrec",
    "lightgcn",
    "linear_vbpr",
    "make_adjacency",
    "make_graph",
    "mean_items",
    "mean_neighbours",
    "mean_users",
    "mgcn",
    "mmgcf",
    "mmgcn",
    "no_edit_at",
    "pad_field",
    "project_all",
    "project_catalogue",
    "select",
    "shells_of",
    "sum_items",
    "sum_neighbours",
    "sum_users",
    "undefined",
    "unlike_widths",
    "unmet",
    "vbpr",
]
