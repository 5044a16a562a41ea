"""Batches: the same targets whatever the batch, the same result whatever the scorer."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import attack as attack_config
from configs import baby_mmgcn
from tests.attacks.cases import (
    DATASET,
    ITEMS,
    KS,
    MMGCN_SLOW,
    MODELS,
    PLAIN,
    RESTARTED,
    attack,
    case,
    run,
    strength,
)
from uatmc_jax.attacks import Options, attack_batches, batching, make_victim
from uatmc_jax.attacks.batching import plan_batches
from uatmc_jax.attacks.outcome import attack_batch
from uatmc_jax.attacks.record import as_compiled, in_one_program
from uatmc_jax.attacks.scoring import receptive
from uatmc_jax.attacks.scoring.dense import DENSE
from uatmc_jax.attacks.scoring.direct import DIRECT
from uatmc_jax.attacks.scoring.protocol import Target
from uatmc_jax.attacks.scoring.receptive import RECEPTIVE
from uatmc_jax.benchmark.targets import choose_targets, choose_users
from uatmc_jax.data import open_dataset
from uatmc_jax.models import build_model, shells_of
from uatmc_jax.settings import AttackRunSettings, from_config, from_values


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
def test_what_the_receptive_path_leaves_open_the_dense_path_answers(monkeypatch):
    c, enough = case("mmgcn", spare=0), case("mmgcn")
    monkeypatch.setattr(receptive, "_DOUBTED", 0)
    attack_batch.clear_cache()
    items = np.array([12, 6, 0, 21, 18], np.int32)
    outcome, expected = (run(x, PLAIN, strength(1.0, 1.0), items, ranks=True) for x in (c, enough))
    assert {"dense", "receptive field"} == set(outcome.scorers)
    np.testing.assert_array_equal(outcome.items, items)
    np.testing.assert_allclose(outcome.utility_after, expected.utility_after, rtol=1e-4)
    np.testing.assert_allclose(outcome.hr_after, expected.hr_after, atol=1e-6)
    monkeypatch.undo()
    attack_batch.clear_cache()
    again = run(c, PLAIN, strength(1.0, 1.0), items, ranks=True)
    assert {"receptive field"} == set(again.scorers)
    np.testing.assert_allclose(again.utility_after, expected.utility_after, rtol=1e-4)
    np.testing.assert_allclose(again.hr_after, expected.hr_after, atol=1e-6)


def test_a_grid_over_strengths_compiles_once():
    c = case("vbpr")
    run(c, attack(steps=4), strength(0.1))
    before = attack_batch._cache_size()
    for eps in (0.025, 0.05, 0.075):
        run(c, attack(steps=4), strength(eps, step_size=0.2, margin=3.0))
    assert attack_batch._cache_size() == before


@pytest.mark.parametrize("name", MODELS)
def test_attacks_that_differ_in_numbers_compile_once(name):
    c = case(name)
    # Where a look is cheap, elu and hinge do not share a program: the branch would be felt.
    utilities = ("hinge", "elu") if name == "mmgcn" else ("hinge",)
    run(c, PLAIN, strength(), ITEMS[:1])
    before = attack_batch._cache_size()
    for steps, utility in itertools.product((1, 3, 10), utilities):
        chosen = PLAIN.replace(steps=steps, utility=utility)
        found = run(c, chosen, strength(0.3, step_size=0.4, margin=2.0), ITEMS[:1])
        assert found.values.shape == (1, steps + 1)
        assert found.utility_after[0] == found.values[0, -1] > found.values[0, 0]
    assert attack_batch._cache_size() == before


@pytest.mark.parametrize("utility", ["hinge", "elu", "sigmoid"])
@pytest.mark.parametrize("keep", ["last", "best"])
@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_one_program_for_many_attacks_gives_the_numbers_of_one_for_each(utility, keep, beta):
    c, steps = case("vbpr"), 3
    chosen = attack(steps=steps, utility=utility, keep=keep).replace(**strength(0.3, beta=beta))
    targets = Target(jnp.asarray(ITEMS))
    own, shared = (
        attack_batch(how(chosen), c.victim, DIRECT, (KS, True), targets, None, jax.random.key(0))
        for how in (as_compiled, in_one_program)
    )
    assert not np.any(shared["values"][:, steps + 1 :])
    shared["values"] = shared["values"][:, : steps + 1]
    for one, other in zip(*map(jax.tree.leaves, (own, shared)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("most", [1, 3, 33, 256])
def test_batches_of_receptive_fields_have_few_sizes(most, parts):
    sizes = set()
    for count in range(1, 300):
        cut = batching._few_sizes(count, most, parts)
        assert sum(cut[:-1]) < count <= sum(cut) and max(cut) <= most
        assert sum(cut) - count < max(most / parts, 1)  # filled up by repetition
        if count >= most / parts:
            sizes |= set(cut)
    assert len(sizes) <= min(parts, 2)


def test_an_accelerator_takes_fewer_shapes_to_the_same_result(monkeypatch):
    c, items = case("mmgcn"), np.arange(0, DATASET.n_items, 2, dtype=np.int32)
    monkeypatch.setattr(batching, "_NEAR", 2)
    monkeypatch.setattr(batching, "_FAR", 4)
    monkeypatch.setattr(batching, "_ITEMS", 2)
    plans = [
        plan_batches(c.victim, items, RECEPTIVE, 64.0, few_shapes=few) for few in (False, True)
    ]
    many, few = ({(batch.scorer, batch.size, batch.shell_sizes) for batch in p} for p in plans)
    assert len(few) < len(many)
    expected = run(c, PLAIN, strength(0.3), items)
    monkeypatch.setattr(batching, "memory_of", lambda options: 64.0)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    taken, stack = set(), batching.stack_targets

    def stacked(batch, adjacency):
        taken.add((batch.scorer, batch.size, batch.shell_sizes))
        return stack(batch, adjacency)

    monkeypatch.setattr(batching, "stack_targets", stacked)
    found = run(c, PLAIN, strength(0.3), items)
    assert taken == few
    np.testing.assert_array_equal(found.items, items)
    np.testing.assert_allclose(found.utility_after, expected.utility_after, rtol=1e-4)
    np.testing.assert_allclose(found.hr_after, expected.hr_after, atol=1e-6)


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


@pytest.mark.slow
@pytest.mark.parametrize("draws,many,few", [(1, 6, 2), (10, 9, 3)])
def test_shapes_of_the_published_targets_on_baby(real_data, draws, many, few):
    """What docs/scale says; shapes follow the graph alone, whatever the parameters."""
    settings = from_config(baby_mmgcn.get_config())
    data = open_dataset(dataclasses.replace(settings.data, root=str(real_data)))
    model = build_model(settings.model, data.sizes)
    evaluation = from_values(AttackRunSettings, attack_config.get_config())
    users = choose_users(data, evaluation.user_share, 0)
    victim = make_victim(model, model.init(jax.random.key(0)), data, users)

    def planned(few_shapes):
        targets = [choose_targets(evaluation.targets, data, seed) for seed in range(draws)]
        given = [(victim, items, RECEPTIVE, 4096.0) for items in targets]
        return [one for some in given for one in plan_batches(*some, few_shapes=few_shapes)]

    def rows(batches):
        return sum(batch.size * sum(batch.shell_sizes) for batch in batches)

    plans = [planned(few_shapes) for few_shapes in (False, True)]
    shapes = [{(one.scorer, one.size, one.shell_sizes) for one in plan} for plan in plans]
    assert [len(some) for some in shapes] == [many, few]
    assert 2.2 < rows(plans[1]) / rows(plans[0]) < 2.4
