"""LATTICE's certificate: no edit of raw features goes beyond, each user alone."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.attacks.test_relisting import DATA, random_victim
from uatmc_jax.attacks import Lists, certify_lists, make_victim, served
from uatmc_jax.attacks.listings import unmoved
from uatmc_jax.attacks.normed_bounds import normed_bounds, normed_listings
from uatmc_jax.errors import InputError
from uatmc_jax.models import lattice

K = 6
MODEL = lattice(DATA.sizes, dim=4, n_neighbours=4)


@functools.cache
def victim():
    """Features above 0, so that no list's cosines cancel, of ten kinds of four items each."""
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: x + jnp.asarray(rng.normal(scale=0.5, size=x.shape), jnp.float32),
        MODEL.init(jax.random.key(0)),
    )
    kinds = (np.abs(rng.normal(size=(10, x.shape[1]))) for x in DATA.features)
    features = tuple(
        (np.tile(kind, (4, 1)) + 0.1 * np.abs(x)).astype(np.float32)
        for kind, x in zip(kinds, DATA.features, strict=True)
    )
    data = dataclasses.replace(DATA, features=features)
    return make_victim(MODEL, params, data, np.arange(0, 50, 2), lists=Lists(k=K))


@functools.cache
def compared():
    return normed_listings(victim())


def test_a_budget_is_never_bounded_above_any_content():
    """Also where hardly anything holds a list's direction, so that its rounding grows."""
    of = compared()
    for item in (1, 17, 24):
        anything = normed_bounds(victim(), of, item, None)
        for eps in np.linspace(0, 1, 120):
            assert (normed_bounds(victim(), of, item, eps) <= anything).all()


@pytest.mark.parametrize("eps", [0.0, 0.02, 0.1, 0.4, 1.5, None])
def test_no_edit_goes_beyond_any_users_bound(eps):
    of, rng, user = compared(), np.random.default_rng(1), np.asarray(victim().user)
    features = victim().dataset.features
    items = np.array([1, 17, 24])
    shares = certify_lists(victim(), items, eps=eps, k=K, of=of)
    anything = certify_lists(victim(), items, k=K, of=of)
    assert (shares <= anything).all()
    for n, item in enumerate(items.tolist()):
        bound = normed_bounds(victim(), of, item, eps)
        rates = []
        for attempt in range(10):
            rows = []
            for x in features:
                step = rng.normal(size=x.shape[1])
                if attempt % 2:  # towards another item
                    step = x[rng.integers(40)].astype(float) - x[item]
                length = np.linalg.norm(x[item].astype(float)) * (5.0 if eps is None else eps)
                step *= 0.999 * length / max(np.linalg.norm(step), 1e-9)
                rows.append((x[item] + step).astype(np.float32))
            if any((x @ row <= 0).any() for x, row in zip(features, rows, strict=True)):
                continue  # cosines that may cancel: no list has their root
            items_now = np.asarray(served(victim(), item, tuple(rows), "own_row").item)
            scores = user @ items_now.T
            assert (scores[:, item] <= bound).all()
            rivals = np.delete(scores, item, axis=1)
            rates.append(np.mean((rivals >= scores[:, [item]]).sum(axis=1) < K))
        assert not rates or max(rates) <= shares[n]


def test_within_a_small_budget_the_bound_is_near_and_below_any_contents():
    of = compared()
    for item in (1, 24):
        user, own = np.asarray(victim().user), unmoved(victim(), item).own
        gaps = [
            normed_bounds(victim(), of, item, eps) - user @ own for eps in (0.0, 0.01, 0.1, None)
        ]
        assert min(gap.min() for gap in gaps) >= 0
        drawn = user @ (own - of.parts.base[item]) > 0  # whose bound is not below 0
        means = [gap[drawn].mean() for gap in gaps]
        assert means == sorted(means)
        assert means[0] < 1e-3 * means[-1] and means[1] < 0.1 * means[-1]
        assert means[2] < 0.7 * means[-1]


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match="declares no lists that it adds up as a direction"):
        normed_listings(random_victim())
    other = dataclasses.replace(victim(), model=MODEL._replace(normed_lists=None))
    with pytest.raises(InputError, match="declares no lists of neighbours that can be bounded"):
        certify_lists(other, [1], k=K)
    with pytest.raises(InputError, match=r"eps = -1.0: wanted a number >= 0"):
        certify_lists(victim(), [1], eps=-1.0, k=K)
