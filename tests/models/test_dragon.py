"""DRAGON: by hand, against dense float64 NumPy, and its graph of co-buyers by brute force."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import oracles
from tests.conftest import make_interactions
from tests.models import toy
from tests.models.test_victims import IDENTITY, Dense, embeddings, losses, small  # noqa: F401
from uatmc_jax.attacks import Lists, make_victim, served
from uatmc_jax.models import Batch, Sizes, device_data, dragon
from uatmc_jax.models.dragon import Layers
from uatmc_jax.models.user_lists import UserLists, padded, user_lists
from uatmc_jax.training.objectives import PretrainCoefficients, pretrain_objective

SCORES = [
    [20.169747, 23.922072, 25.153643],
    [18.552003, 24.654897, 27.127232],
    [16.934258, 25.387722, 29.100822],
]
EDITED = [
    [19.906601, 24.092352, 25.43454],
    [18.463725, 25.325261, 27.508861],
    [17.020849, 26.558169, 29.583182],
]


def toy_case():
    model = dragon(Sizes(3, 3, {"visual": 2, "textual": 2}), dim=2, n_neighbours=2, mlp_width=2)
    params = model.init(jax.random.key(0))
    encoder = params.encoder.replace(
        preferences=(jnp.array(toy.IDS),) * 2, weights=jnp.full((3, 2), 0.5)
    )
    layers = {"visual": IDENTITY, "textual": IDENTITY}
    return model, dataclasses.replace(params, projectors=Layers(layers, layers), encoder=encoder)


def test_the_toy_by_hand():
    model, params = toy_case()
    omega = device_data(model, toy.dataset()).graph.user_relations
    np.testing.assert_allclose(omega(jnp.eye(3)), [[0, 1, 0], [0.5, 0, 0.5], [0, 1, 0]], atol=1e-6)
    user, item = embeddings(model, params, toy.dataset())
    np.testing.assert_allclose(user @ item.T, SCORES, rtol=1e-6, atol=1e-5)
    moved = embeddings(model, params, toy.edited())
    np.testing.assert_allclose(moved.user @ moved.item.T, EDITED, rtol=1e-6, atol=1e-5)
    loss, terms = losses(model, params, toy.dataset())
    np.testing.assert_allclose(loss, 2.411713, rtol=3e-6)
    np.testing.assert_allclose(terms["reg"], 2 * 0.666667 + 0.25, atol=2e-6)
    # At equal scores the loss is 1.
    nothing = jax.tree.map(jnp.zeros_like, params)
    np.testing.assert_allclose(losses(model, nothing, toy.dataset())[0], 1, atol=1e-6)


def test_the_own_row_by_the_toys_hand():
    model, params = toy_case()
    victim = make_victim(model, params, toy.dataset(), lists=Lists(k=2))
    rows = tuple(x[toy.EDITED] for x in toy.edited().features)
    user, item = served(victim, toy.EDITED, rows, "own_row")
    column = (user @ item.T)[:, 1]
    np.testing.assert_allclose(column, [24.005381, 25.127067, 26.248753], rtol=1e-6, atol=1e-5)
    np.testing.assert_array_equal(np.delete(item, 1, 0), np.delete(victim.item, 1, 0))
    np.testing.assert_array_equal(user, victim.user)


def co_buyers(pairs, n, k):
    """Every user's list and softmax, by the tie rule."""
    owned = [{i for u, i in pairs if u == user} for user in range(n)]
    omega, lists = np.zeros((n, n)), []
    for u in range(n):
        shared = {v: len(owned[u] & owned[v]) for v in range(n) if v != u}
        best = sorted((v for v in shared if shared[v]), key=lambda v: (-shared[v], v))[:k]
        powers = np.exp([shared[v] - shared[best[0]] for v in best]) if best else []
        omega[u, best] = np.array(powers) / np.sum(powers)
        lists.append([(v, shared[v]) for v in best])
    return omega, lists


@given(st.sets(st.tuples(st.integers(0, 7), st.integers(0, 5)), min_size=1), st.integers(1, 8))
@settings(max_examples=20, deadline=None)
def test_co_buyers_are_those_of_brute_force_with_ties(pairs, k):
    found = user_lists(make_interactions(pairs), 8, 6, k)
    omega, lists = co_buyers(pairs, 8, k)
    dense = np.zeros((8, 8))
    np.add.at(dense, (np.arange(8)[:, None], np.asarray(found.ids)), np.asarray(found.values))
    np.testing.assert_allclose(dense, omega, atol=1e-6)
    for ids, counts, expected in zip(found.ids, found.counts, lists, strict=True):
        listed = [pair for pair in zip(ids.tolist(), counts.tolist(), strict=True) if pair[1]]
        assert listed == expected


def test_padding_is_a_polya_urn():
    counts = jnp.array([[3, 1, 0, 0], [2, 0, 0, 0], [0, 0, 0, 0], [4, 3, 2, 1]])
    ids = jnp.array([[2, 1, 0, 0], [3, 0, 0, 0], [0, 0, 0, 0], [0, 1, 2, 3]])
    lists = UserLists(ids, counts, jnp.zeros((4, 4)))
    keys = jax.random.split(jax.random.key(0), 6000)
    drawn = jax.jit(jax.vmap(lambda key: padded(key, lists)))(keys)
    twos = np.sum(np.asarray(drawn.ids)[:, 0] == 2, axis=1)
    # Two of two kinds: the urn makes 1, 2 and 3 of the first equally likely.
    share = [np.mean(twos == n) for n in (1, 2, 3)]
    np.testing.assert_allclose(share, 1 / 3, atol=0.03)
    three = int(np.flatnonzero(twos == 3)[0])
    row = np.asarray(drawn.values)[three, 0]
    weights = [row[np.asarray(drawn.ids)[three, 0] == v].sum() for v in (2, 1)]
    np.testing.assert_allclose(weights, [0.956835, 0.043165], atol=1e-6)
    assert (np.asarray(drawn.ids)[:, 1] == 3).all() and not np.asarray(drawn.values)[:, 2].any()
    np.testing.assert_array_equal(np.asarray(drawn.ids)[:, 3], np.tile([0, 1, 2, 3], (6000, 1)))
    np.testing.assert_allclose(np.asarray(drawn.values)[:, [0, 1, 3]].sum(axis=2), 1, atol=1e-6)


class Formulas:
    """DRAGON in dense float64, on the case of `Dense`."""

    def __init__(self, dataset):
        kind = functools.partial(dragon, n_neighbours=4, mlp_width=3, n_cobuyers=3, pad="none")
        self.case = Dense("dragon", dataset, kind)
        pairs = set(zip(dataset.train.users.tolist(), dataset.train.items.tolist(), strict=True))
        self.omega = co_buyers(pairs, dataset.n_users, 3)[0]

    def content(self, params, features):
        found = []
        for m, x in zip(self.case.dataset.modalities, features, strict=True):
            first, last = params.projectors.hidden[m], params.projectors.output[m]
            hidden = oracles.leaky_relu(x @ first.kernel + first.bias)
            found.append(oracles.normalize(hidden @ last.kernel + last.bias))
        return found

    def walked(self, params, z):
        users, items = [], []
        for m, x in enumerate(z):
            nodes = np.concatenate([oracles.normalize(params.encoder.preferences[m]), x])
            total = nodes + self.case.walk @ nodes + self.case.walk @ self.case.walk @ nodes
            user, item = np.split(total, [len(self.omega)])
            users.append(params.encoder.weights[:, m, None] * user)
            items.append(item)
        return np.concatenate(users, axis=1), np.concatenate(items, axis=1)

    def forward(self, params):
        user, item = self.walked(params, self.content(params, self.case.dataset.features))
        mixed = 0.1 * self.case.lists[0] + 0.9 * self.case.lists[1]
        return user + self.omega @ user, item + mixed @ item

    def loss(self, params, mu):
        user, item = self.forward(params)
        rows = self.case.users, self.case.positives, self.case.negatives
        reg = sum((p[rows[0]] ** 2).mean() for p in params.encoder.preferences)
        reg += (params.encoder.weights**2).mean()
        bpr = oracles.bpr(user, item, list(zip(*rows, strict=True)))
        return bpr / math.log(2) + mu * reg


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
    padded_rows = (
        jnp.pad(jnp.asarray(x), (0, 2)) for x in (case.users, case.positives, case.negatives)
    )
    batch = Batch(*padded_rows, jnp.pad(jnp.ones(4), (0, 2)))
    data, key = device_data(case.model, case.dataset), jax.random.key(0)

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        return pretrain_objective(case.model, params, data, weights, None, batch, key)[0]

    value, gradients = loss(case.params)
    np.testing.assert_allclose(value, formulas.loss(exact, 0.3), rtol=1e-5)
    numeric = oracles.numeric_gradient(lambda params: formulas.loss(params, 0.3), case.params)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=2e-5)
    jax.tree.map(close, gradients, numeric)


def test_the_own_row_is_that_of_the_formulas(formulas):
    case = formulas.case
    victim = make_victim(case.model, case.params, case.dataset, lists=Lists(k=5))
    exact, rng = oracles.to_float64(case.params), np.random.default_rng(0)
    clean = formulas.content(exact, case.dataset.features)
    table = formulas.walked(exact, clean)[1]
    for item in (0, 7, 31):
        features = [x.copy() for x in case.dataset.features]
        for x in features:
            x[item] += rng.normal(size=x.shape[1])
        z, own = formulas.content(exact, features), table.copy()
        own[item] += np.concatenate(
            [new[item] - old[item] for new, old in zip(z, clean, strict=True)]
        )
        lists = [Dense.brute(x, 4)[0][item] for x in features]
        expected = own[item] + (0.1 * lists[0] + 0.9 * lists[1]) @ own
        rows = tuple(x[item] for x in features)
        items = served(victim, item, rows, "own_row").item
        np.testing.assert_allclose(items[item], expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(np.delete(items, item, 0), np.delete(victim.item, item, 0))


def test_an_epochs_graph_is_padded_and_the_model_serves_without(small):  # noqa: F811
    model = dragon(small.sizes, dim=3, n_neighbours=4, mlp_width=3, n_cobuyers=20)
    data = device_data(model, small)
    graph = jax.jit(model.epoch_graph)(jax.random.key(1), None, data)
    stored, drawn = data.graph.user_relations, graph.user_relations
    there = np.asarray(stored.counts) > 0
    assert not there.all() and (np.asarray(drawn.counts)[there.any(axis=1)] > 0).all()
    np.testing.assert_array_equal(np.asarray(drawn.ids)[there], np.asarray(stored.ids)[there])
    assert dragon(small.sizes, pad="none").epoch_graph is None
