"""The exact scorers against the dense one and against sorting everything in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.attacks.cases import DATASET, DIM, KS, K, case
from uatmc_jax.attacks.batching import plan_batches, scorer_of, stack_targets
from uatmc_jax.attacks.scoring import receptive
from uatmc_jax.attacks.scoring.dense import DENSE
from uatmc_jax.attacks.scoring.direct import DIRECT
from uatmc_jax.attacks.scoring.protocol import Target
from uatmc_jax.attacks.scoring.receptive import RECEPTIVE
from uatmc_jax.attacks.utility import promotion_utility
from uatmc_jax.attacks.victim import recommendable

# Model, training items masked, best items kept beyond K (None: enough for all here).
CASES = [
    ("vbpr", False, None),
    ("vbpr", True, None),
    pytest.param("mmgcn", False, None, marks=pytest.mark.slow),
    ("mmgcn", True, None),
    pytest.param("mmgcn", False, 0, marks=pytest.mark.slow),
    pytest.param("lightgcn", True, None, marks=pytest.mark.long),
    pytest.param("lightgcn", False, 0, marks=pytest.mark.long),
]
# From the least popular to the most.
ITEMS = np.argsort(DATASET.item_train_counts, kind="stable")[[0, 16, 33, -1]]
seeds = st.integers(0, 10_000)


def target_of(c, item):
    """The target as attacks prepare it."""
    scorer = scorer_of(c.model)
    (batch,) = plan_batches(c.victim, np.array([item]), scorer, 64.0)
    targets = stack_targets(batch, c.adjacency)
    return batch.scorer, jax.tree.map(lambda x: jnp.asarray(x[0]), targets)


def content(c, item, seed, size):
    """The target's content moved at random."""
    rng = np.random.default_rng(seed)
    return tuple(
        x[item : item + 1] + jnp.asarray(rng.normal(scale=size, size=(1, DIM)), jnp.float32)
        for x in c.victim.z
    )


@functools.partial(jax.jit, static_argnames=("scorer",))
def look(scorer, victim, target, z):
    """Excess, hits, and value and gradient of Phi for both utilities, with one scorer."""
    state = scorer.prepare(victim, target, K, KS)
    weights = recommendable(victim, target.item).astype(jnp.float32)
    excess, pull = jax.vjp(lambda z: scorer.excess(victim, state, z), z)
    phis = []
    for kind in ("elu", "hinge"):
        value, slope = jax.value_and_grad(promotion_utility)(
            excess, weights, kind, jnp.float32(0.5)
        )
        phis.append((value, pull(slope)[0]))
    return excess, scorer.hits(victim, state, z), phis


def look_at(c, scorer, target, z):
    return look(scorer, c.victim, target, z)


def clear_of_ties(c, item, z, gap=1e-4):
    """Users for whom float32 and float64 must agree: no other item within `gap` of the target."""
    scores = c.scores(item, z)
    distance = np.abs(np.where(np.isinf(scores), 1e9, scores) - scores[:, [item]])
    distance[:, item] = np.inf
    return distance.min(axis=1) > gap


@pytest.mark.parametrize("name,masked,spare", CASES)
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 3), seeds, st.sampled_from([0.0, 0.05, 0.5, 3.0]))
def test_exact_scorers_equal_the_dense_one_and_brute_force(name, masked, spare, nth, seed, size):
    c = case(name, masked=masked, spare=spare)
    item = int(ITEMS[nth])  # few, as the receptive scorer is compiled for each one's field
    z = content(c, item, seed, size)
    scorer, target = target_of(c, item)
    assert scorer is (DIRECT if name == "vbpr" else RECEPTIVE)
    excess, hits, phis = look_at(c, scorer, target, z)
    dense_excess, dense_hits, dense_phis = look_at(c, DENSE, Target(jnp.int32(item)), z)
    seen_by = c.recommendable(item)
    told = np.isfinite(np.asarray(excess)) & np.isfinite(np.asarray(hits)).all(axis=1)
    assert told.all() or spare is not None
    both = seen_by & told
    np.testing.assert_allclose(excess[both], dense_excess[both], rtol=1e-4, atol=2e-4)
    clear = both & clear_of_ties(c, item, z)
    np.testing.assert_array_equal(np.asarray(hits)[clear] > 0, np.asarray(dense_hits)[clear])
    expected = c.hits(item, z)
    np.testing.assert_array_equal(
        (np.asarray(dense_hits) & seen_by[:, None])[clear], expected[clear]
    )
    if not told.all():
        return
    for kind, (value, grad), (dense_value, dense_grad) in zip(
        ("elu", "hinge"), phis, dense_phis, strict=True
    ):
        oracle = c.utility(item, z, kind, 0.5)
        np.testing.assert_allclose(value, oracle, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(dense_value, oracle, rtol=1e-4, atol=1e-4)
        for a, b in zip(grad, dense_grad, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * max(1.0, np.abs(b).max()))


@pytest.mark.parametrize("in_full", [0, 1, 8])
def test_what_the_receptive_scorer_cannot_tell_it_says(in_full, monkeypatch):
    """With no spare items large moves leave users open, unless those are ranked in full.

    Whom it answers, it answers as the dense scorer does.
    """
    c = case("mmgcn", spare=0, share=1.0)
    monkeypatch.setattr(receptive, "_DOUBTED", in_full)
    looked = jax.jit(lambda *args: look.__wrapped__(RECEPTIVE, *args))  # not as compiled before

    def unanswered(size):
        count = []
        for item in np.argsort(DATASET.item_train_counts)[:6]:
            _, target = target_of(c, int(item))
            z = content(c, int(item), 0, size)
            excess, hits, _ = looked(c.victim, target, z)
            told = np.isfinite(np.asarray(excess))
            expected, dense_hits, _ = look_at(c, DENSE, Target(jnp.int32(item)), z)
            np.testing.assert_allclose(excess[told], expected[told], rtol=1e-4, atol=2e-3)
            told &= np.isfinite(np.asarray(hits)).all(axis=1)
            clear = told & clear_of_ties(c, int(item), z)
            np.testing.assert_array_equal((hits > 0)[clear], np.asarray(dense_hits)[clear])
            count.append(int((~told).sum()))
        return count

    assert unanswered(1e-4) == [0] * 6
    left = unanswered(30.0)
    assert left == {0: [2, 2, 3, 2, 1, 2], 1: [1, 0, 1, 1, 0, 1], 8: [0] * 6}[in_full]
