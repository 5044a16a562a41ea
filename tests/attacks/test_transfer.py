"""Perturbations crafted on one model and measured on another."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.attacks.cases import DATASET, KS, attack, case
from uatmc_jax.attacks import (
    Lists,
    Options,
    attack_batches,
    join,
    make_victim,
    measure_batches,
    transfer_batches,
)
from uatmc_jax.errors import InputError

ITEMS = np.array([3, 17, 8, 40, 25], np.int32)
KEY = jax.random.key(0)
CHOSEN = attack(utility="elu", steps=3, eps=0.3)


def other_encoder(c, projectors=None):
    """A victim with another encoder, and the case's projectors unless others are given."""
    encoder = jax.tree.map(lambda x: x[::-1], c.params.encoder)
    params = c.params.replace(encoder=encoder)
    if projectors is not None:
        params = params.replace(projectors=projectors)
    lists = Lists(k=max(KS), block_users=16, block_items=32)
    return make_victim(c.model, params, DATASET, c.users, lists=lists)


def transfer(c, chosen, surrogate, names=("model", "model"), **options):
    given = (chosen, c.victim, surrogate, ITEMS, KEY)
    return join(list(transfer_batches(*given, names=names, options=Options(KS, **options))))


def whitebox(chosen, victim):
    return join(list(attack_batches(chosen, victim, ITEMS, KEY, options=Options(KS))))


def test_crafted_on_itself_it_is_the_whitebox_attack():
    c = case("vbpr")
    carried, known = transfer(c, CHOSEN, c.victim), whitebox(CHOSEN, c.victim)
    for name in ("items", "hr_before", "hr_after", "delta", "scorers"):
        jax.tree.map(np.testing.assert_array_equal, getattr(carried, name), getattr(known, name))
    for name in ("utility_before", "utility_after", "z"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
            getattr(carried, name), getattr(known, name),
        )  # fmt: skip


def test_a_transfer_is_measured_on_the_victim():
    c = case("vbpr")
    surrogate = other_encoder(c)
    carried = transfer(c, CHOSEN, surrogate, ranks=True, memory_mib=1e-3)
    crafted = whitebox(CHOSEN, surrogate)
    jax.tree.map(np.testing.assert_allclose, carried.delta, crafted.delta)
    for n, item in enumerate(ITEMS):
        clean, after = ([x[n] for x in z] for z in ([x[ITEMS] for x in c.victim.z], carried.z))
        np.testing.assert_allclose(
            carried.hr_before[n], c.hits(item, clean).mean(axis=0), atol=1e-6
        )
        np.testing.assert_allclose(carried.hr_after[n], c.hits(item, after).mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(carried.rank_after[n], c.ranks(item, after).mean(), rtol=1e-6)
        phi = [c.utility(item, z, "elu", 1.0) for z in (clean, after)]
        np.testing.assert_allclose(carried.values[n], phi, rtol=1e-4, atol=1e-5)


def test_nothing_moved_changes_nothing():
    c = case("vbpr")
    nothing = [np.zeros((len(ITEMS), x.shape[1]), np.float32) for x in c.victim.z]
    parts = measure_batches(CHOSEN, c.victim, ITEMS, nothing, Options(KS))
    outcome = join(list(parts))
    np.testing.assert_array_equal(outcome.hr_before, outcome.hr_after)


def test_z_that_is_not_shared_is_refused_and_raw_features_are_not():
    c = case("vbpr")
    projectors = jax.tree.map(lambda x: 1.5 * x + 0.1, c.params.projectors)
    surrogate = other_encoder(c, projectors)
    with pytest.raises(InputError, match="surrogate theirs and victim ours do not share z"):
        transfer(c, CHOSEN, surrogate, names=("theirs", "ours"))
    shallow = dataclasses.replace(surrogate, z=tuple(x[:, :2] for x in surrogate.z))
    with pytest.raises(InputError, match="level = 'feature'"):
        transfer(c, CHOSEN, shallow)
    feature = CHOSEN.replace(level="feature")
    carried = transfer(c, feature, surrogate)
    crafted = whitebox(feature, surrogate)
    jax.tree.map(np.testing.assert_array_equal, carried.delta, crafted.delta)
    raw = [np.asarray(x)[ITEMS] + d for x, d in zip(DATASET.features, carried.delta, strict=True)]
    z = c.model.project(c.params.projectors, tuple(raw))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), carried.z, z)
