"""MGCN's certificate: no edit of raw features goes beyond, each user alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.attacks.test_normed_bounds import victim as lattice_victim
from tests.attacks.test_relisting import random_victim
from uatmc_jax.attacks import (
    Lists,
    certify_lists,
    make_victim,
    relist_rows,
    served,
)
from uatmc_jax.attacks.gated_bounds import gated_bounds, gated_listings
from uatmc_jax.errors import InputError
from uatmc_jax.models import Sizes, mgcn

K = 6


@functools.cache
def victim():
    """On the data of LATTICE's: features above 0, of ten kinds."""
    data, rng = lattice_victim().dataset, np.random.default_rng(0)
    model = mgcn(data.sizes, dim=4, n_neighbours=4)
    params = jax.tree.map(
        lambda x: x + jnp.asarray(rng.normal(scale=0.5, size=x.shape), jnp.float32),
        model.init(jax.random.key(0)),
    )
    return make_victim(model, params, data, np.arange(0, 50, 2), lists=Lists(k=K))


@functools.cache
def compared():
    return gated_listings(victim())


@pytest.mark.parametrize("eps", [0.0, 0.02, 0.2, 1.5, None])
@pytest.mark.parametrize("nonnegative", [False, True])
def test_no_edit_goes_beyond_any_users_bound(eps, nonnegative):
    of, rng, user = compared(), np.random.default_rng(1), np.asarray(victim().user)
    features, items = victim().dataset.features, np.array([1, 24])
    shares = certify_lists(victim(), items, eps=eps, k=K, of=of, nonnegative=nonnegative)
    for n, item in enumerate(items.tolist()):
        bound = gated_bounds(victim(), of, item, eps, nonnegative)
        assert np.isfinite(bound).all() == (nonnegative or eps not in (1.5, None))
        for attempt in range(8):
            rows = []
            for x in features:
                step = rng.normal(size=x.shape[1])
                if attempt % 2:  # towards another item
                    step = x[rng.integers(40)].astype(float) - x[item]
                length = np.linalg.norm(x[item].astype(float)) * (5.0 if eps is None else eps)
                step *= 0.999 * length / max(np.linalg.norm(step), 1e-9)
                row = (x[item] + step).astype(np.float32)
                rows.append(np.maximum(row, 0) if nonnegative else row)
            if any((x @ row <= 0).any() for x, row in zip(features, rows, strict=True)):
                continue  # cosines that may cancel: no list has their root
            items_now = np.asarray(served(victim(), item, tuple(rows), "own_row").item)
            scores = user @ items_now.T
            assert (scores[:, item] <= bound).all()
            rivals = np.delete(scores, item, axis=1)
            assert np.mean((rivals >= scores[:, [item]]).sum(axis=1) < K) <= shares[n]
    copied = relist_rows(victim(), items, eps=eps, k=K)
    assert (copied.hr_after <= shares).all()


def test_bounds_grow_with_the_budget_up_to_any_contents():
    of, user = compared(), np.asarray(victim().user)
    for item in (1, 24):
        clean = user @ np.asarray(victim().item)[item]
        gaps = [
            gated_bounds(victim(), of, item, eps, nonnegative=True) - clean
            for eps in (0.0, 0.01, 0.1, None)
        ]
        assert min(gap.min() for gap in gaps) >= 0
        means = [gap.mean() for gap in gaps]
        assert means == sorted(means) and means[0] < 0.5 * means[-1]


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match="declares no lists of gated rows"):
        gated_listings(random_victim())
    with pytest.raises(InputError, match=r"eps = -1.0: wanted a number >= 0"):
        certify_lists(victim(), [1], eps=-1.0, k=K)
    assert mgcn(Sizes(3, 3, {"visual": 2})).gated_lists is None
