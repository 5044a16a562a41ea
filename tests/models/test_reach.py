"""MGCN and DRAGON say whom an edit of z reaches: the cheap pass is the whole one."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import make_interactions
from tests.models import toy
from uatmc_jax.attacks import Attack, Lists, Options, attack, make_victim
from uatmc_jax.attacks.batching import plan_batches, scorer_of
from uatmc_jax.attacks.scoring.dense import DENSE
from uatmc_jax.attacks.scoring.receptive import RECEPTIVE
from uatmc_jax.models import Field, dragon, mgcn
from uatmc_jax.models.field import pad_shells


def sparse():
    """Few purchases, so that an item does not reach everyone."""
    rng = np.random.default_rng(0)
    pairs = {(u, int(i)) for u in range(90) for i in rng.integers(0, 60, rng.integers(1, 3))}
    features = tuple(rng.normal(size=(60, d)).astype(np.float32) for d in (5, 3))
    whole = dataclasses.replace(toy.dataset(), n_users=90, n_items=60, features=features)
    return dataclasses.replace(whole, train=make_interactions(pairs))


DATA = sparse()
MAKE = {
    "mgcn": functools.partial(mgcn, dim=4, n_neighbours=3),
    "dragon": functools.partial(dragon, dim=4, n_neighbours=3, n_cobuyers=2, mlp_width=5),
}
K, KS = 5, (1, 5, 10)


@functools.cache
def victim_of(name):
    model, rng = MAKE[name](DATA.sizes), np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: x + jnp.asarray(rng.normal(scale=0.5, size=x.shape), jnp.float32),
        model.init(jax.random.key(0)),
    )
    return make_victim(model, params, DATA, lists=Lists(k=max(KS), block_users=64))


@pytest.mark.parametrize("name", ["mgcn", pytest.param("dragon", marks=pytest.mark.long)])
def test_the_pass_through_what_is_reached_is_the_whole_one(name):
    victim, outside = victim_of(name), 0
    model, graph, encoder = victim.model, victim.graph, victim.encoder
    n_nodes = DATA.n_users + DATA.n_items
    encode = jax.jit(lambda z: jnp.concatenate(model.encode(encoder, z, graph)))
    clean, rng = np.asarray(encode(victim.z)), np.random.default_rng(1)

    @jax.jit
    def cheap(field, row):
        return model.field.encode(
            encoder, model.field.gather(encoder, victim.trace, graph, field), field, row
        )

    for item in (0, 17, 40):
        row = tuple(x[item : item + 1] + rng.normal(size=(1, 4)).astype("f4") for x in victim.z)
        whole = np.asarray(
            encode(tuple(x.at[item].set(r[0]) for x, r in zip(victim.z, row, strict=True)))
        )
        shells = model.field.reach(graph, victim.adjacency, item, 10**6)
        reached = np.concatenate(shells)
        assert len(np.unique(reached)) == len(reached)
        field = Field(pad_shells(shells, [1, 100, 100, 100][: len(shells)], n_nodes))
        for shell, embedded in zip(shells, cheap(field, row), strict=True):
            np.testing.assert_allclose(embedded[: len(shell)], whole[shell], rtol=1e-5, atol=2e-6)
        still = np.setdiff1d(np.arange(n_nodes), reached)
        np.testing.assert_array_equal(whole[still], clean[still])
        outside += len(still)
        moved = np.abs(whole - clean).max(axis=1) > 1e-6
        assert moved[reached].mean() > 0.9  # and no more than it has to be
        assert model.field.reach(graph, victim.adjacency, item, 1) is None
    assert outside > 0


@pytest.mark.long
@pytest.mark.parametrize("name", MAKE)
def test_attacks_on_what_is_reached_are_the_dense_ones(name):
    victim, items = victim_of(name), np.array([0, 17])
    assert scorer_of(victim.model) is RECEPTIVE
    assert all(batch.scorer is RECEPTIVE for batch in plan_batches(victim, items, RECEPTIVE, 64.0))
    chosen = Attack(utility="elu", k=K, norm="l2", steps=3, step_size=0.4, eps=0.4)
    exact, dense = (
        attack(chosen, victim, items, options=Options(KS, scorer=s)) for s in ("auto", "dense")
    )
    np.testing.assert_array_equal(exact.hr_before, dense.hr_before)
    np.testing.assert_array_equal(exact.hr_after, dense.hr_after)
    np.testing.assert_allclose(exact.utility_after, dense.utility_after, rtol=1e-5, atol=1e-5)
    assert (exact.utility_after > exact.utility_before).all()
    assert scorer_of(victim.model, "dense") is DENSE
