"""Certificates: never exceeded, and as tight as each user's own worst case."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import oracles
from tests.attacks.cases import DIM, ITEMS, KS, MODALITIES, attack, case, run, strength
from uatmc_jax.attacks import certificate_of, certify
from uatmc_jax.errors import InputError

CERTIFIED = [
    (False, "projected", "linf", ()),
    (True, "projected", "l2", ("textual",)),
    (False, "feature", "l2", ("visual",)),
    (True, "feature", "linf", MODALITIES),
]


@pytest.mark.parametrize("masked,level,norm,modalities", CERTIFIED)
@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2), st.floats(0.0, 1.5))
def test_no_attack_exceeds_its_certificate(masked, level, norm, modalities, seed, eps):
    c = case("vbpr", seed=seed, masked=masked)
    chosen = attack(norm=norm, level=level, modalities=modalities, keep="best", steps=5)
    outcome = run(c, chosen, strength(eps, 0.4))
    certificate = certificate_of(chosen.replace(eps=eps), c.victim, ITEMS, KS)
    if level == "projected":
        assert np.all(outcome.hr_after <= certificate.budget + 1e-6)
        assert np.all(outcome.hr_before <= certificate.budget + 1e-6)
    else:
        assert certificate.budget is None
        assert np.all(outcome.hr_after <= certificate.any_content + 1e-6)
    assert np.all(outcome.hr_before <= certificate.any_content + 1e-6)


def test_certificates_equal_each_users_own_best_attack():
    """Brute force in float64: the best delta (or unit vector) for each user alone."""
    c, item, eps = case("vbpr"), 17, 0.2
    encoder = oracles.to_float64(c.params.encoder)
    z = [np.asarray(x, np.float64)[item] for x in c.victim.z]
    content = encoder.user[c.users][:, DIM:]
    pulls = [content @ encoder.kernel[m * DIM : (m + 1) * DIM].T for m in range(2)]
    scores = c.scores(item, z)
    clean = scores[:, item].copy()
    others = -np.sort(-np.delete(scores, item, axis=1), axis=1)
    dual = {"linf": 1, "l2": 2}
    for norm in ("linf", "l2"):
        chosen = attack(norm=norm)
        certificate = certificate_of(chosen.replace(eps=eps), c.victim, np.array([item]), KS)
        # Attacks on one modality alone do not keep a seller from replacing both.
        alone = attack(norm=norm, modalities=("textual",), eps=eps)
        one = certificate_of(alone, c.victim, np.array([item]), KS)
        np.testing.assert_array_equal(one.any_content, certificate.any_content)
        assert np.all(one.budget <= certificate.budget)
        bound = clean + sum(
            eps * np.linalg.norm(x) * np.linalg.norm(w, ord=dual[norm], axis=1)
            for x, w in zip(z, pulls, strict=True)
        )
        anything = clean + sum(
            np.linalg.norm(w, axis=1) - w @ x for x, w in zip(z, pulls, strict=True)
        )
        for n, k in enumerate(KS):
            np.testing.assert_allclose(
                certificate.budget[0, n], (bound > others[:, k - 1]).mean(), atol=1e-6
            )
            np.testing.assert_allclose(
                certificate.any_content[0, n], (anything > others[:, k - 1]).mean(), atol=1e-6
            )
        # The bound is reached: this user's own best delta attains it.
        user = 0
        best = [
            eps * np.linalg.norm(x)
            * (np.sign(w[user]) if norm == "linf" else w[user] / np.linalg.norm(w[user]))
            for x, w in zip(z, pulls, strict=True)
        ]  # fmt: skip
        moved = c.scores(item, [x + d for x, d in zip(z, best, strict=True)])[user, item]
        np.testing.assert_allclose(moved, bound[user], rtol=1e-9)


def test_only_linear_models_are_certified():
    victim = case("mmgcn").victim
    assert certificate_of(attack(), victim, ITEMS, KS) is None
    with pytest.raises(InputError, match="no certificate for mmgcn"):
        certify(victim, ITEMS, ks=KS)


def test_vbpr_is_as_linear_as_it_says():
    c = case("vbpr")
    rng = np.random.default_rng(0)
    a, b = ([rng.normal(size=(1, DIM)) for _ in range(2)] for _ in range(2))
    half = [(x + y) / 2 for x, y in zip(a, b, strict=True)]
    scores = [c.scores(5, z)[:, 5] for z in (a, half, b)]
    np.testing.assert_allclose(scores[1], (scores[0] + scores[2]) / 2, rtol=1e-9)
