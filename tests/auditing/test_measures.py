"""What an audit measures of users and of items at large, against counting by hand."""

import jax
import numpy as np
import pytest

from tests.attacks.cases import DATASET, KS, K, attack, case
from uatmc_jax.attacks import Options, attack_batches, certificate_of, content_under, join
from uatmc_jax.auditing.measures import reached_users, survey_certificates, user_recall
from uatmc_jax.evaluation.metrics import mean_metrics
from uatmc_jax.evaluation.ranking import make_plan
from uatmc_jax.models.projection import project_all

ITEMS = np.array([0, 7, 19, 33, 48], np.int32)


@pytest.mark.parametrize(
    ("name", "masked"),
    [("vbpr", False), ("vbpr", True), pytest.param("mmgcn", True, marks=pytest.mark.slow)],
)
def test_users_are_counted_as_sorting_all_scores_counts_them(name, masked):
    c, options = case(name, masked=masked), Options((K,), memory_mib=0.1)
    chosen, key = attack(restarts=1), jax.random.key(0)
    outcome = join(list(attack_batches(chosen, c.victim, ITEMS, key, options=options)))
    z = content_under(chosen, c.victim, ITEMS, outcome.delta)
    jax.tree.map(np.testing.assert_array_equal, z, outcome.z)
    found = reached_users(c.victim, ITEMS, z, K, options)
    column = KS.index(K)
    clean = np.array([c.hits(t, [x[t] for x in c.victim.z])[:, column] for t in ITEMS])
    moved = np.array([c.hits(t, [x[n] for x in outcome.z])[:, column] for n, t in enumerate(ITEMS)])
    before, after = clean.sum(axis=0), moved.sum(axis=0)
    assert np.array_equal(found.before, before) and np.array_equal(found.after, after)
    assert np.array_equal(found.gained, (moved & ~clean).sum(axis=0))
    assert after.sum() > before.sum()  # else the attack, and this test, would say nothing
    # The same attack on the same users: what is counted here is what the rows say.
    assert found.after.sum() == round(float(outcome.hr_after.sum()) * len(c.users))


def test_a_survey_is_the_certificate_of_each_item_and_where_it_is_shown():
    c = case("vbpr")
    items = np.arange(DATASET.n_items, dtype=np.int32)
    survey = survey_certificates(attack(), c.victim, items, K)
    certificate = certificate_of(attack(), c.victim, items, (K,))
    assert np.array_equal(survey.bound, certificate.budget[:, 0])
    clean = [c.hits(t, [x[t] for x in c.victim.z])[:, KS.index(K)].mean() for t in items]
    np.testing.assert_allclose(survey.shown, clean, atol=1e-6)
    assert (survey.bound >= survey.shown).all() and (survey.bound > survey.shown).any()
    assert survey.shown.sum() == pytest.approx(K)  # every user's list holds K items


def test_no_survey_without_a_certificate():
    items = ITEMS[:2]
    mmgcn, vbpr = case("mmgcn", masked=True), case("vbpr")
    assert survey_certificates(attack(), mmgcn.victim, items, K) is None
    raw = attack(level="feature")
    assert survey_certificates(raw, vbpr.victim, items, K) is None


def test_recall_by_user_averages_to_the_metric():
    c = case("vbpr")
    plan = make_plan(DATASET.train, DATASET.n_users, DATASET.n_items, 16, 32)
    held_out = [DATASET.held_out(split) for split in ("valid", "test")]
    z = project_all(c.model, c.params, c.data.features)
    found = user_recall(c.model, c.params, DATASET, z, ("valid", "test"), 10)
    embeddings = c.model.encode(c.params.encoder, z, c.data.graph)
    metrics = mean_metrics(*embeddings, plan, held_out, (10,))
    for values, split, name in zip(found, metrics, ("valid", "test"), strict=True):
        assert len(values) == len(np.unique(DATASET.split(name).users))
        assert values.mean() == pytest.approx(float(split["recall@10"]), abs=1e-6)
        assert values.min() >= 0 and values.max() <= 1 and len(set(values)) > 1
