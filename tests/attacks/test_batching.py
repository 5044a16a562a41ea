"""Batches: the same targets whatever the batch, the same result whatever the scorer."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.attacks.cases import (
    DATASET,
    ITEMS,
    KS,
    MMGCN_SLOW,
    PLAIN,
    RESTARTED,
    attack,
    case,
    run,
    strength,
)
from uatmc_jax.attacks import Options, attack_batches, batching
from uatmc_jax.attacks.batching import plan_batches
from uatmc_jax.attacks.scoring.dense import DENSE
from uatmc_jax.attacks.scoring.receptive import RECEPTIVE
from uatmc_jax.models import shells_of


@pytest.mark.parametrize("name", MMGCN_SLOW)
def test_results_do_not_depend_on_the_batch_size(name):
    c = case(name)
    whole = run(c, RESTARTED, strength(0.3))
    single = run(c, RESTARTED, strength(0.3), memory_mib=1e-3)
    np.testing.assert_array_equal(whole.items, ITEMS)
    np.testing.assert_array_equal(single.items, ITEMS)
    np.testing.assert_array_equal(whole.hr_after, single.hr_after)
    np.testing.assert_allclose(whole.utility_after, single.utility_after, rtol=1e-5, atol=1e-6)


def test_a_model_with_encode_alone_takes_the_dense_path():
    c = case("vbpr")
    own = c.model._replace(select=None, encode_rows=None, affine_in_content=False, name="mine")
    victim = dataclasses.replace(c.victim, model=own)
    (part,) = attack_batches(
        attack(steps=1), victim, ITEMS[:2], jax.random.key(0), options=Options(KS)
    )
    assert set(part[1].scorers) == {"dense"}
    expected = run(c, attack(steps=1), strength(), ITEMS[:2])
    np.testing.assert_array_equal(part[1].hr_after, expected.hr_after)


@pytest.mark.slow
def test_what_the_receptive_path_leaves_open_the_dense_path_answers():
    c, enough = case("mmgcn", spare=0), case("mmgcn")
    items = np.array([12, 6, 0, 21, 18], np.int32)
    outcome, expected = (run(x, PLAIN, strength(1.0, 1.0), items, ranks=True) for x in (c, enough))
    assert {"dense", "receptive field"} == set(outcome.scorers)
    np.testing.assert_array_equal(outcome.items, items)
    np.testing.assert_allclose(outcome.utility_after, expected.utility_after, rtol=1e-4)
    np.testing.assert_allclose(outcome.hr_after, expected.hr_after, atol=1e-6)


def test_a_grid_over_strengths_compiles_once():
    from uatmc_jax.attacks.outcome import attack_batch

    c = case("vbpr")
    run(c, attack(steps=4), strength(0.1))
    before = attack_batch._cache_size()
    for eps in (0.025, 0.05, 0.075):
        run(c, attack(steps=4), strength(eps, step_size=0.2, margin=3.0))
    assert attack_batch._cache_size() == before


def test_a_field_too_large_goes_to_the_dense_scorer(monkeypatch):
    c = case("mmgcn")
    monkeypatch.setattr(batching, "_CLASSES", 1)
    items = np.arange(DATASET.n_items, dtype=np.int32)
    batches = plan_batches(c.victim, items, RECEPTIVE, 64.0)
    for batch in batches:
        sizes = (1, 8, 16, 256)
        for item in batch.items:
            shells = shells_of(c.adjacency, int(item), 3, np.ones(110, bool), 10**6)
            fits = all(len(x) <= size for x, size in zip(shells[:3], sizes, strict=False))
            assert (batch.scorer is RECEPTIVE) == fits
    assert {batch.scorer for batch in batches} == {DENSE, RECEPTIVE}
    places = np.concatenate([batch.places for batch in batches])
    assert sorted(places) == list(range(DATASET.n_items))
