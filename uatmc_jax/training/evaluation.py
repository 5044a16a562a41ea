"""Recommendation metrics of a set of parameters, and of plain popularity."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from uatmc_jax.data import CSR, Dataset, make_csr, warm
from uatmc_jax.device_data import DeviceData, project_all
from uatmc_jax.models import Modal, Model, Params
from uatmc_jax.ranking import RankingPlan, evaluate

# (parameters, z or None to project the features, held-out splits) -> metrics of each split
Measure = Callable[[Params, Modal | None, Sequence[CSR]], list[dict[str, jax.Array]]]


def make_measure(model: Model, data: DeviceData, plan: RankingPlan, ks: Sequence[int]) -> Measure:
    """Compiles the metrics of a set of parameters.

    Args:
      model: the recommender.
      data: on the device.
      plan: what to mask, and block sizes.
      ks: the K.
    """

    @jax.jit
    def measure(params, z, held_out, data, plan):
        if z is None:
            z = project_all(model, params, data.features)
        user, item = model.encode(params.encoder, z, data.graph)
        return evaluate(user, item, plan, held_out, ks)

    return lambda params, z, held_out: measure(params, z, tuple(held_out), data, plan)


def popularity_metrics(
    dataset: Dataset, plan: RankingPlan, split: str, ks: Sequence[int]
) -> dict[str, float]:
    """The same metrics for recommending everyone the most trained-on items.

    Args:
      dataset: the data.
      plan: what to mask.
      split: "valid" or "test".
      ks: the K.
    """
    counts = jnp.asarray(dataset.item_train_counts, jnp.float32)[:, None]
    relevant = make_csr(warm(dataset.split(split), dataset), dataset.n_users)
    (metrics,) = evaluate(jnp.ones((dataset.n_users, 1)), counts, plan, (relevant,), ks)
    return {name: float(value) for name, value in metrics.items()}
