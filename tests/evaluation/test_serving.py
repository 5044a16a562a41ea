"""Use of content by policy, of models that list neighbours: against tables built row by row."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from tests import oracles
from tests.benchmark.test_serving import DATA, MODELS, parameters
from uatmc_jax.attacks import Lists, make_victim, served
from uatmc_jax.errors import InputError
from uatmc_jax.evaluation.content import ContentPlan, measure_hits, use_of_content
from uatmc_jax.models import mmgcn, project_catalogue

K = 5
PLAN = ContentPlan(k=K, attacked=(3, 8), cold_count=4, permutations=2, bootstrap=50)


def victim_of(name, data=DATA):
    return make_victim(MODELS[name], parameters(name), data, np.arange(50), lists=Lists(k=K))


def found_by(user, item):
    """Test interactions in the top K, of all items."""
    ranked = oracles.rank(np.asarray(user, float) @ np.asarray(item, float).T, DATA.train)
    pairs = zip(DATA.test.users.tolist(), DATA.test.items.tolist(), strict=True)
    return sum(i in ranked[u][:K].tolist() for u, i in pairs)


def contents():
    """Raw features: the mean in every place, and the same two exchanges as are measured."""
    yield tuple(np.tile(x.mean(axis=0), (len(x), 1)) for x in DATA.features)
    rng = np.random.default_rng(0)
    for _ in range(PLAN.permutations):
        order = rng.permutation(DATA.n_items)
        yield tuple(x[order] for x in DATA.features)


def measured(name, policy):
    model, params = MODELS[name], parameters(name)
    z = project_catalogue(model, params, DATA.on_device.features)
    plan = PLAN._replace(serving=policy)
    return measure_hits(model, params, DATA, z, plan, np.random.default_rng(0)), plan


# MGCN reads content both ways; the others compile for as long again.
BY_LISTS = ["mgcn", pytest.param("freedom", marks=pytest.mark.slow)]
OTHERS = [
    pytest.param(name, marks=pytest.mark.slow) for name in ("lattice", "dragon", "lightgcn_content")
]


@pytest.mark.parametrize("name", BY_LISTS)
def test_full_is_a_rebuild_of_everything(name):
    hits, _ = measured(name, "full")
    clean = victim_of(name)
    expected = [found_by(clean.user, clean.item)]
    for features in contents():
        other = victim_of(name, dataclasses.replace(DATA, features=features))
        expected.append(found_by(other.user, other.item))
    np.testing.assert_array_equal(hits.found["test"][:, 0].sum(axis=1), expected)
    assert len(set(expected)) > 1


@pytest.mark.parametrize("name", [*BY_LISTS, *OTHERS])
def test_own_row_is_each_item_by_itself(name):
    hits, _ = measured(name, "own_row")
    victim = victim_of(name)
    expected = [found_by(victim.user, victim.item)]
    for features in contents():
        rows = [
            served(victim, i, tuple(x[i] for x in features), "own_row").item[i]
            for i in range(DATA.n_items)
        ]
        expected.append(found_by(victim.user, jnp.stack(rows)))
    np.testing.assert_array_equal(hits.found["test"][:, 0].sum(axis=1), expected)


@pytest.mark.parametrize(("name", "policy"), [("freedom", "frozen"), ("bm3", "full")])
def test_nothing_is_of_use_where_nothing_is_read(name, policy):
    hits, plan = measured(name, policy)
    whole = use_of_content(hits, DATA, plan)
    assert whole["serving"] == policy
    assert whole["test"]["all"]["contribution"]["value"] == 0
    assert whole["test"]["all"]["sensitivity"]["value"] == 0


def test_a_policy_that_says_nothing_of_the_model_is_refused():
    rng = np.random.default_rng(0)
    plan = PLAN._replace(serving="own_row")
    with pytest.raises(InputError, match="model mmgcn does not say what it is"):
        measure_hits(mmgcn(DATA.sizes, dim=4), None, DATA, (), plan, rng)
    unsaid = MODELS["mgcn"]._replace(relate_rows=None)
    with pytest.raises(InputError, match=r"made anew beside the others' \(relate_rows\)"):
        measure_hits(unsaid, None, DATA, (), plan, rng)
