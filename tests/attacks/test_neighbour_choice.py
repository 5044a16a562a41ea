"""The soft and the greedy choice of neighbours: beside copying, and by brute force on a plane."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.attacks.test_normed_bounds import victim as lattice_victim
from tests.attacks.test_relisting import DATA, compared, dense_hits, random_victim
from tests.conftest import make_interactions
from tests.models import toy
from uatmc_jax.attacks import (
    Effort,
    Lists,
    Options,
    attack_batches,
    certify_lists,
    choose_neighbours,
    choosing,
    join,
    listings,
    make_victim,
    own_listings,
    served,
)
from uatmc_jax.attacks.cosine_bounds import parts_of
from uatmc_jax.attacks.listings import Relisting, hits
from uatmc_jax.attacks.neighbour_choice import _by_directions, _by_lists, _Shared
from uatmc_jax.attacks.policies import require_search
from uatmc_jax.attacks.soft_lists import _directions, _embeddings
from uatmc_jax.errors import InputError
from uatmc_jax.models import freedom
from uatmc_jax.models.neighbours import cosines, nearest

K = 6


@pytest.mark.parametrize("policy,eps", [("own_row", 0.3), ("full", 0.3), ("own_row", None)])
def test_never_below_copying_and_as_the_rebuild_has_it(policy, eps):
    victim, items = random_victim(), np.array([1, 17, 24])
    found = choose_neighbours(victim, items, eps=eps, policy=policy, k=K, of=compared())
    assert (found.hr_after >= found.hr_copied).all() and (found.hr_copied >= found.hr_before).all()
    for n, item in enumerate(items.tolist()):
        rows = tuple(x[n] for x in found.features)
        if eps is not None:
            for x, row in zip(DATA.features, rows, strict=True):
                radius = eps * np.linalg.norm(x[item].astype(float))
                assert np.linalg.norm(row.astype(float) - x[item]) <= radius
        again = dense_hits(victim, item, *served(victim, item, rows, policy), K)
        assert again.mean() == found.hr_after[n]
        assert found.found_by[n] != "none" or found.hr_after[n] == found.hr_before[n]
    if policy == "own_row":
        bound = certify_lists(victim, items, eps=eps, k=K, of=compared())
        assert (found.hr_after <= bound).all()


def test_as_an_attack_it_is_the_same_search():
    victim, items = random_victim(), np.array([1, 24], np.int32)
    chosen, options = choosing(eps=0.3, k=K), Options((3, K), serving="own_row")
    expected = choose_neighbours(victim, items, eps=0.3, k=K, of=compared())
    found = join(attack_batches(chosen, victim, items, jax.random.key(0), options=options))
    np.testing.assert_allclose(found.hr_after[:, 1], expected.hr_after, atol=1e-6)
    for delta, x, rows in zip(found.delta, DATA.features, expected.features, strict=True):
        np.testing.assert_allclose(x[items] + delta, rows, atol=1e-6)
    assert set(found.scorers) == {"lists"} and chosen.steps == Effort().steps
    with pytest.raises(InputError, match=r"are not chosen under 'full'.*Use search = 'relist'"):
        require_search(lattice_victim().model, chosen, "full")


def plane(seed, n_items=14):
    """FREEDOM on features of two numbers, where an edit is an angle."""
    rng = np.random.default_rng(seed)
    angles = rng.uniform(0.1, 1.5, (2, n_items))
    features = tuple(np.stack([np.cos(a), np.sin(a)], axis=1).astype(np.float32) for a in angles)
    pairs = {(u, int(i)) for u in range(40) for i in rng.integers(0, n_items, 3)}
    whole = dataclasses.replace(toy.dataset(), n_users=40, n_items=n_items, features=features)
    data = dataclasses.replace(whole, train=make_interactions(pairs))
    model = freedom(data.sizes, dim=4, n_neighbours=3, shares={"visual": 0.5, "textual": 0.5})
    params = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), model.init(jax.random.key(0))
    )
    return make_victim(model, params, data, lists=Lists(k=2))


def best_of_all(victim, of, item, eps, k):
    """The most users that any pair of lists within the budget gives, all angles tried."""
    by_modality = []
    for standing, x in zip(of.standings, victim.dataset.features, strict=True):
        angle = np.arctan2(x[item][1], x[item][0]) + np.linspace(-1, 1, 2001) * np.arcsin(eps)
        rows = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        found = nearest(cosines(standing.of, rows), np.full(len(rows), item), of.k).ids
        lists = {tuple(sorted(one)) for one in found.tolist()}
        share = standing.share / of.k
        by_modality.append([share * of.table[list(one)].sum(axis=0) for one in sorted(lists)])
    nobody = np.zeros(0, int)
    rates = [
        hits(victim, item, Relisting(of.base[item] + a + b, nobody, of.table[:0]), k).mean()
        for a in by_modality[0]
        for b in by_modality[1]
    ]
    return max(rates), len(rates)


@pytest.mark.long
def test_the_best_pair_of_lists_on_a_plane_is_mostly_found_where_copying_misses_it():
    attained = copied = lists = 0
    for seed in range(4):
        victim = plane(seed)
        of, items = listings(victim), np.arange(14)
        found = choose_neighbours(victim, items, eps=0.35, k=2, of=of)
        for n, item in enumerate(items.tolist()):
            best, count = best_of_all(victim, of, item, 0.35, 2)
            assert found.hr_copied[n] <= found.hr_after[n] <= best + 1e-9
            attained += found.hr_after[n] >= best - 1e-9
            copied += found.hr_copied[n] >= best - 1e-9
            lists += count
    assert lists > 300  # there was something to choose
    assert attained >= 46 and attained >= copied + 5  # of 56


@pytest.mark.long
@pytest.mark.parametrize("eps", [0.3, None])
def test_lattice_is_searched_alike_under_own_row(eps):
    other, items = lattice_victim(), np.array([1, 24])
    found = choose_neighbours(other, items, eps=eps, k=K)
    assert (found.hr_after >= found.hr_copied).all() and (found.hr_copied >= found.hr_before).all()
    assert found.hr_after.max() > found.hr_before.min()
    for n, item in enumerate(items.tolist()):
        rows = tuple(x[n] for x in found.features)
        again = dense_hits(other, item, *served(other, item, rows, "own_row"), K)
        assert again.mean() == found.hr_after[n]
    assert (found.hr_after <= certify_lists(other, items, eps=eps, k=K)).all()
    with pytest.raises(InputError, match="are chosen under 'own_row' alone"):
        choose_neighbours(other, items, policy="full", k=K)


def test_the_relaxation_has_the_exact_lists_where_it_is_hard():
    """And where tau is small the soft ones are nearly these."""
    rng = np.random.default_rng(2)
    for other in (random_victim(), lattice_victim()):
        normed = other.model.normed_lists is not None
        of = own_listings(other) if normed else compared()
        known = of.of if normed else tuple(s.of for s in of.standings)
        units = tuple(jnp.asarray(x.units, jnp.float32) for x in known)
        parts = parts_of(other, other.model.normed_lists) if normed else None
        shared = _Shared(other, of, known, units, parts, (None, "own_row", K), Effort())
        for item in (1, 24):
            search = (_by_directions if normed else _by_lists)(shared, item)
            rows = tuple(
                np.abs(x[item] + rng.normal(size=x.shape[1])).astype(np.float32)
                for x in other.dataset.features
            )
            args = (search.aim, search.normed, rows) if normed else (search.aim, rows)
            soft, hard = (_directions if normed else _embeddings)(*args, jnp.float32(1e-5))
            np.testing.assert_allclose(hard, search.own(rows), atol=1e-5)
            np.testing.assert_allclose(soft, hard, atol=0.02)


def test_where_no_edit_has_an_effect_nothing_is_run(monkeypatch):
    monkeypatch.setattr("uatmc_jax.attacks.neighbour_choice._improved", None)
    found = choose_neighbours(random_victim(), [1], policy="frozen", k=K)
    assert found.hr_after == found.hr_before and found.found_by.tolist() == ["none"]
