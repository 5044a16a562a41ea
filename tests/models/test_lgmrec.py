"""LGMRec: by hand, and against dense float64 NumPy."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import oracles
from tests.models import toy
from tests.models.test_victims import Dense, embeddings, losses, small  # noqa: F401
from uatmc_jax.attacks import Attack, Lists, attack, make_victim, served
from uatmc_jax.errors import InputError
from uatmc_jax.models import Batch, Sizes, device_data, lgmrec
from uatmc_jax.models.lgmrec import Kernels, walked
from uatmc_jax.training.objectives import PretrainCoefficients, pretrain_objective

PLAIN = {"noise": False, "keep": 1.0}
SCORES = [
    [8.921474, 9.033557, 9.71559],
    [7.395376, 9.948823, 11.878568],
    [7.660949, 10.116997, 12.011188],
]


def toy_case(**fields):
    sizes = Sizes(3, 3, {"visual": 2, "textual": 2})
    model = lgmrec(sizes, dim=2, n_edges=2, **PLAIN, **fields)
    params = model.init(jax.random.key(0))
    encoder = params.encoder.replace(user=jnp.array(toy.IDS), item=jnp.array(toy.IDS))
    kernels = {name: Kernels(jnp.eye(2), jnp.eye(2)) for name in ("visual", "textual")}
    return model, dataclasses.replace(params, projectors=kernels, encoder=encoder)


def test_the_toy_by_hand():
    model, params = toy_case()
    graph = device_data(model, toy.dataset()).graph
    items = jnp.array(toy.VISUAL)
    means = jnp.array([(items[0] + items[1]) / 2, (items[1] + items[2]) / 2, items[2]])
    user, item = walked(graph, means, items, 2)
    by_hand = [[0.775, 0.425], [0.425, 0.828553], [0.141421, 0.782843]]
    np.testing.assert_allclose(user, by_hand, atol=1e-5)
    by_hand = [[0.782843, 0.212132], [0.753553, 0.55], [0.2, 0.9]]
    np.testing.assert_allclose(item, by_hand, atol=1e-5)
    user, item = embeddings(model, params, toy.dataset())
    np.testing.assert_allclose(user @ item.T, SCORES, atol=2e-5)
    moved = embeddings(model, params, toy.edited())
    column = (moved.user @ moved.item.T)[:, 1]
    np.testing.assert_allclose(column, [9.12023, 10.089746, 10.241905], atol=2e-5)
    deeper = embeddings(*toy_case(n_hyper_layers=2), toy.dataset())
    twice = deeper.user @ deeper.item.T
    np.testing.assert_allclose([twice[0, 0], twice[2, 2]], [8.913239, 12.003022], atol=2e-5)
    terms = losses(model, params, toy.dataset())[1]
    np.testing.assert_allclose(terms["bpr"], 0.439474, atol=2e-6)
    np.testing.assert_allclose(terms["contrast"], 5.892147, atol=1e-5)
    np.testing.assert_allclose(terms["reg"], 5.699637, atol=1e-5)


def test_the_own_row_by_the_toys_hand():
    victim = make_victim(*toy_case(), toy.dataset(), lists=Lists(k=2))
    rows = tuple(x[toy.EDITED] for x in toy.edited().features)
    user, item = served(victim, toy.EDITED, rows, "own_row")
    np.testing.assert_allclose((user @ item.T)[:, 1], [9.015725, 9.96104, 10.127578], atol=2e-5)
    np.testing.assert_array_equal(np.delete(item, 1, 0), np.delete(victim.item, 1, 0))
    np.testing.assert_array_equal(user, victim.user)


class Formulas:
    """LGMRec in dense float64, on the case of `Dense`."""

    def __init__(self, dataset):
        kind = functools.partial(lgmrec, n_hyper_layers=2, n_edges=3, contrast=0.01, **PLAIN)
        self.case = Dense("lgmrec", dataset, kind)
        n_users = dataset.n_users
        self.bought = (self.case.walk[:n_users, n_users:] > 0).astype(float)

    @staticmethod
    def softmax(x):
        powers = np.exp(x / 0.2 - (x / 0.2).max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def passes(self, params, features):
        """(u, i, Lambda) a modality."""
        own = self.case.smooth(params.encoder.user, params.encoder.item, 2)
        found = []
        for name, x in zip(self.case.dataset.modalities, features, strict=True):
            logits = x @ params.projectors[name].edges
            p_item, p_user = self.softmax(logits), self.softmax(self.bought @ logits)
            edges = p_item.T @ (p_item @ (p_item.T @ own[1]))
            found.append((p_user @ edges, p_item @ edges, edges))
        return own, found

    def forward(self, params):
        features = self.case.dataset.features
        own, found = self.passes(params, features)
        total = np.concatenate(own)
        degrees = np.maximum(self.bought.sum(axis=1, keepdims=True), 1)
        for name, x in zip(self.case.dataset.modalities, features, strict=True):
            f = x @ params.projectors[name].content
            nodes = np.concatenate([self.bought @ f / degrees, f])
            total = total + oracles.normalize(self.case.walk @ self.case.walk @ nodes)
        far = np.concatenate([found[0][n] + found[1][n] for n in (0, 1)])
        total = total + 0.3 * oracles.normalize(far)
        return np.split(total, [len(self.bought)])

    @staticmethod
    def contrast(a, b, rows):
        a, b = oracles.normalize(a), oracles.normalize(b)
        logits = a[rows] @ b.T / 0.2
        return np.sum(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(rows)), rows])

    def loss(self, params, mu):
        user, item = self.forward(params)
        (v_user, v_item, _), (t_user, t_item, _) = self.passes(params, self.case.dataset.features)[
            1
        ]
        u, p, n = self.case.users, self.case.positives, self.case.negatives
        reg = sum(map(np.linalg.norm, (user[u], item[p], item[n]))) / len(u)
        contrast = self.contrast(v_user, t_user, u) + self.contrast(v_item, t_item, p)
        bpr = oracles.bpr(user, item, list(zip(u, p, n, strict=True)))
        return bpr + mu * reg + 0.01 * contrast


@pytest.fixture(scope="module")
def formulas(small):  # noqa: F811
    return Formulas(small)


def test_forward_loss_and_gradient_are_those_of_the_formulas(formulas):
    case = formulas.case
    exact = oracles.to_float64(case.params)
    for found, expected in zip(
        embeddings(case.model, case.params, case.dataset), formulas.forward(exact), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    weights = PretrainCoefficients(jnp.float32(0.3), jnp.float32(0))
    rows = (jnp.pad(jnp.asarray(x), (0, 2)) for x in (case.users, case.positives, case.negatives))
    batch, data = Batch(*rows, jnp.pad(jnp.ones(4), (0, 2))), device_data(case.model, case.dataset)

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        key = jax.random.key(0)
        return pretrain_objective(case.model, params, data, weights, None, batch, key)[0]

    value, gradients = loss(case.params)
    np.testing.assert_allclose(value, formulas.loss(exact, 0.3), rtol=1e-5)
    numeric = oracles.numeric_gradient(lambda params: formulas.loss(params, 0.3), case.params)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=3e-5)
    jax.tree.map(close, gradients, numeric)


def test_the_own_row_is_that_of_the_formulas(formulas):
    case = formulas.case
    victim = make_victim(case.model, case.params, case.dataset, lists=Lists(k=5))
    exact, rng = oracles.to_float64(case.params), np.random.default_rng(0)
    passes = formulas.passes(exact, case.dataset.features)[1]
    clean = formulas.forward(exact)[1]
    for item in (0, 31):
        rows = [x[item] + rng.normal(size=x.shape[1]).astype("f4") for x in case.dataset.features]
        far = [np.zeros((1, 3)) + x[1][item] for x in passes], []
        for name, x, (_, _, edges) in zip(case.dataset.modalities, rows, passes, strict=True):
            far[1].append(formulas.softmax(x[None] @ exact.projectors[name].edges) @ edges)
        before, after = (oracles.normalize(sum(x))[0] for x in far)
        items = served(victim, item, tuple(rows), "own_row").item
        np.testing.assert_allclose(items[item], clean[item] + 0.3 * (after - before), atol=2e-5)
        np.testing.assert_array_equal(np.delete(items, item, 0), np.delete(victim.item, item, 0))


@pytest.mark.long
def test_noise_and_dropout_are_trainings_alone(small):  # noqa: F811
    quiet, loud = lgmrec(small.sizes, dim=3, **PLAIN), lgmrec(small.sizes, dim=3)
    params = quiet.init(jax.random.key(0))
    for a, b in zip(embeddings(quiet, params, small), embeddings(loud, params, small), strict=True):
        np.testing.assert_array_equal(a, b)
    first, second = (losses(loud, params, small)[0] for _ in range(2))
    assert first == second != losses(quiet, params, small)[0]  # the key decides
    kept = lgmrec(small.sizes, dim=3, noise=False, keep=0.25)
    assert losses(kept, params, small)[0] not in (first, losses(quiet, params, small)[0])


@pytest.mark.long
def test_edits_are_of_raw_features(formulas):
    case = formulas.case
    victim = make_victim(case.model, case.params, case.dataset, lists=Lists(k=5))
    chosen = Attack(utility="elu", k=5, norm="l2", steps=3, step_size=0.4, eps=0.4, level="feature")
    found = attack(chosen, victim, [0, 7])
    assert (found.utility_after > found.utility_before).all()
    for item, n in ((0, 0), (7, 1)):  # by the definition of the policy `full`
        rows = tuple(
            x[item] + d[n] for x, d in zip(case.dataset.features, found.delta, strict=True)
        )
        user, items = served(victim, item, rows, "full")
        scores = np.asarray(user @ items.T)
        ahead = (np.delete(scores, item, 1) >= scores[:, [item]]).sum(axis=1)
        assert found.hr_after[n] == np.float32((ahead < 5).mean())
    with pytest.raises(InputError, match=r"level = 'projected'.*Use level = 'feature'"):
        attack(chosen.replace(level="projected"), victim, [0])
