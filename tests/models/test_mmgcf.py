"""MMGCF: by hand, against dense float64 NumPy, and certified as tightly as can be."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from tests import oracles
from tests.models import toy
from tests.models.test_victims import PROJECTORS, Dense, embeddings, losses, small  # noqa: F401
from uatmc_jax.attacks import Attack, Lists, Options, attack, certificate_of, certify, make_victim
from uatmc_jax.attacks.batching import scorer_of
from uatmc_jax.attacks.scoring.direct import DIRECT
from uatmc_jax.benchmark.run import run_attacks
from uatmc_jax.data import write_dataset
from uatmc_jax.errors import InputError
from uatmc_jax.models import Batch, Sizes, device_data, mmgcf, unmet
from uatmc_jax.models.mmgcf import FUSIONS, WEIGHTINGS
from uatmc_jax.opened import open_run
from uatmc_jax.report.attack import format_attacks
from uatmc_jax.settings import AttackRunSettings, from_config, from_values, load_config
from uatmc_jax.training import train_and_evaluate
from uatmc_jax.training.objectives import PretrainCoefficients, pretrain_objective

SCORES = [
    [0.725532, 0.508199, 0.704394],
    [0.375289, 0.878395, 1.142277],
    [0.688776, 0.943959, 1.251977],
]


def toy_case(weighting="equal"):
    model = mmgcf(Sizes(3, 3, {"visual": 2, "textual": 2}), dim=2, weighting=weighting)
    params = model.init(jax.random.key(0))
    tables = params.encoder.tables.replace(user=jnp.array(toy.IDS), item=jnp.array(toy.IDS))
    encoder = params.encoder.replace(tables=tables)
    return model, dataclasses.replace(params, projectors=PROJECTORS, encoder=encoder)


def test_the_toy_by_hand():
    model, params = toy_case()
    user, item = embeddings(model, params, toy.dataset())
    np.testing.assert_allclose(user @ item.T, SCORES, atol=1e-5)
    moved = embeddings(model, params, toy.edited())
    column = (moved.user @ moved.item.T)[:, 1]
    np.testing.assert_allclose(column, [0.479747, 0.907562, 0.949851], atol=1e-5)
    np.testing.assert_array_equal(user, moved.user)
    np.testing.assert_array_equal(np.delete(item, 1, 0), np.delete(moved.item, 1, 0))
    terms = losses(model, params, toy.dataset())[1]
    np.testing.assert_allclose(terms["bpr"], 0.538346, atol=2e-6)
    np.testing.assert_allclose(terms["reg"], 2.166667, atol=2e-6)
    for weighting, value in (("alpha", 0.37835), ("normalized", 1.111536)):
        user, item = embeddings(*toy_case(weighting), toy.dataset())
        np.testing.assert_allclose(user[0] @ item[0], value, atol=1e-5)


class Formulas:
    """MMGCF in dense float64, on the case of `Dense`."""

    def __init__(self, dataset, weighting, fusion):
        self.weighting, self.fusion = weighting, fusion
        kind = functools.partial(mmgcf, weighting=weighting, fusion=fusion)
        self.case = Dense("mmgcf", dataset, kind)

    def fuse(self, encoder, q, z):
        """As the table of the formulas has it, one case after the other."""
        apply = lambda layer, *x: np.concatenate(x, axis=1) @ layer.kernel + layer.bias  # noqa: E731
        a = 1 / (1 + np.exp(-encoder.alpha))
        if self.weighting == "equal":
            return {
                "mean": lambda: (q + (z[0] + z[1]) / 2) / 2,
                "sum": lambda: q + z[0] + z[1],
                "concat": lambda: apply(encoder.layers[1], q, apply(encoder.layers[0], *z)),
            }[self.fusion]()
        q, z = {
            "alpha": lambda: (a * q, [(1 - a) * x for x in z]),
            "normalized": lambda: (2 * oracles.normalize(q), [oracles.normalize(x) for x in z]),
        }[self.weighting]()
        return {
            "mean": lambda: (q + z[0] + z[1]) / 3,
            "sum": lambda: q + z[0] + z[1],
            "concat": lambda: apply(encoder.layers[0], q, *z),
        }[self.fusion]()

    def forward(self, params):
        tables = params.encoder.tables
        user, item = self.case.smooth(tables.user, tables.item, 2)
        return user, self.fuse(params.encoder, item, self.case.content(params))

    def loss(self, params, mu):
        user, item = self.forward(params)
        rows, tables = (self.case.users, self.case.positives, self.case.negatives), params.encoder
        own = tables.tables.user, tables.tables.item, tables.tables.item
        squares = sum((t[r] ** 2).sum() for t, r in zip(own, rows, strict=True))
        return oracles.bpr(user, item, list(zip(*rows, strict=True))) + mu * squares / 8


@pytest.mark.parametrize("weighting,fusion", list(itertools.product(WEIGHTINGS, FUSIONS)))
def test_the_forward_is_that_of_the_formulas(weighting, fusion, small):  # noqa: F811
    c = Formulas(small, weighting, fusion)
    model, params = c.case.model, c.case.params
    data = device_data(model, small)
    z = model.project(params.projectors, data.features)
    found = jax.jit(model.encode)(params.encoder, z, data.graph)
    for one, expected in zip(found, c.forward(oracles.to_float64(params)), strict=True):
        np.testing.assert_allclose(one, expected, rtol=1e-5, atol=1e-5)
    assert model.affine_in_content == (weighting != "normalized")


@pytest.mark.parametrize(
    "weighting,fusion",
    [
        ("alpha", "concat"),
        pytest.param("equal", "concat", marks=pytest.mark.long),
        pytest.param("normalized", "mean", marks=pytest.mark.long),
    ],
)
def test_loss_and_gradient_are_those_of_the_formulas(weighting, fusion, small):  # noqa: F811
    c = Formulas(small, weighting, fusion)
    case, weights = c.case, PretrainCoefficients(jnp.float32(0.3), jnp.float32(0))
    rows = (jnp.pad(jnp.asarray(x), (0, 2)) for x in (case.users, case.positives, case.negatives))
    batch, data = Batch(*rows, jnp.pad(jnp.ones(4), (0, 2))), device_data(case.model, small)

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        key = jax.random.key(0)
        return pretrain_objective(case.model, params, data, weights, None, batch, key)[0]

    value, gradients = loss(case.params)
    np.testing.assert_allclose(value, c.loss(oracles.to_float64(case.params), 0.3), rtol=1e-5)
    numeric = oracles.numeric_gradient(lambda params: c.loss(params, 0.3), case.params)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=2e-5)
    numeric = dataclasses.replace(numeric, temperature=gradients.temperature)  # of L_NCE alone
    jax.tree.map(close, gradients, numeric)


K, KS, ITEMS = 5, (1, 5), np.array([0, 7, 31])


@pytest.mark.parametrize(
    "weighting,fusion",
    [("alpha", "concat"), pytest.param("equal", "mean", marks=pytest.mark.long)],
)
def test_the_certificate_is_each_users_own_best_edit(weighting, fusion, small):  # noqa: F811
    c = Formulas(small, weighting, fusion)
    case, exact = c.case, oracles.to_float64(c.case.params)
    victim = make_victim(case.model, case.params, small, lists=Lists(k=K))
    users = np.asarray(victim.users)
    user, item = (x if n else x[users] for n, x in enumerate(c.forward(exact)))
    q, z = (
        case.smooth(exact.encoder.tables.user, exact.encoder.tables.item, 2)[1],
        case.content(exact),
    )
    eps, dual = 0.3, {"l2": 2, "linf": 1}
    assert max(np.linalg.norm(x, axis=1).max() for x in z) > 1  # no unit rows are needed
    for norm, t in itertools.product(("l2", "linf"), ITEMS.tolist()):
        scores, best = user @ item.T, []
        bars = -np.sort(-np.delete(scores, t, axis=1), axis=1)
        own = [x[[t]] for x in z]
        slopes = []
        for m in range(2):  # by differences, which of an affine function are exact
            basis = np.eye(3)
            each = [[x + (e if n == m else 0) for n, x in enumerate(own)] for e in basis]
            moved = [c.fuse(exact.encoder, q[[t]], x)[0] - item[t] for x in each]
            slopes.append(user @ np.array(moved).T)
        bound = scores[:, t] + sum(
            eps * np.linalg.norm(x) * np.linalg.norm(w, ord=dual[norm], axis=1)
            for x, w in zip(own, slopes, strict=True)
        )
        found = certify(victim, [t], norm=norm, eps=eps, ks=KS)[0]
        np.testing.assert_allclose(found, [(bound > bars[:, k - 1]).mean() for k in KS], atol=1e-6)
        for x, w in zip(own, slopes, strict=True):  # and the first user's is attained
            unit = np.sign(w[0]) if norm == "linf" else w[0] / np.linalg.norm(w[0])
            best.append(x + eps * np.linalg.norm(x) * unit)
        reached = user[0] @ c.fuse(exact.encoder, q[[t]], best)[0]
        np.testing.assert_allclose(reached, bound[0], rtol=1e-9)


@pytest.mark.long
def test_attacks_are_exact_without_ranking_and_below_the_certificate(small):  # noqa: F811
    case = Formulas(small, "alpha", "sum").case
    victim = make_victim(case.model, case.params, small, lists=Lists(k=K))
    assert scorer_of(case.model) is DIRECT
    chosen = Attack(utility="elu", k=K, norm="l2", steps=4, step_size=0.4, eps=0.4)
    exact, dense = (
        attack(chosen, victim, ITEMS, options=Options(KS, scorer=s)) for s in ("auto", "dense")
    )
    np.testing.assert_array_equal(exact.hr_after, dense.hr_after)
    np.testing.assert_allclose(exact.utility_after, dense.utility_after, rtol=1e-4, atol=1e-5)
    assert (exact.utility_after > exact.utility_before).all()
    bounds = certificate_of(chosen, victim, ITEMS, KS)
    assert (exact.hr_after <= bounds.budget + 1e-6).all() and bounds.any_content is None


def test_what_cannot_be_certified_is_refused(small):  # noqa: F811
    case = Formulas(small, "alpha", "sum").case
    victim = make_victim(case.model, case.params, small, lists=Lists(k=K))
    with pytest.raises(InputError, match="nothing bounds its length"):
        certify(victim, ITEMS, ks=KS)
    normalized = Formulas(small, "normalized", "mean").case
    other = make_victim(normalized.model, normalized.params, small, lists=Lists(k=K))
    with pytest.raises(InputError, match="no certificate for mmgcf"):
        certify(other, ITEMS, eps=0.1, ks=KS)
    assert "select" in unmet(case.model, "exact") and unmet(case.model, "linearized") is None


@pytest.mark.long
@pytest.mark.parametrize("defense", ["uat_mc", "linearized"])
def test_it_is_hardened_and_attacked_with_its_certificate(defense, config, dataset, tmp_path):
    base.use_mmgcf(config)
    write_dataset(dataset, tmp_path / "synthetic")
    config.data.source, config.data.root = "mmrec", str(tmp_path)
    config.pretrain.epochs, config.adversarial.epochs = 2, 1
    config.adversarial.defense = defense
    summary = train_and_evaluate(from_config(config), tmp_path / "run")
    assert summary["stages"]["adversarial"]["epochs"] == 1
    chosen = load_config("attack")
    chosen.targets.rule, chosen.targets.sample, chosen.bootstrap = "quantile", 2, 10
    results, contents = run_attacks(
        from_values(AttackRunSettings, chosen),
        [open_run(tmp_path / "run", "adversarial/latest")],
        only=["fgsm"],
        show_progress=False,
    )
    assert results[0]["affine_in_content"] and results[0]["certificate"] == "budget"
    for row in results[0]["rows"]:
        assert "any_content_certificate" not in row
        assert all(
            row["hr_after"][k] <= row["budget_certificate"][k] + 1e-6 for k in row["hr_after"]
        )
    text = format_attacks(results, contents)
    assert "Budget certificate" in text and "Any content:" not in text
    config.adversarial.defense = "exact"
    with pytest.raises(InputError, match="a batch that reads its own rows alone"):
        from_config(config)
