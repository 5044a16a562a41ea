"""A run's data and rankings on its devices, one or several."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.data import CSR, Dataset, Sizes, of_users
from uatmc_jax.data.dataset import DeviceData
from uatmc_jax.data.interactions import counts
from uatmc_jax.evaluation.metrics import Measure, make_measure, popularity_metrics
from uatmc_jax.evaluation.ranking import make_plan
from uatmc_jax.models import Model, build_model, device_data
from uatmc_jax.models.protocol import PyTree
from uatmc_jax.placement import (
    Blocks,
    Drawn,
    Layout,
    lay_out,
    make_placement,
    make_spread_measure,
    own_pairs,
    replicate,
    spread_data,
    spread_popularity,
)
from uatmc_jax.seeds import generator
from uatmc_jax.settings import Settings


class Devices(NamedTuple):
    """What a run reads, where it reads it.

    Attributes:
      layout: where the parameters lie on several devices; None on one.
      data: the data set.
      held_out: {"valid", "test"}: by user the items, of those who are measured.
      measure: ranks parameters that lie there for these users.
      popularity: split -> metrics of recommending the most trained-on items.
    """

    layout: Layout | None
    data: DeviceData
    held_out: dict[str, CSR]
    measure: Measure
    popularity: Callable[[str], dict[str, float]]


def on_devices(settings: Settings, model: Model, dataset: Dataset) -> Devices:
    """The data on the devices that the settings ask for.

    Args:
      settings: the experiment.
      model: the recommender.
      dataset: the data.

    Raises:
      InputError: there are no such devices, the model or the data cannot be spread, or nobody
        who is drawn has anything held out.
    """
    chosen, ks = settings.eval, settings.eval.ks
    blocks = Blocks(chosen.block_users, chosen.block_items)
    mesh = settings.mesh
    placement = make_placement(mesh.devices, mesh.row_multiple, mesh.features)
    users = _drawn_users(settings, dataset)
    held_out = {split: dataset.held_out(split, users) for split in ("valid", "test")}
    n_users = dataset.n_users if users is None else len(users)
    seen = dataset.train if users is None else of_users(dataset.train, users)
    ids = None if users is None else jnp.asarray(users, jnp.int32)
    if placement is None:
        data = device_data(model, dataset)
        plan = make_plan(seen, n_users, dataset.n_items, *blocks)
        measure = make_measure(model, data, plan, ks, ids)
        popularity = functools.partial(popularity_metrics, dataset, plan, ks=ks, users=users)
        return Devices(None, data, held_out, measure, popularity)

    def shapes_of(sizes: Sizes) -> PyTree:
        return jax.eval_shape(build_model(settings.model, sizes).init, jax.random.key(0))

    layout = lay_out(placement, shapes_of, dataset.sizes)
    data = spread_data(placement, model, dataset, chosen.block_users)
    owned, drawn = data.pairs, None
    if ids is not None:
        owned = own_pairs(placement, seen, n_users, dataset.n_items, chosen.block_users)
        drawn = Drawn(replicate(placement, ids), owned)
    measure = make_spread_measure(model, layout, data, ks, blocks, drawn)
    popularity = functools.partial(
        spread_popularity, placement, dataset, owned, ks=ks, blocks=blocks, users=users
    )
    return Devices(layout, data, held_out, measure, popularity)


def _drawn_users(settings: Settings, dataset: Dataset) -> np.ndarray | None:
    """Those whom all metrics are of, ascending; None for all."""
    trained = np.flatnonzero(counts(dataset.train.users, dataset.n_users)).astype(np.int32)
    count = settings.eval.sample
    if not 0 < count < len(trained):
        return None
    rng = generator(settings.seed, "measured")
    return np.sort(rng.choice(trained, count, replace=False))
