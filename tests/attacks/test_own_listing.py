"""Copying listings under own_row in models that read content twice: as the rebuild has it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.attacks.test_relisting import DATA, dense_hits
from uatmc_jax.attacks import (
    Lists,
    Options,
    attack_batches,
    certify_lists,
    collateral_of,
    copying,
    join,
    listed_hits,
    make_victim,
    own_listings,
    relist_rows,
    served,
)
from uatmc_jax.attacks.edited_lists import edited_nearest, rebuilt
from uatmc_jax.attacks.own_listing import own_rows
from uatmc_jax.errors import InputError
from uatmc_jax.models import dragon, freedom, lattice, mgcn
from uatmc_jax.models.neighbours import all_nearest, directions

K = 6
# Above 0, so that no list's cosines cancel; clones among them.
HERE = dataclasses.replace(DATA, features=tuple(np.abs(x) for x in DATA.features))
MAKE = {
    "freedom": functools.partial(freedom, n_neighbours=4),
    "lattice": functools.partial(lattice, n_neighbours=4),
    "mgcn": functools.partial(mgcn, n_neighbours=4),
    "dragon": functools.partial(dragon, n_neighbours=4, n_cobuyers=3, mlp_width=5),
}
LONG = [pytest.param(name, marks=pytest.mark.long) for name in ("freedom", "mgcn", "dragon")]
NAMES = ["lattice", *LONG]


@functools.cache
def victim_of(name):
    model, rng = MAKE[name](HERE.sizes, dim=4), np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: x + jnp.asarray(rng.normal(scale=0.5, size=x.shape), jnp.float32),
        model.init(jax.random.key(0)),
    )
    return make_victim(model, params, HERE, np.arange(0, 50, 2), lists=Lists(k=K, spare=3))


@pytest.mark.long
@pytest.mark.parametrize("name", MAKE)
def test_own_rows_are_those_of_the_definition(name):
    victim, rng = victim_of(name), np.random.default_rng(1)
    of = own_listings(victim)
    for item in (3, 24):
        edits = [tuple(x[s].copy() for x in HERE.features) for s in (17, 30, item)]
        edits.append(
            tuple(np.abs(x[item] + rng.normal(size=x.shape[1]).astype("f4")) for x in HERE.features)
        )
        found = own_rows(victim, of, item, edits)
        for rows, own in zip(edits, found, strict=True):
            expected = served(victim, item, rows, "own_row").item[item]
            np.testing.assert_allclose(own, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_found_is_what_the_rebuild_gives(name):
    victim, items = victim_of(name), np.array([2, 24])
    for eps in (0.3, None):
        found = relist_rows(victim, items, eps=eps, k=K)
        for n, item in enumerate(items.tolist()):
            rows = tuple(x[n] for x in found.features)
            again = dense_hits(victim, item, *served(victim, item, rows, "own_row"), K)
            assert again.mean() == found.hr_after[n] >= found.hr_before[n]
            for x, row in zip(HERE.features, rows, strict=True):
                length = np.linalg.norm(x[item].astype(float))
                assert eps is None or np.linalg.norm(row - x[item].astype(float)) <= eps * length
        if name == "lattice":
            assert (found.hr_after <= certify_lists(victim, items, eps=eps, k=K)).all()
    assert found.hr_after.max() > found.hr_before[found.hr_after.argmax()]


def test_edited_lists_are_those_of_comparing_all_with_all():
    """Clones, copies and ties among them: at the toy's few angles nothing else would show."""
    rng = np.random.default_rng(3)
    for n, dim, k in ((12, 2, 3), (20, 3, 5), (9, 1, 4)):
        table = rng.integers(-2, 3, size=(n, dim)).astype("f4")
        table[(table == 0).all(axis=1)] = 1
        of = directions(table)
        near = all_nearest(of, k + 1)
        for item in range(n):
            for row in (table[(item + 1) % n], table[item], -table[item], table[0] + 0.5):
                new = table.copy()
                new[item] = row if row.any() else 1.0
                expected = all_nearest(directions(new), k)
                found = edited_nearest(of, near, item, new[item])
                np.testing.assert_array_equal(found.ids, expected.ids)
                np.testing.assert_allclose(found.cosines, expected.cosines, atol=1e-11)


FULL = ["mgcn", *(pytest.param(name, marks=pytest.mark.long) for name in ("lattice", "dragon"))]


@pytest.mark.parametrize("name", FULL)
def test_under_full_what_is_found_is_what_the_rebuild_gives(name):
    victim, items = victim_of(name), np.array([2, 24], np.int32)
    found = relist_rows(victim, items, eps=0.5, policy="full", k=K)
    for n, item in enumerate(items.tolist()):
        rows = tuple(x[n] for x in found.features)
        whole = served(victim, item, rows, "full")
        ours = rebuilt(victim, own_listings(victim), item, rows)
        for expected, one in zip(whole, ours, strict=True):
            np.testing.assert_allclose(one, expected, rtol=1e-5, atol=2e-6)
        assert dense_hits(victim, item, *whole, K).mean() == found.hr_after[n]
        assert found.hr_after[n] >= found.hr_before[n]
    assert found.hr_after.max() > found.hr_before[found.hr_after.argmax()]
    # As an attack: the same edits, hit rates and ranks, and whom else they move.
    chosen = copying(eps=0.5, k=K)
    options = Options((3, K), True, serving="full")
    rows = join(attack_batches(chosen, victim, items, jax.random.key(0), options=options))
    np.testing.assert_allclose(rows.hr_after[:, 1], found.hr_after, atol=1e-6)
    assert (rows.rank_after >= 1).all() and (rows.rank_after <= rows.rank_before).any()
    others = collateral_of(chosen, victim, items, rows.delta, rows.z, K)
    assert [one.items for one in others] == found.moved.tolist()
    hits = listed_hits(victim, items, rows.delta, K, "full")
    np.testing.assert_allclose(hits.mean(axis=2)[:, 1], found.hr_after, atol=1e-6)


@pytest.mark.long
def test_all_donors_tried_no_single_copy_does_better(monkeypatch):
    monkeypatch.setattr("uatmc_jax.attacks.own_listing.TRIED", 39)
    victim = victim_of("mgcn")
    found = relist_rows(victim, [24], k=K)
    rates = []
    for donor in range(40):
        rows = tuple(x[donor] for x in HERE.features)
        rates.append(dense_hits(victim, 24, *served(victim, 24, rows, "own_row"), K).mean())
    assert found.hr_after[0] >= max(rates)


def test_what_cannot_be_is_refused():
    victim = victim_of("lattice")
    other = dataclasses.replace(victim, model=victim.model._replace(own_row=None))
    with pytest.raises(InputError, match="makes no list a modality of raw features"):
        relist_rows(other, [1], k=K)
    with pytest.raises(InputError, match=r"eps = -1.0: wanted a number >= 0"):
        relist_rows(victim, [1], eps=-1.0, k=K)
