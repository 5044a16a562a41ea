"""Content utility: how much of a model's recall rests on images and texts at all.

A model can be hard to attack because it has stopped reading the content. So
recall is also measured with every item's features exchanged for another item's
(all modalities together), with features of zero, and on cold items, which have
little but their content. Content utility is recall minus recall with permuted
features.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from uatmc_jax.data import CSR, Dataset, DeviceData, make_csr, warm
from uatmc_jax.evaluation.metrics import mean_metrics
from uatmc_jax.evaluation.ranking import RankingPlan, make_plan
from uatmc_jax.models import Modal, Model, Params

PERMUTATIONS = 3


def content_utility(
    model: Model,
    params: Params,
    dataset: Dataset,
    z: Modal,
    *,
    k: int,
    cold_count: int,
    rng: np.random.Generator,
) -> dict:
    """Test recall@K as it is, without the right content, and on cold items.

    Args:
      model: the recommender.
      params: its parameters.
      dataset: the data; training items are masked.
      z: modal, (|I|, d), clean.
      k: the K.
      cold_count: items with at most this many training interactions are cold.
      rng: of the permutations.

    Returns:
      {"metric", "clean", "permuted", "zeroed", "content_utility", "permutations",
      "cold": {"at_most_interactions", "test_interactions", "clean", "permuted",
      "zeroed"}}; cold recalls are None if no test interaction is with a cold item.
    """
    data, plan = dataset.on_device, make_plan(dataset.train, dataset.n_users, dataset.n_items)
    test = warm(dataset.test, dataset)
    cold = test.keep(dataset.item_train_counts[test.items] <= cold_count)
    splits = [make_csr(test, dataset.n_users)]
    if len(cold):
        splits.append(make_csr(cold, dataset.n_users))
    nothing = tuple(jnp.zeros((1, x.shape[1]), x.dtype) for x in data.features)
    empty = model.project(params.projectors, nothing)
    contents = {
        "clean": z,
        "zeroed": tuple(jnp.broadcast_to(row, x.shape) for row, x in zip(empty, z, strict=True)),
    }
    for n in range(PERMUTATIONS):
        order = rng.permutation(dataset.n_items)
        contents[f"permuted {n}"] = tuple(x[order] for x in z)
    recalls = {
        name: [float(r) for r in _recall(model, params, data, plan, content, tuple(splits), k)]
        for name, content in contents.items()
    }

    def of(split: int) -> dict[str, float]:
        permuted = [recalls[f"permuted {n}"][split] for n in range(PERMUTATIONS)]
        return {
            "clean": recalls["clean"][split],
            "permuted": float(np.mean(permuted)),
            "zeroed": recalls["zeroed"][split],
        }

    whole = of(0)
    nothing_cold = dict.fromkeys(("clean", "permuted", "zeroed"))
    return {
        "metric": f"recall@{k}",
        **whole,
        "content_utility": whole["clean"] - whole["permuted"],
        "permutations": PERMUTATIONS,
        "cold": {
            "at_most_interactions": cold_count,
            "test_interactions": len(cold),
            **(of(1) if len(cold) else nothing_cold),
        },
    }


@functools.partial(jax.jit, static_argnames=("model", "k"))
def _recall(
    model: Model,
    params: Params,
    data: DeviceData,
    plan: RankingPlan,
    z: Modal,
    splits: Sequence[CSR],
    k: int,
) -> list[jax.Array]:
    user, item = model.encode(params.encoder, z, data.graph)
    return [metrics[f"recall@{k}"] for metrics in mean_metrics(user, item, plan, splits, (k,))]
