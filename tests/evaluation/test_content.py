"""Content utility on a model that reads nothing but content, and on one that reads none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import oracles
from tests.attacks.cases import DATASET, case
from uatmc_jax.evaluation.content import content_utility
from uatmc_jax.models import project_catalogue


def measure(params, cold_count=3, seed=0):
    c = case("vbpr")
    z = project_catalogue(c.model, params, DATASET.on_device.features)
    rng = np.random.default_rng(seed)
    return content_utility(c.model, params, DATASET, z, k=20, cold_count=cold_count, rng=rng)


def test_a_model_without_content_weights_loses_nothing():
    c = case("vbpr")
    deaf = c.params.encoder.replace(kernel=jnp.zeros_like(c.params.encoder.kernel))
    found = measure(c.params.replace(encoder=deaf))
    assert found["clean"] == found["permuted"] == found["zeroed"]
    assert found["content_utility"] == 0 and found["clean"] > 0


def test_recalls_equal_brute_force():
    c = case("vbpr")
    found = measure(c.params, cold_count=4)
    encoder = oracles.to_float64(c.params.encoder)
    features = [np.asarray(x, np.float64) for x in DATASET.features]
    projectors = oracles.to_float64(c.params.projectors)

    def recall(features, held_out):
        z = oracles.project(projectors, features, DATASET.modalities)
        user, item = oracles.vbpr(encoder, z)
        ranked = oracles.rank(user @ item.T, DATASET.train)
        return oracles.ranking_metrics(ranked, held_out, (20,))["recall@20"]

    cold = DATASET.test.keep(DATASET.item_train_counts[DATASET.test.items] <= 4)
    rng = np.random.default_rng(0)
    orders = [rng.permutation(DATASET.n_items) for _ in range(3)]
    zeros = [np.zeros_like(x) for x in features]
    for split, got in ((DATASET.test, found), (cold, found["cold"])):
        assert got["clean"] == pytest.approx(recall(features, split), abs=1e-6)
        assert got["zeroed"] == pytest.approx(recall(zeros, split), abs=1e-6)
        permuted = np.mean([recall([x[o] for x in features], split) for o in orders])
        assert got["permuted"] == pytest.approx(permuted, abs=1e-6)
    assert found["cold"]["test_interactions"] == len(cold)


def test_without_cold_items_there_is_no_cold_recall():
    found = measure(case("vbpr").params, cold_count=0)
    cold = (DATASET.item_train_counts[DATASET.test.items] == 0).sum()
    assert (found["cold"]["clean"] is None) == (cold == 0)


def test_permutations_are_seeded():
    params = jax.tree.map(lambda x: x, case("vbpr").params)
    assert measure(params) == measure(params)
