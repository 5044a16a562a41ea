"""Certificates of LightGCN with content and of DRAGON: no edit of z goes beyond."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.attacks.test_relisting import random_victim
from tests.models import toy
from tests.models.test_reach import DATA
from tests.models.test_victims import model_of, toy_params
from uatmc_jax.attacks import Attack, Lists, Options, attack, certify_linear, make_victim
from uatmc_jax.attacks.linear_bounds import _columns, margins
from uatmc_jax.errors import InputError
from uatmc_jax.models import Served, dragon, lightgcn

K = 5
MAKE = {
    "lightgcn": functools.partial(lightgcn, dim=4, content=True),
    "dragon": functools.partial(dragon, dim=4, n_neighbours=3, n_cobuyers=2, mlp_width=5),
}


@functools.cache
def victim_of(name, masked=False):
    model, rng = MAKE[name](DATA.sizes), np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: x + jnp.asarray(rng.normal(scale=0.5, size=x.shape), jnp.float32),
        model.init(jax.random.key(0)),
    )
    return make_victim(model, params, DATA, masked=masked, lists=Lists(k=K, block_users=64))


@pytest.mark.parametrize("name", ["lightgcn", pytest.param("dragon", marks=pytest.mark.long)])
@pytest.mark.parametrize("policy", ["own_row", "full"])
def test_no_edit_lifts_any_margin_beyond_its_bound(name, policy):
    victim, rng = victim_of(name), np.random.default_rng(1)
    encode = jax.jit(lambda z: victim.model.encode(victim.encoder, z, victim.graph))
    own_row = jax.jit(
        lambda z, item: victim.model.own_row(
            victim.encoder, Served(victim.z, victim.graph), Served(z, victim.graph), item
        )
    )
    users, tightest = np.asarray(victim.users), np.inf
    for item, norm in ((0, "l2"), (17, "linf")):
        a, b = map(np.array, _columns(victim.model, victim.encoder, victim.graph, jnp.int32(item)))
        if policy == "own_row":
            a, b = np.zeros_like(a), np.zeros_like(b)
            b[item] = victim.model.linear.own
        radii = np.array([0.3 * np.linalg.norm(np.asarray(x[item])) for x in victim.z])
        bound = margins(victim, item, (np.arange(len(users)), a[users], b), radii, norm)
        for _ in range(20):
            z = []
            for x, radius in zip(victim.z, radii, strict=True):
                step = rng.normal(size=x.shape[1])
                step = np.sign(step) if norm == "linf" else step / np.linalg.norm(step)
                z.append(x.at[item].add(jnp.asarray(radius * step, jnp.float32)))
            if policy == "full":
                user, table = map(np.asarray, encode(tuple(z)))
            else:
                user, table = np.array(victim.user), np.array(victim.item)
                table[item] = own_row(tuple(z), jnp.int32(item))
            user = user[users] if policy == "full" else user
            scores = user @ table.T
            gap = bound - (scores[:, [item]] - scores)
            gap = np.delete(gap, item, axis=1)
            assert gap.min() >= 0
            tightest = min(tightest, gap.min())
    assert tightest < 0.05  # some user's best edit was nearly drawn


@pytest.mark.long
@pytest.mark.parametrize("name,masked", [("lightgcn", True), ("dragon", False)])
def test_no_attack_exceeds_it(name, masked):
    victim, items = victim_of(name, masked), np.array([0, 17])
    for norm, eps in (("l2", 0.0), ("linf", 0.05), ("linf", 0.3)):
        chosen = Attack(utility="elu", k=K, norm=norm, steps=3, step_size=0.4)
        found = attack(chosen, victim, items, eps=eps, options=Options((K,)))
        bound = certify_linear(victim, items, eps=eps, norm=norm, k=K)
        assert (found.hr_after[:, 0] <= bound + 1e-6).all()
        assert (found.hr_before[:, 0] <= bound + 1e-6).all()
        own = certify_linear(victim, items, eps=eps, norm=norm, policy="own_row", k=K)
        assert (found.hr_before[:, 0] <= own + 1e-6).all()
        if eps == 0:  # and there it is the hit rate
            np.testing.assert_allclose(bound, found.hr_before[:, 0], atol=0.02)
    assert (certify_linear(victim, items, eps=0.3, policy="frozen", k=K) <= bound).all()


def test_by_the_toys_hand():
    """Pi_01 = 1/6 and Pi_11 = 1/2: the edited scores are the clean ones and what these make."""
    model = model_of("lightgcn_content")
    params = toy_params(model, "lightgcn_content")
    victim = make_victim(model, params, toy.dataset(), lists=Lists(k=2))
    user, item = map(np.asarray, _columns(model, params.encoder, victim.graph, jnp.int32(1)))
    np.testing.assert_allclose([user[0, 0], item[1, 0]], [1 / 6, 1 / 2], atol=1e-6)
    delta = np.array([-0.2, 0.2])
    h_u = np.asarray(victim.user) + user[:, :1] * delta
    h_i = np.asarray(victim.item) + item[:, :1] * delta
    np.testing.assert_allclose((h_u @ h_i.T)[:, 1], [2.315859, 3.333608, 3.136456], atol=1e-5)


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match="does not declare that its content spreads linearly"):
        certify_linear(random_victim(), [1], eps=0.1, k=5)
    with pytest.raises(InputError, match=r"eps = -1.0: wanted a number >= 0"):
        certify_linear(victim_of("lightgcn"), [1], eps=-1.0, k=K)
    other = dataclasses.replace(victim_of("lightgcn"))
    with pytest.raises(InputError, match="norm = 'l1'"):
        certify_linear(other, [1], eps=0.1, norm="l1", k=K)
