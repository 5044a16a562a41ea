"""Use of content on models that read it, that read none, and on some items only."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests import oracles
from tests.attacks.cases import DATASET, case
from uatmc_jax.evaluation.content import (
    PARTS,
    SPLITS,
    ContentPlan,
    compare_hits,
    measure_hits,
    use_of_content,
)
from uatmc_jax.models import project_catalogue

K = 10
PLAN = ContentPlan(k=K, attacked=(3, 8), cold_count=4, permutations=3, bootstrap=200)


def measured(params, plan=PLAN, seed=0):
    c = case("vbpr")
    z = project_catalogue(c.model, params, DATASET.on_device.features)
    return measure_hits(c.model, params, DATASET, z, plan, np.random.default_rng(seed))


def deaf(params):
    kernel = jnp.zeros_like(params.encoder.kernel)
    return params.replace(encoder=params.encoder.replace(kernel=kernel))


@pytest.fixture(scope="module")
def hits():
    return measured(case("vbpr").params)


def test_hits_equal_brute_force(hits):
    params = case("vbpr").params
    encoder, projectors = (oracles.to_float64(x) for x in (params.encoder, params.projectors))
    features = [np.asarray(x, np.float64) for x in DATASET.features]
    own = oracles.project(projectors, features, DATASET.modalities)
    rng = np.random.default_rng(0)
    orders = [rng.permutation(DATASET.n_items) for _ in range(PLAN.permutations)]
    contents = [own, [np.tile(x.mean(axis=0), (len(x), 1)) for x in own]]
    contents += [[x[order] for x in own] for order in orders]
    counts = DATASET.item_counts
    member = {
        "all": np.ones(DATASET.n_items, bool),
        "attacked": (counts >= 3) & (counts <= 8),
        "cold": DATASET.item_train_counts <= 4,
    }
    assert set(member) == set(PARTS)
    for c, z in enumerate(contents):
        user, item = oracles.vbpr(encoder, z)
        ranked = oracles.rank(user @ item.T, DATASET.train)
        for split in SPLITS:
            pairs = DATASET.split(split)
            for p, part in enumerate(PARTS):
                for n, one in enumerate(hits.users):
                    held_out = [i for i in pairs.items[pairs.users == one] if member[part][i]]
                    assert hits.relevant[split][p, n] == len(held_out)
                    assert hits.found[split][c, p, n] == len(set(held_out) & set(ranked[one][:K]))


def test_what_is_said_follows_from_the_hits(hits):
    found = use_of_content(hits, DATASET, PLAN)
    assert found["metric"] == f"recall@{K}" and found["users"] == len(hits.users)
    for split in SPLITS:
        for p, part in enumerate(PARTS):
            entry, n = found[split][part], hits.relevant[split][p]
            assert entry["interactions"] == n.sum()
            if n.sum() < 50:
                assert entry["recall"] is entry["contribution"] is entry["sensitivity"] is None
                continue
            recall = [(h[n > 0] / n[n > 0]).mean() for h in hits.found[split][:, p]]
            assert entry["recall"]["own"]["value"] == pytest.approx(recall[0])
            assert entry["contribution"]["value"] == pytest.approx(recall[0] - recall[1])
            assert entry["sensitivity"]["value"] == pytest.approx(recall[0] - np.mean(recall[2:]))
            for name, over in (
                ("contribution", "over_users"),
                ("sensitivity", "over_users_and_permutations"),
            ):
                low, high = entry[name][over]
                assert low < entry[name]["value"] < high
            assert entry["hits"]["own"] == hits.found[split][0, p].sum()
    assert {found[s][p]["contribution"] is None for s in SPLITS for p in PARTS} == {True, False}


def test_a_model_that_reads_nothing_has_none_of_either():
    hits = measured(deaf(case("vbpr").params))
    for split in SPLITS:
        found = hits.found[split]
        assert (found == found[0]).all() and found[0].sum() > 0
    whole = use_of_content(hits, DATASET, PLAN)["test"]["all"]
    assert whole["contribution"] == {"value": 0.0, "over_users": [0.0, 0.0]}
    assert whole["sensitivity"] == {"value": 0.0, "over_users_and_permutations": [0.0, 0.0]}


def test_content_that_only_does_harm_has_a_negative_contribution():
    """Free parts rank by what is held out, content the other way round and twice as loudly."""
    c = case("vbpr")
    encoder = c.params.encoder
    liked = np.bincount(DATASET.test.items, minlength=DATASET.n_items) / 100
    harmful = encoder.replace(
        user=jnp.ones_like(encoder.user),
        item=jnp.zeros_like(encoder.item).at[:, 0].set(liked),
        kernel=jnp.zeros_like(encoder.kernel).at[0, 0].set(-2.0),
    )
    z = [jnp.zeros_like(x) for x in c.victim.z]
    z[0] = z[0].at[:, 0].set(liked)
    params = c.params.replace(encoder=harmful)
    hits = measure_hits(c.model, params, DATASET, tuple(z), PLAN, np.random.default_rng(0))
    whole = use_of_content(hits, DATASET, PLAN)["test"]["all"]
    assert whole["contribution"]["over_users"][1] < 0


def test_two_models_are_compared_user_by_user(hits):
    same = compare_hits(hits, hits, "test", "all", 100)
    assert same["hit_rate"] == same["contribution"] == {"value": 0.0, "over_users": [0.0, 0.0]}
    without = measured(deaf(case("vbpr").params))
    found = compare_hits(hits, without, "test", "all", 100)
    total = hits.relevant["test"][0].sum()
    difference = without.found["test"][0, 0].sum() - hits.found["test"][0, 0].sum()
    assert found["hit_rate"]["value"] == pytest.approx(difference / total)
    low, high = found["hit_rate"]["over_users"]
    assert low < found["hit_rate"]["value"] < high
    with pytest.raises(ValueError, match="same users"):
        compare_hits(hits, without._replace(users=without.users[::-1]), "test", "all", 100)
    nothing = {split: np.zeros_like(x) for split, x in hits.relevant.items()}
    bare = hits._replace(relevant=nothing)
    assert compare_hits(bare, bare, "test", "cold", 100) == {"hit_rate": None, "contribution": None}


def test_of_many_users_some_are_drawn(hits):
    few = measured(case("vbpr").params, PLAN._replace(most_users=20))
    assert len(few.users) == 20 < len(hits.users)
    places = np.searchsorted(hits.users, few.users)
    for split in SPLITS:
        # The clean and the mean content are the same whoever is drawn, the exchanges are not.
        assert np.array_equal(few.found[split][:2], hits.found[split][:2, :, places])


def test_exchanges_are_seeded(hits):
    again, other = measured(case("vbpr").params), measured(case("vbpr").params, seed=1)
    assert np.array_equal(again.found["test"], hits.found["test"])
    assert not np.array_equal(other.found["test"], hits.found["test"])


def test_a_k_beyond_the_catalogue_is_refused():
    with pytest.raises(ValueError, match="items"):
        measured(case("vbpr").params, PLAN._replace(k=DATASET.n_items + 1))
