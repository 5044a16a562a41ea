"""Several devices: the one part that knows the mesh, what is padded, and where arrays lie.

Models, losses, defences and attacks see arrays of their true shapes and know of no device.
Tables of users and items, their moments, the training pairs and each user's ranking lie by
rows; features, z and all small parameters lie whole on every device.
"""

from uatmc_jax.placement.attacks import spread_lists, spread_options, spread_victim
from uatmc_jax.placement.data import spread_data
from uatmc_jax.placement.mesh import (
    Layout,
    Placement,
    cut,
    lay_out,
    made,
    make_placement,
    on_every_device,
    pad,
    padded,
    place,
    put,
    replicate,
    shardings,
    spread_epoch,
    state_rows,
)
from uatmc_jax.placement.pairs import OwnedPairs, draw_batch, own_pairs
from uatmc_jax.placement.ranking import (
    Blocks,
    Drawn,
    compiled_measure,
    make_spread_measure,
    spread_metrics,
    spread_popularity,
    spread_top_k,
)

__all__ = [
    "Blocks",
    "Drawn",
    "Layout",
    "OwnedPairs",
    "Placement",
    "compiled_measure",
    "cut",
    "draw_batch",
    "lay_out",
    "made",
    "make_placement",
    "make_spread_measure",
    "on_every_device",
    "own_pairs",
    "pad",
    "padded",
    "place",
    "put",
    "replicate",
    "shardings",
    "spread_data",
    "spread_epoch",
    "spread_lists",
    "spread_metrics",
    "spread_options",
    "spread_popularity",
    "spread_top_k",
    "spread_victim",
    "state_rows",
]
