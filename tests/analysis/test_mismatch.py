"""Directional contributions against Eqs. 5 to 7 taken literally, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.attacks.cases import K, attack, case
from uatmc_jax.analysis.mismatch import (
    contributions,
    jaccard,
    make_shares,
    measure_mismatch,
    top_users,
    user_gradients,
)
from uatmc_jax.attacks import Options
from uatmc_jax.attacks.record import as_compiled
from uatmc_jax.attacks.scoring.direct import DIRECT
from uatmc_jax.attacks.scoring.protocol import Target

ITEMS = np.array([3, 17, 8, 40, 25], np.int32)
ELU = attack(utility="elu")


def measure(c, chosen=ELU, **options):
    return measure_mismatch(chosen, c.victim, ITEMS, Options(**options))


def shares_in_float64(c, item, z):
    """(n,) phi_u by sorting all scores."""
    scores = c.scores(item, z)
    threshold = -np.sort(-scores, axis=1)[:, K - 1]
    seen_by = c.recommendable(item)
    x = np.where(seen_by, scores[:, item] - threshold, 0.0)
    return seen_by * np.where(x > 0, x, np.expm1(x)) / seen_by.sum()


def gradients_in_float64(c, item, step=1e-5):
    """Modal, (n, d): every user's gradient by central differences."""
    clean = [np.asarray(x[item], np.float64) for x in c.victim.z]
    gradients = []
    for m, row in enumerate(clean):
        columns = []
        for place in range(len(row)):
            ends = []
            for sign in (1, -1):
                moved = [x.copy() for x in clean]
                moved[m][place] += sign * step
                ends.append(shares_in_float64(c, item, moved))
            columns.append((ends[0] - ends[1]) / (2 * step))
        gradients.append(np.stack(columns, axis=1))
    return gradients


@pytest.mark.parametrize("name", ["vbpr", pytest.param("mmgcn", marks=pytest.mark.slow)])
def test_contributions_equal_the_definition(name):
    c = case(name, masked=True)
    found = measure(c)
    for n, item in enumerate(ITEMS):
        by_user = gradients_in_float64(c, int(item))
        whole = [g.sum(axis=0) for g in by_user]
        for m, (g, total) in enumerate(zip(by_user, whole, strict=True)):
            length = np.linalg.norm(g, axis=1)
            product = length * np.linalg.norm(total)
            cosine = g @ total / np.where(product > 0, product, 1.0)
            scale = np.abs(cosine * length).max()
            np.testing.assert_allclose(
                found.contributions[n, m], cosine * length, rtol=0, atol=2e-4 * scale
            )
        cosine = whole[0] @ whole[1] / np.linalg.norm(whole[0]) / np.linalg.norm(whole[1])
        np.testing.assert_allclose(found.cosine[n], cosine, atol=1e-4)


def test_explicit_user_gradients_give_the_same():
    c, item = case("vbpr"), 17
    shares, start = make_shares(as_compiled(ELU), c.victim, DIRECT, Target(jnp.int32(item)))
    by_user = user_gradients(shares, start, len(c.users), block=7)
    total = jax.grad(lambda delta: shares(delta).sum())(start)
    for g, sum_, found in zip(by_user, total, contributions(shares, start, total), strict=True):
        assert g.shape == (len(c.users), sum_.shape[1])
        np.testing.assert_allclose(g.sum(axis=0), sum_[0], atol=1e-6)
        expected = np.asarray(g) @ np.asarray(sum_[0]) / np.linalg.norm(sum_)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_batches_and_scorers_do_not_matter():
    c = case("vbpr")
    whole = measure(c)
    for other in (measure(c, memory_mib=1e-3), measure(c, scorer="dense")):
        np.testing.assert_allclose(other.contributions, whole.contributions, atol=1e-6)
        np.testing.assert_allclose(other.cosine, whole.cosine, atol=1e-5)


def test_one_modality_alone_has_no_cosine_and_its_own_contributions():
    c = case("vbpr")
    alone = measure(c, ELU.replace(modalities=("textual",)))
    np.testing.assert_allclose(alone.contributions[:, 0], measure(c).contributions[:, 1], atol=1e-6)
    assert not alone.cosine.any()


numbers = hnp.arrays(np.float64, (3, 9), elements=st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0]))


@settings(max_examples=50, deadline=None)
@given(numbers, st.floats(0.01, 1.0))
def test_top_users_are_the_largest_positive_ones(values, rho):
    chosen = top_users(values, rho)
    count = max(1, round(rho * 9))
    for row, mask in zip(values, chosen, strict=True):
        order = sorted(range(9), key=lambda u: (-row[u], u))[:count]
        assert set(np.flatnonzero(mask)) == {u for u in order if row[u] > 0}


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(bool, (4, 6)), hnp.arrays(bool, (4, 6)))
def test_jaccard_equals_sets(a, b):
    for x, y, found in zip(a, b, jaccard(a, b), strict=True):
        x, y = set(np.flatnonzero(x)), set(np.flatnonzero(y))
        if x | y:
            assert found == len(x & y) / len(x | y)
        else:
            assert np.isnan(found)


def test_users_who_read_one_modality_only_do_not_overlap():
    """Half of the users see the visual content, half the textual: U_v and U_t are these halves."""
    users, point = 10, (jnp.zeros((1, 3)), jnp.zeros((1, 3)))

    def shares(delta):
        visual, textual = (jnp.sum(x) for x in delta)
        return jnp.where(jnp.arange(users) < users // 2, visual, textual)

    gradient = jax.grad(lambda delta: shares(delta).sum())(point)
    found = np.stack(contributions(shares, point, gradient))
    sets = top_users(found, 0.5)
    assert sets[0].tolist() == [True] * 5 + [False] * 5
    assert jaccard(sets[0], sets[1]) == 0.0
