"""Certificates: never exceeded, and as tight as each user's own worst case."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import oracles
from tests.attacks.cases import DATASET, DIM, ITEMS, KS, MODALITIES, attack, case, run, strength
from uatmc_jax.attacks import Lists, Options, certificate_of, certify, make_victim, pgd
from uatmc_jax.attacks import attack as attack_items
from uatmc_jax.errors import InputError
from uatmc_jax.models import Embeddings

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


def scaled(seed):
    """A VBPR whose free and content parts are of any size, the free ones perhaps cancelling."""
    c, rng = case("vbpr"), np.random.default_rng(seed)
    encoder = c.params.encoder
    free, kernel, user = (10.0 ** rng.uniform(-4, 5) for _ in range(3))
    item = free * rng.normal(size=encoder.item.shape)
    likes = rng.normal(size=encoder.user.shape)
    if rng.random() < 0.5:  # e_i orthogonal to the free part of users, but for rounding
        item[:, 1] = item[:, 0] + kernel * rng.normal(size=len(item))
        likes[:, 1] = -likes[:, 0]
        item[:, 2:] = 0
    arrays = {"user": user * likes, "item": item, "kernel": kernel * np.asarray(encoder.kernel)}
    changed = encoder.replace(**{k: jnp.asarray(x, jnp.float32) for k, x in arrays.items()})
    params = c.params.replace(encoder=changed)
    return make_victim(c.model, params, DATASET, c.users, lists=Lists(max(KS), 5, 16, 32))


def exceeded(seeds):
    """Attacks that got further than a certificate allows, of models of all scales."""
    found = []
    for seed in seeds:
        victim = scaled(seed)
        eps = float(10 ** np.random.default_rng(seed).uniform(-2, 0.3))
        norm = ("linf", "l2")[seed % 2]
        attacks = [pgd(norm=norm, eps=eps, k=KS[-1]), pgd(norm=norm, eps=eps, k=KS[0])]
        options = Options(ks=KS)
        rates = [attack_items(a, victim, ITEMS, options=options).hr_after for a in attacks]
        bounds = [certify(victim, ITEMS, norm=norm, eps=eps, ks=KS), certify(victim, ITEMS, ks=KS)]
        if seed % 20 == 0:
            bounds.append(certify(victim, ITEMS, norm=norm, eps=eps, ks=KS, branches=2))
            assert (bounds[2] <= bounds[0]).all()
        within = [bounds[0], *bounds[2:]]
        if any((rate > bound + 1e-7).any() for rate in rates for bound in within):
            found.append(seed)
    return found


def test_no_rounding_lifts_an_attack_above_its_certificate():
    """Scores of free parts of 1e5 that cancel are wrong by more than all that content is."""
    assert exceeded(range(40)) == []


@pytest.mark.slow
def test_no_rounding_of_ten_thousand_models_lifts_an_attack_above_its_certificate():
    assert exceeded(range(10_000)) == []


def test_where_free_parts_cancel_nearly_everybody_is_left_open():
    victim = scaled(0)
    encoder = victim.encoder
    item = np.zeros(encoder.item.shape, np.float32)
    item[:, 0] = item[:, 1] = 1e5
    user = np.array(encoder.user)
    user[:, 1], user[:, 2:DIM] = -user[:, 0], 0
    content = 1e-3 * np.asarray(case("vbpr").params.encoder.kernel)
    changed = encoder.replace(item=jnp.asarray(item), user=user, kernel=content)
    params = case("vbpr").params.replace(encoder=changed)
    c = case("vbpr")
    lists = Lists(max(KS), 5, 16, 32)
    cancelling = make_victim(c.model, params, DATASET, c.users, lists=lists)
    found = attack_items(pgd(k=KS[0], eps=0.01), cancelling, ITEMS, options=Options(ks=KS))
    bound = certify(cancelling, ITEMS, eps=0.01, ks=KS)
    assert (found.hr_after <= bound + 1e-7).all() and bound.min() > 0.5


def test_one_edit_for_all_lies_between_the_attack_and_an_edit_for_each():
    c, eps = case("vbpr", seed=1), (0.1, 0.4)
    for norm in ("linf", "l2"):
        shape = {"norm": norm, "eps": eps, "ks": KS, "modalities": ("visual",)}
        each = certify(c.victim, ITEMS, **shape)
        one = certify(c.victim, ITEMS, branches=4, **shape)
        assert one.shape == each.shape == (2, len(ITEMS), len(KS))
        assert (one <= each).all() and (one < each).any()
        for n, size in enumerate(eps):
            chosen = pgd(norm=norm, eps=size, k=KS[-1], modalities=("visual",))
            found = attack_items(chosen, c.victim, ITEMS, options=Options(ks=KS))
            assert (found.hr_after <= one[n] + 1e-7).all()
    single = certify(c.victim, ITEMS, norm="linf", eps=0.4, ks=KS[0], branches=4)
    assert single.shape == (len(ITEMS),)


def declared(**functions):
    """The small VBPR with functions of its own, declared affine all the same."""
    c = case("vbpr")
    model = c.model._replace(**functions)
    lists = Lists(max(KS), 5, 16, 32)
    return make_victim(model, c.params, DATASET, c.users, lists=lists)


def test_a_model_affine_in_name_only_is_found_out():
    model = case("vbpr").model
    bent = 1e-3

    def curve(item):
        return item.at[:, DIM:].add(bent * item[:, DIM:] ** 2)

    def encode(encoder, z, graph):
        user, item = model.encode(encoder, z, graph)
        return user, curve(item)

    def encode_rows(selected, z):
        user, item = model.encode_rows(selected, z)
        return Embeddings(user, curve(item))

    with pytest.raises(InputError, match="not affine in its content"):
        certify(declared(encode=encode, encode_rows=encode_rows), ITEMS, ks=KS)
    # What encodes rows otherwise than the catalogue is not what is ranked.
    with pytest.raises(InputError, match="not affine in its content"):
        certify(declared(encode=encode), ITEMS, ks=KS)


def test_a_model_in_which_an_items_content_moves_others_is_found_out():
    model = case("vbpr").model

    def encode(encoder, z, graph):
        user, item = model.encode(encoder, z, graph)
        return user, item + 1e-3 * z[0].mean()

    with pytest.raises(InputError, match="other items or users move"):
        certify(declared(encode=encode), ITEMS, ks=KS)


def test_rows_longer_than_one_are_found_out():
    c = case("vbpr")
    longer = (1.5 * c.victim.z[0], *c.victim.z[1:])
    victim = dataclasses.replace(c.victim, z=longer)
    with pytest.raises(InputError, match=r"rows of z \(visual\) are up to 1\.5"):
        certify(victim, ITEMS, ks=KS)
