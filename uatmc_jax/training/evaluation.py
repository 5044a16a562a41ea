"""Recommendation metrics of a set of parameters, compiled once for both splits."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from uatmc_jax.data import CSR, Dataset, make_csr, warm
from uatmc_jax.models import Model, Params
from uatmc_jax.ranking import RankingPlan, evaluate
from uatmc_jax.training.objectives import DeviceData, project_all

Measure = Callable[[Params, CSR], dict[str, jax.Array]]


def make_measure(model: Model, data: DeviceData, plan: RankingPlan, ks: Sequence[int]) -> Measure:
    """(params, held-out items by user) -> {metric: scalar}, features projected afresh.

    Args:
      model: the recommender.
      data: on the device.
      plan: what to mask, and block sizes.
      ks: the K.
    """

    @jax.jit
    def measure(params: Params, relevant: CSR, data: DeviceData, plan: RankingPlan):
        z = project_all(model, params, data.features)
        user, item = model.encode(params.encoder, z, data.graph)
        return evaluate(user, item, plan, relevant, ks)

    return lambda params, relevant: measure(params, relevant, data, plan)


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
    metrics = evaluate(jnp.ones((dataset.n_users, 1)), counts, plan, relevant, ks)
    return {name: float(value) for name, value in metrics.items()}
