"""LATTICE: by hand, against dense float64 NumPy, and what an epoch does with its learned graph."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import oracles
from tests.models import toy
from tests.models.test_neighbours import brute, dense
from tests.models.test_victims import PROJECTORS, Dense, embeddings, losses, small  # noqa: F401
from uatmc_jax.attacks import Attack, Lists, Options, attack, make_victim, served
from uatmc_jax.models import Batch, Served, Sizes, device_data, lattice
from uatmc_jax.models.lattice import mean_with_self
from uatmc_jax.models.learned_lists import mixed_lists, nearest_ids
from uatmc_jax.training.objectives import PretrainCoefficients, pretrain_objective

SCORES = [
    [1.53935, 0.953818, 1.416461],
    [0.973292, 1.780676, 2.124427],
    [2.247211, 2.359741, 3.077213],
]
EDITED = [
    [1.548234, 0.89344, 1.39914],
    [0.924106, 1.801448, 2.132298],
    [2.215164, 2.320021, 3.067388],
]


LISTS = jax.jit(nearest_ids, static_argnums=1)


def toy_case():
    model = lattice(Sizes(3, 3, {"visual": 2, "textual": 2}), dim=2, n_neighbours=2)
    params = model.init(jax.random.key(0))
    tables = params.encoder.tables.replace(user=jnp.array(toy.IDS), item=jnp.array(toy.IDS))
    encoder = params.encoder.replace(tables=tables)
    return model, dataclasses.replace(params, projectors=PROJECTORS, encoder=encoder)


def test_the_toy_by_hand():
    model, params = toy_case()
    data = device_data(model, toy.dataset())
    user, item = mean_with_self(data.graph, *(jnp.array(toy.IDS),) * 2, 2)
    by_hand = [[0.777778, 0.222222], [0.259259, 0.962963], [0.944444, 1]]
    np.testing.assert_allclose(user, by_hand, atol=1e-5)
    by_hand = [[0.944444, 0.055556], [0.259259, 0.777778], [0.777778, 1]]
    np.testing.assert_allclose(item, by_hand, atol=1e-5)
    z = tuple(jnp.array(x) for x in (toy.VISUAL, toy.TEXTUAL))
    lists = mixed_lists(z, tuple(nearest_ids(x, 2) for x in z), jnp.full(2, 0.5))
    by_hand = [
        [0.588235, 0.228665, 0.176471],
        [0.228665, 0.555556, 0.228665],
        [0, 0.400163, 0.588235],
    ]
    np.testing.assert_allclose(sum(dense(x, 3) for x in lists), by_hand, atol=1e-5)
    user, item = embeddings(model, params, toy.dataset())
    np.testing.assert_allclose(user @ item.T, SCORES, atol=1e-5)
    moved = embeddings(model, params, toy.edited())
    np.testing.assert_allclose(moved.user @ moved.item.T, EDITED, atol=1e-5)
    np.testing.assert_array_equal(user, moved.user)
    terms = losses(model, params, toy.dataset())[1]
    np.testing.assert_allclose(terms["bpr"], 0.435273, atol=2e-6)
    np.testing.assert_allclose(terms["reg"], 14.710949 / 2048, atol=2e-6)


def test_the_own_row_by_the_toys_hand():
    model, params = toy_case()
    victim = make_victim(model, params, toy.dataset(), lists=Lists(k=2))
    rows = tuple(x[toy.EDITED] for x in toy.edited().features)
    user, item = served(victim, toy.EDITED, rows, "own_row")
    np.testing.assert_allclose((user @ item.T)[:, 1], [0.897232, 1.800485, 2.322796], atol=1e-5)
    np.testing.assert_array_equal(np.delete(item, 1, 0), np.delete(victim.item, 1, 0))
    np.testing.assert_array_equal(user, victim.user)


def test_trained_features_move_what_the_learned_lists_are_of():
    """As a model without would serve z that are moved so."""
    model, params = toy_case()
    sizes = Sizes(3, 3, {"visual": 2, "textual": 2})
    moving = lattice(sizes, dim=2, n_neighbours=2, trained_features=True)
    still = moving.init(jax.random.key(0)).encoder
    assert all((x == 0).all() for x in still.shifts) and moving.normed_lists is None
    rng = np.random.default_rng(0)
    shifts = tuple(jnp.asarray(rng.normal(size=(3, 2)), jnp.float32) for _ in range(2))
    encoder = still.replace(**vars(params.encoder), shifts=shifts)
    clean, after = (device_data(model, x()) for x in (toy.dataset, toy.edited))
    z, z_after = (tuple(map(jnp.asarray, x.features)) for x in (clean, after))
    moved = [tuple(map(jnp.add, x, shifts)) for x in (z, z_after)]
    found = jax.jit(moving.own_row)(
        encoder, Served(z, clean.graph), Served(z_after, after.graph), 1
    )
    expected = jax.jit(model.own_row)(
        params.encoder, Served(moved[0], clean.graph), Served(moved[1], after.graph), 1
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)


class Formulas:
    """LATTICE in dense float64, on the case of `Dense`."""

    def __init__(self, dataset):
        self.case = Dense("lattice", dataset, functools.partial(lattice, n_neighbours=4))
        walk = (self.case.walk > 0) + np.eye(len(self.case.walk))
        self.mean = walk / walk.sum(axis=1, keepdims=True)
        # Steps of finite differences change no list.
        self.lists = [brute(z, 4) for z in self.content(oracles.to_float64(self.case.params))]

    def content(self, params, features=None):
        features = self.case.dataset.features if features is None else features
        layers = [params.projectors[m] for m in self.case.dataset.modalities]
        return [x @ f.kernel + f.bias for f, x in zip(layers, features, strict=True)]

    @staticmethod
    def cosines(x, lists):
        """K of one modality: cosines to an item's list, 0 elsewhere."""
        units = x / np.linalg.norm(x, axis=1, keepdims=True)
        there = np.zeros((len(x), len(x)))
        np.put_along_axis(there, lists, 1, axis=1)
        return there * (units @ units.T)

    def mixture(self, params, z, lists):
        """The mixture K, and w."""
        weights = np.exp(params.encoder.weights)
        weights = weights / weights.sum()
        parts = zip(weights, z, lists, strict=True)
        return sum(w * self.cosines(x, listed) for w, x, listed in parts), weights

    def base(self, params):
        tables = params.encoder.tables
        x = np.concatenate([tables.user, tables.item])
        total = (x + self.mean @ x + self.mean @ self.mean @ x) / 3
        return np.split(total, [len(tables.user)])

    def forward(self, params):
        mixture, weights = self.mixture(params, self.content(params), self.lists)
        sums = mixture.sum(axis=1)
        h = 0.1 * mixture / np.sqrt(np.outer(sums, sums))
        h = h + 0.9 * sum(w * s for w, s in zip(weights, self.case.weighted, strict=True))
        user, item = self.base(params)
        return user, item + oracles.normalize(h @ params.encoder.tables.item)

    def loss(self, params, mu):
        user, item = self.forward(params)
        rows = self.case.users, self.case.positives, self.case.negatives
        triples = list(zip(*rows, strict=True))
        squares = sum((t[r] ** 2).sum() for t, r in zip((user, item, item), rows, strict=True))
        return oracles.bpr(user, item, triples) + mu * squares / 2 / 2048


@pytest.fixture(scope="module")
def formulas(small):  # noqa: F811
    return Formulas(small)


def batch_of(case, step=None):
    rows = (jnp.asarray(x) for x in (case.users, case.positives, case.negatives))
    return Batch(*rows, jnp.ones(4), step=None if step is None else jnp.int32(step))


def test_forward_loss_and_gradient_are_those_of_the_formulas(formulas):
    case = formulas.case
    exact = oracles.to_float64(case.params)
    for found, expected in zip(
        embeddings(case.model, case.params, case.dataset), formulas.forward(exact), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    weights = PretrainCoefficients(jnp.float32(300.0), jnp.float32(0))
    data, key = device_data(case.model, case.dataset), jax.random.key(0)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(params, data, batch):
        return pretrain_objective(case.model, params, data, weights, None, batch, key)

    (value, _), gradients = loss(case.params, data, batch_of(case))
    np.testing.assert_allclose(value, formulas.loss(exact, 300.0), rtol=1e-5)
    numeric = oracles.numeric_gradient(lambda params: formulas.loss(params, 300.0), case.params)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=2e-5)
    jax.tree.map(close, gradients, numeric)
    assert max(np.abs(x).max() for x in jax.tree.leaves(gradients.projectors)) > 1e-4
    # In an epoch: the same in its first batch, and a constant graph in the others.
    graph = jax.jit(case.model.epoch_graph)(key, case.params, data)
    epoch = data.replace(graph=graph)
    (first, _), at_first = loss(case.params, epoch, batch_of(case, 0))
    (later, _), at_later = loss(case.params, epoch, batch_of(case, 3))
    np.testing.assert_allclose([first, later], value, rtol=1e-6)
    jax.tree.map(close, at_first, gradients)
    still = (at_later.projectors, at_later.encoder.weights)
    assert all(not np.asarray(x).any() for x in jax.tree.leaves(still))
    jax.tree.map(close, at_later.encoder.tables, gradients.encoder.tables)
    # That graph stays as the parameters move on.
    moved = jax.tree.map(lambda x: 2 * x, case.params)
    moved = dataclasses.replace(
        moved, encoder=moved.encoder.replace(tables=case.params.encoder.tables)
    )
    np.testing.assert_allclose(loss(moved, epoch, batch_of(case, 3))[0][0], value, rtol=1e-6)


def test_the_own_row_is_that_of_the_formulas(formulas):
    case = formulas.case
    victim = make_victim(case.model, case.params, case.dataset, lists=Lists(k=5))
    exact, rng = oracles.to_float64(case.params), np.random.default_rng(0)
    clean, weights = formulas.mixture(exact, formulas.content(exact), formulas.lists)
    tables = exact.encoder.tables
    for item in (0, 7, 31):
        features = [x.copy() for x in case.dataset.features]
        for x in features:
            x[item] += rng.normal(size=x.shape[1])
        z = formulas.content(exact, features)
        mixture = formulas.mixture(exact, z, [brute(x, 4) for x in z])[0]
        sums = clean.sum(axis=1)
        sums[item] = mixture[item].sum()
        h = 0.1 * mixture[item] / np.sqrt(sums[item] * sums)
        for m, w in enumerate(weights):
            # Of S the stored sums of the others, as its clean matrix has them.
            both = (x[m].astype(float) for x in (case.dataset.features, features))
            k = [formulas.cosines(x, brute(x, 4)) for x in both]
            sums = k[0].sum(axis=1)
            sums[item] = k[1][item].sum()
            h = h + 0.9 * w * k[1][item] / np.sqrt(sums[item] * sums)
        added = oracles.normalize((h @ tables.item)[None])[0]
        rows = tuple(x[item] for x in features)
        user, items = served(victim, item, rows, "own_row")
        np.testing.assert_allclose(items[item], formulas.base(exact)[1][item] + added, atol=1e-5)
        np.testing.assert_array_equal(np.delete(items, item, 0), np.delete(victim.item, item, 0))
        np.testing.assert_array_equal(served(victim, item, rows, "full").user, user)


@given(
    st.lists(st.tuples(*[st.integers(-2, 2)] * 3).filter(any), min_size=6, max_size=6),
    st.sampled_from([1, 3]),
)
@settings(max_examples=40, deadline=None)
def test_lists_of_z_are_those_of_brute_force_with_ties_and_clones(rows, k):
    """Of rows whose lengths are powers of two float32 gives the cosines themselves."""
    lengths = np.array([[2.0, 0, 0], [0, 2.0, 0], [0, 0, 2.0], [1, 1, 1]])
    x = np.array(rows) @ lengths[:3]
    x = np.where(np.isin((x**2).sum(axis=1, keepdims=True), [4.0, 16.0]), x, lengths[0])
    np.testing.assert_array_equal(LISTS(jnp.asarray(x, jnp.float32), k), brute(x, k))


def test_blocks_of_lists_are_one_list(monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 8)).astype(np.float32)
    x[rng.choice(90, 30, replace=False)] = x.mean(axis=0)  # more clones than a list is long
    whole = nearest_ids(jnp.asarray(x), 10)
    np.testing.assert_array_equal(whole, brute(x, 10))
    monkeypatch.setattr("uatmc_jax.models.learned_lists._BLOCK", 7)
    np.testing.assert_array_equal(nearest_ids(jnp.asarray(x), 10), whole)


@pytest.mark.long
def test_attacks_on_z_climb_within_the_lists_and_by_the_dense_scorer(formulas):
    case = formulas.case
    victim = make_victim(case.model, case.params, case.dataset, lists=Lists(k=5))
    # Lists jump on the way, so that the last step need not be the best.
    chosen = Attack(utility="elu", k=5, norm="l2", steps=4, step_size=0.1, eps=0.4, keep="best")
    found = attack(chosen, victim, [0, 7], options=Options((5,)))
    assert (found.utility_after >= found.utility_before).all()
    assert (found.utility_after > found.utility_before).any()
    for n, item in enumerate((0, 7)):  # as encoding everything gives it
        z = tuple(x.at[item].set(row[n]) for x, row in zip(victim.z, found.z, strict=True))
        user, items = case.model.encode(case.params.encoder, z, victim.graph)
        scores = np.asarray(user @ items.T)[np.asarray(victim.users)]
        ahead = (np.delete(scores, item, 1) >= scores[:, [item]]).sum(axis=1)
        assert found.hr_after[n, 0] == np.float32((ahead < 5).mean())
