"""Serving policies, the search by copying and its certificate: against the dense rebuild."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import toy
from tests.models.test_victims import model_of, toy_params
from uatmc_jax.attacks import (
    Attack,
    Lists,
    attack,
    blind,
    certify_lists,
    listings,
    make_victim,
    relist,
    served,
)
from uatmc_jax.attacks.list_bounds import candidates, list_bounds, turn
from uatmc_jax.attacks.listings import distances, hits, relisted
from uatmc_jax.attacks.policies import require_projected
from uatmc_jax.attacks.relisting import towards
from uatmc_jax.data import make_synthetic
from uatmc_jax.errors import InputError
from uatmc_jax.models import bm3, freedom, lightgcn, mgcn

K = 6
DATA = make_synthetic(5, n_users=50, n_items=40, n_interactions=400)
# Clones, as of an average image, and one of them in the middle of the catalogue.
DATA = dataclasses.replace(DATA, features=tuple(x.copy() for x in DATA.features))
DATA.features[0][[3, 17, 18, 30]] = DATA.features[0].mean(axis=0)
MODEL = freedom(DATA.sizes, dim=4, n_neighbours=4)


@functools.cache
def random_victim(masked=False):
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), MODEL.init(jax.random.key(0))
    )
    users = np.arange(0, 50, 2)
    return make_victim(MODEL, params, DATA, users, masked=masked, lists=Lists(k=K, spare=3))


@functools.cache
def compared():
    """The items compared, once."""
    return listings(random_victim())


def dense_hits(victim, item, user, items, k):
    """From all scores; whoever owns the item is never shown it, if the victim is masked."""
    scores = np.asarray(user, float) @ np.asarray(items, float).T
    if victim.masked is not None:
        place = {u: n for n, u in enumerate(np.asarray(victim.users).tolist())}
        for u, i in zip(DATA.train.users.tolist(), DATA.train.items.tolist(), strict=True):
            if u in place:
                scores[place[u], i] = -np.inf
    own = scores[:, item].copy()
    scores[:, item] = -np.inf
    return own > np.sort(scores, axis=1)[:, -k]


def edits():
    """Random ones near and far, copies of others, of clones among them."""
    rng = np.random.default_rng(1)
    for n in range(16):
        item = int(rng.integers(40))
        rows = [x[item].copy() for x in DATA.features]
        for m, x in enumerate(DATA.features):
            if n % 4 == 0:
                rows[m] += (0.3 * rng.normal(size=x.shape[1])).astype(np.float32)
            elif n % 4 == 1 or (n % 4 == 2 and m == 0):
                rows[m] = x[rng.choice([3, 17, 30, int(rng.integers(40))])].copy()
            elif n % 4 == 3:
                rows[m] = rng.normal(size=x.shape[1]).astype(np.float32)
        yield item, tuple(rows)


@pytest.mark.parametrize("policy", ["own_row", "full"])
@pytest.mark.parametrize("masked", [False, True])
def test_the_cheap_path_is_the_dense_rebuild(policy, masked):
    victim = random_victim(masked)
    moved = 0
    for item, rows in edits():
        user, items = served(victim, item, rows, policy)
        np.testing.assert_array_equal(user, victim.user)
        found = relisted(compared(), np.asarray(victim.item), item, rows, policy)
        cheap = np.array(victim.item)
        cheap[item], cheap[found.moved] = found.own, found.rows
        np.testing.assert_allclose(cheap, items, atol=2e-6)
        moved += len(found.moved)
        assert policy == "full" or not len(found.moved)
        for k in (1, K):
            expected = dense_hits(victim, item, user, items, k)
            np.testing.assert_array_equal(hits(victim, item, found, k), expected)
    assert moved > 20 or policy == "own_row"


def test_by_the_toys_hand():
    model = model_of("freedom")
    victim = make_victim(model, toy_params(model, "freedom"), toy.dataset(), lists=Lists(k=2))
    rows = tuple(x[toy.EDITED] for x in toy.edited().features)
    clean = np.asarray(victim.user @ victim.item.T)
    for policy in ("frozen", "own_row", "full"):
        user, item = served(victim, toy.EDITED, rows, policy)
        scores = np.asarray(user @ item.T)
        if policy == "frozen":
            np.testing.assert_array_equal(scores, clean)
            continue
        np.testing.assert_allclose(scores[:, 1], [1.148301, 1.983813, 2.132198], atol=1e-5)
        np.testing.assert_array_equal(np.delete(scores, 1, 1), np.delete(clean, 1, 1))
    of = listings(victim)
    found = [
        candidates(distances(s, x[1]), 1, 2, 0.2).tolist()
        for s, x in zip(of.standings, toy.dataset().features, strict=True)
    ]
    assert found == [[0, 2], [2]]
    bound = list_bounds(victim, of, 1, 0.2)
    np.testing.assert_allclose(bound, [1.148301, 1.983813, 2.132198], atol=1e-4)
    turned = np.array([np.cos(np.arctan2(0.6, 0.8) + 0.15), np.sin(np.arctan2(0.6, 0.8) + 0.15)])
    reached = relisted(of, np.asarray(victim.item), 1, (turned, rows[1]), "own_row")
    np.testing.assert_allclose(victim.user @ reached.own, bound, atol=1e-4)


@pytest.mark.parametrize(
    "name,column",
    [
        ("lightgcn_content", [2.317881, 3.274838, 3.123099]),
        ("mgcn", [0.851163, 1.360245, 1.378372]),
    ],
)
def test_the_own_row_by_the_toys_hand(name, column):
    model = model_of(name)
    params = toy_params(model, name)
    victim = make_victim(model, params, toy.dataset(), lists=Lists(k=2))
    rows = tuple(x[toy.EDITED] for x in toy.edited().features)
    user, item = served(victim, toy.EDITED, rows, "own_row")
    np.testing.assert_allclose((user @ item.T)[:, 1], column, atol=1e-5)
    np.testing.assert_array_equal(np.delete(item, 1, 0), np.delete(victim.item, 1, 0))
    np.testing.assert_array_equal(user, victim.user)


@pytest.mark.parametrize("policy", ["own_row", "full"])
def test_copying_finds_the_best_donor_of_all(policy):
    """Of any content: no single donor for both modalities does better in the dense rebuild."""
    victim, lists = random_victim(), compared()
    for item in (2, 17):
        found = relist(victim, [item], policy=policy, k=K, verified=40, of=lists)
        rates = []
        for donor in range(40):
            rows = tuple(x[donor] for x in DATA.features)
            rates.append(dense_hits(victim, item, *served(victim, item, rows, policy), K).mean())
        assert found.hr_after[0] >= max(rates) and found.hr_after[0] > found.hr_before[0]
        rows = tuple(x[0] for x in found.features)
        again = dense_hits(victim, item, *served(victim, item, rows, policy), K)
        assert again.mean() == found.hr_after[0]


@pytest.mark.parametrize("eps", [0.0, 0.1, 0.4, 1.0, 2.0])
def test_no_edit_within_the_budget_exceeds_the_certificate(eps):
    victim, lists = random_victim(), compared()
    rng = np.random.default_rng(2)
    items = np.array([1, 17, 24, 38])
    found = relist(victim, items, eps=eps, k=K, of=lists)
    bound = certify_lists(victim, items, eps=eps, k=K, of=lists)
    anything = certify_lists(victim, items, k=K, of=lists)
    assert (found.hr_before <= found.hr_after).all() and (found.hr_after <= bound).all()
    assert (bound <= anything).all()
    for n, item in enumerate(items):
        ceiling = list_bounds(victim, lists, int(item), eps)
        clean = [x[item].astype(float) for x in DATA.features]
        for x, row in zip(clean, found.features, strict=True):
            assert np.linalg.norm(row[n] - x) <= eps * np.linalg.norm(x)
        for towards_one in range(12):
            rows = []
            for x, table in zip(clean, DATA.features, strict=True):
                step = rng.normal(size=x.shape)
                if towards_one % 2:
                    step = table[rng.integers(40)] - x
                step *= eps * np.linalg.norm(x) / np.maximum(np.linalg.norm(step), 1e-9)
                rows.append((x + 0.999 * step).astype(np.float32))
            if not all(np.linalg.norm(x) > 0 for x in rows):
                continue
            reached = relisted(lists, np.asarray(victim.item), int(item), tuple(rows), "own_row")
            assert (np.asarray(victim.user) @ reached.own <= ceiling).all()
            for standing, x, row in zip(lists.standings, DATA.features, rows, strict=True):
                found_list = np.argsort(-distances(standing, row))[:8]
                among = candidates(distances(standing, x[item]), int(item), 4, eps)
                inside = [j for j in found_list if j != item][:3]
                assert set(inside) <= set(among.tolist())


def test_a_budget_of_nothing_leaves_the_list():
    victim, lists = random_victim(), compared()
    bound = list_bounds(victim, lists, 24, 0.0)
    np.testing.assert_allclose(bound, victim.user @ victim.item[24], atol=1e-4)
    assert turn(0.0) == 0 and turn(1.0) == turn(None) == np.pi


def test_towards_is_the_nearest_point_of_the_ball_in_angle():
    rng = np.random.default_rng(3)
    for _ in range(10):
        x, s = rng.normal(size=(2, 3)).astype(np.float32)
        found = towards(x, s, 0.3).astype(float)
        length = np.linalg.norm(x)
        assert np.linalg.norm(found - x) <= 0.3 * length
        steps = rng.normal(size=(4000, 3))
        steps *= 0.3 * length / np.linalg.norm(steps, axis=1, keepdims=True)
        tried = x + steps * rng.uniform(0, 1, (4000, 1)) ** (1 / 3)
        cosine = tried @ s / np.linalg.norm(tried, axis=1) / np.linalg.norm(s)
        assert found @ s / np.linalg.norm(found) / np.linalg.norm(s) >= cosine.max() - 1e-5


def test_where_no_edit_has_an_effect_nothing_is_run(monkeypatch):
    victim, lists = random_victim(), compared()
    monkeypatch.setattr("uatmc_jax.attacks.relisting.relisted", None)
    monkeypatch.setattr("uatmc_jax.attacks.relisting.listings", None)
    frozen = relist(victim, [1, 2], policy="frozen", k=K, of=lists)
    assert frozen.blind.startswith("nothing is computed anew under the policy 'frozen'")
    np.testing.assert_array_equal(frozen.hr_before, frozen.hr_after)
    np.testing.assert_array_equal(frozen.donors, [[1, 1], [2, 2]])
    for make in (bm3, lightgcn):
        model = make(DATA.sizes, dim=4)
        other = make_victim(model, model.init(jax.random.key(0)), DATA, lists=Lists(k=K))
        found = relist(other, [5], policy="full", k=K)
        assert "reads no content" in found.blind and found.hr_before == found.hr_after
        rows = tuple(np.ones_like(x[0]) for x in DATA.features)
        np.testing.assert_array_equal(served(other, 5, rows, "full").item, other.item)
        with pytest.raises(InputError, match="There is nothing to attack"):
            attack(Attack(k=K), other, [5])


def test_what_cannot_be_is_refused():
    victim = random_victim()
    with pytest.raises(InputError, match=r"lists of neighbours, which jump.*attacks\.relist"):
        attack(Attack(k=K), victim, [5])
    with pytest.raises(InputError, match=r"level = 'feature': raw features of model mgcn also"):
        require_projected(mgcn(DATA.sizes), "feature")
    with pytest.raises(InputError, match=r"policy = 'weekly': wanted 'frozen' or"):
        blind(MODEL, "weekly")
    with pytest.raises(InputError, match=r"eps = -1.0: wanted a number >= 0"):
        relist(victim, [1], eps=-1.0, k=K)
    with pytest.raises(InputError, match="declares no item lists"):
        relist(dataclasses.replace(victim, model=MODEL._replace(lists=None)), [1], k=K)
    short = MODEL._replace(lists=MODEL.lists._replace(k=1))
    with pytest.raises(InputError, match="lists of 1 of 40 items: wanted at least 2"):
        listings(dataclasses.replace(victim, model=short))
