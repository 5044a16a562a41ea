"""LightGCN, FREEDOM and BM3: by hand, and against dense float64 NumPy."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import oracles
from tests.models import toy
from uatmc_jax.errors import InputError
from uatmc_jax.models import Batch, Sizes, bm3, device_data, freedom, lightgcn, mgcn
from uatmc_jax.models.freedom import keep_edges
from uatmc_jax.models.mmgcn_records import Affine
from uatmc_jax.settings import from_config
from uatmc_jax.training import train_and_evaluate
from uatmc_jax.training.objectives import PretrainCoefficients, pretrain_objective

objective = jax.jit(pretrain_objective, static_argnums=(0, 4))
IDENTITY = Affine(jnp.eye(2), jnp.zeros(2))
PROJECTORS = {"visual": IDENTITY, "textual": IDENTITY}
MAKE = {
    "lightgcn": lightgcn,
    "lightgcn_content": functools.partial(lightgcn, content=True),
    "freedom": functools.partial(freedom, n_neighbours=2, drop=0.0),
    "bm3": functools.partial(bm3, dropout=0.0),
    "mgcn": functools.partial(mgcn, n_neighbours=2),
}


def model_of(name):
    return MAKE[name](Sizes(3, 3, {"visual": 2, "textual": 2}), dim=2)


def toy_params(model, name):
    params = model.init(jax.random.key(0))
    tables = dict(user=jnp.array(toy.IDS), item=jnp.array(toy.IDS))
    own = {"predictor": IDENTITY} if name == "bm3" else {}
    if name == "mgcn":
        own = {"gates": (IDENTITY,) * 2, "preferences": (IDENTITY,) * 2, "query": IDENTITY}
        own["weights"] = jnp.ones(2)
    if own:
        encoder = params.encoder.replace(tables=params.encoder.tables.replace(**tables), **own)
    else:
        encoder = params.encoder.replace(**tables)
    projectors = {} if name == "lightgcn" else PROJECTORS
    return dataclasses.replace(params, projectors=projectors, encoder=encoder)


def embeddings(model, params, dataset):
    data = device_data(model, dataset)
    z = model.project(params.projectors, data.features)
    return jax.jit(model.encode)(params.encoder, z, data.graph)


def losses(model, params, dataset, mu=0.0):
    triples = (jnp.array(x) for x in (toy.USERS, toy.POSITIVES, toy.NEGATIVES))
    weights = PretrainCoefficients(jnp.float32(mu), jnp.float32(0))
    batch = Batch(*triples, jnp.ones(3))
    data, key = device_data(model, dataset), jax.random.key(0)
    return objective(model, params, data, weights, None, batch, key)


SCORES = {
    "lightgcn": [
        [0.632029, 0.488783, 0.938078],
        [0.382727, 0.848703, 1.318133],
        [0.64185, 0.910794, 1.515045],
    ],
    "lightgcn_content": [
        [2.763795, 2.378355, 2.923084],
        [1.565247, 3.213727, 4.161646],
        [1.996661, 3.096386, 3.96198],
    ],
    "freedom": [
        [1.535113, 1.135801, 1.597596],
        [1.207778, 1.936254, 2.453243],
        [1.767544, 2.089521, 2.73645],
    ],
    "bm3": [
        [1.582107, 0.650888, 2.107995],
        [0.463388, 1.8125, 2.566942],
        [1.582107, 1.707107, 3.377602],
    ],
    "mgcn": [
        [0.996471, 0.840451, 1.450596],
        [0.673475, 1.293398, 1.945678],
        [0.956522, 1.325465, 2.082705],
    ],
}
# Column 1 with the image of item 1 edited and everything rebuilt.
EDITED = {
    "lightgcn": [0.488783, 0.848703, 0.910794],
    "lightgcn_content": [2.315859, 3.333608, 3.136456],
    "freedom": [1.148301, 1.983813, 2.132198],
    "bm3": [0.650888, 1.8125, 1.707107],
    "mgcn": [0.870752, 1.382068, 1.374514],
}
LOSSES = {
    "lightgcn": {"bpr": 0.541622, "reg": 2.078689},
    "freedom": {"bpr": 0.466309, "content": 0.572109 + 0.543639, "loss": 0.467425},
    "mgcn": {"bpr": 0.525783, "reg": 7.468758 / 2048, "contrast": 1.744620},
    "bm3": {"user_item": 2 * 0.051360, "content": 2 * (0.166477 + 0.002069)},
}


@pytest.mark.parametrize("name", MAKE)
def test_the_toy_by_hand(name):
    model = model_of(name)
    params = toy_params(model, name)
    user, item = embeddings(model, params, toy.dataset())
    np.testing.assert_allclose(user @ item.T, SCORES[name], atol=1e-5)
    moved = embeddings(model, params, toy.edited())
    np.testing.assert_allclose((moved.user @ moved.item.T)[:, 1], EDITED[name], atol=1e-5)
    if not model.reads:
        np.testing.assert_array_equal(item, moved.item)
    if name not in ("lightgcn_content", "mgcn"):
        np.testing.assert_array_equal(user, moved.user)
    if name in LOSSES:
        loss, terms = losses(model, params, toy.dataset())
        for term, value in LOSSES[name].items():
            found = loss if term == "loss" else terms[term]
            np.testing.assert_allclose(found, value, atol=2e-6, err_msg=term)


def test_bm3_with_its_regulariser_by_hand():
    model = model_of("bm3")
    loss, terms = losses(model, toy_params(model, "bm3"), toy.dataset(), mu=0.1)
    np.testing.assert_allclose(terms["reg"], 1.872352, atol=2e-6)
    np.testing.assert_allclose(loss, 0.627048, atol=2e-6)


class Dense:
    """A small random case, all matrices dense and in float64."""

    def __init__(self, name, dataset, kind=None):
        self.name, self.dataset = name, dataset
        sizes = dataset.sizes
        longer = {
            "freedom": functools.partial(freedom, n_neighbours=4, drop=0.0),
            "mgcn": functools.partial(mgcn, n_neighbours=4),
        }
        kind = kind or {**MAKE, **longer}[name]
        self.model = kind(sizes, dim=3)
        rng = np.random.default_rng(1)
        self.params = jax.tree.map(
            lambda x: x + jnp.asarray(rng.normal(scale=0.3, size=x.shape), jnp.float32),
            self.model.init(jax.random.key(1)),
        )
        n_users, n_items = dataset.n_users, dataset.n_items
        adjacency = np.zeros((n_users, n_items))
        adjacency[dataset.train.users, dataset.train.items] = 1
        both = np.block(
            [[np.zeros((n_users,) * 2), adjacency], [adjacency.T, np.zeros((n_items,) * 2)]]
        )
        scale = 1 / np.sqrt(np.maximum(both.sum(axis=1), 1))
        self.walk = scale[:, None] * both * scale
        triples = [(0, 3), (5, 7), (2, 3), (0, 11)]
        self.users, self.positives = np.array(triples).T
        self.negatives = np.array([1, 2, 30, 2])
        self.lists = [self.brute(x, 4)[0] for x in dataset.features]
        self.weighted = [self.brute(x, 4)[1] for x in dataset.features]

    @staticmethod
    def brute(x, k):
        """Unweighted and cosine-valued lists."""
        units = x / np.linalg.norm(x.astype(float), axis=1, keepdims=True)
        found, listed = np.zeros((2, len(x), len(x)))
        for i, row in enumerate(units @ units.T):
            order = sorted(range(len(x)), key=lambda j: (j != i, -round(row[j], 12), j))
            found[i, order[:k]] = 1 / k
            listed[i, order[:k]] = row[order[:k]]
        sums = listed.sum(axis=1)
        return found, listed / np.sqrt(sums[:, None] * sums)

    def smooth(self, user, item, n_layers):
        x = total = np.concatenate([user, item])
        for _ in range(n_layers):
            x = self.walk @ x
            total = total + x
        return np.split(total / (n_layers + 1), [len(user)])

    def content(self, params):
        features = zip(self.dataset.modalities, self.dataset.features, strict=True)
        return [x @ params.projectors[m].kernel + params.projectors[m].bias for m, x in features]

    def forward(self, params):
        encoder = params.encoder
        if self.name == "bm3":
            user, item = self.smooth(encoder.tables.user, encoder.tables.item, 1)
            return user, item + encoder.tables.item
        if self.name == "mgcn":
            return tuple(map(np.add, *self.mgcn(params)))
        extra = sum(self.content(params)) if self.name == "lightgcn_content" else 0
        user, item = self.smooth(encoder.user, encoder.item + extra, 2)
        if self.name == "freedom":
            item = item + (0.1 * self.lists[0] + 0.9 * self.lists[1]) @ encoder.item
        return user, item

    def mgcn(self, params):
        """LG and side, users then items."""
        encoder, n_users = params.encoder, self.dataset.n_users
        own = self.smooth(encoder.tables.user, encoder.tables.item, 2)
        sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
        h = []
        for z, gate, s in zip(self.content(params), encoder.gates, self.weighted, strict=True):
            item = s @ (encoder.tables.item * sigmoid(z @ gate.kernel + gate.bias))
            h.append(np.concatenate([self.walk[:n_users, n_users:] @ item, item]))
        layer, lg = encoder.query, np.concatenate(own)
        logits = [np.tanh(x @ layer.kernel + layer.bias) @ encoder.weights for x in h]
        first = sigmoid(logits[0] - logits[1])[:, None]
        p = [sigmoid(lg @ x.kernel + x.bias) for x in encoder.preferences]
        # The identity: a convex combination by coordinate.
        rho = (1 - first) * p[0] + first * (1 - p[1])
        side = (rho * h[0] + (1 - rho) * h[1]) / 3
        return own, np.split(side, [n_users])

    def contrast(self, a, b):
        a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
        logits = a @ b.T / 0.2
        return np.mean(np.log(np.exp(logits).sum(axis=1)) - np.diag(logits))

    def loss(self, params, mu):
        user, item = self.forward(params)
        u, p, n = self.users, self.positives, self.negatives
        triples = list(zip(u, p, n, strict=True))
        if self.name.startswith("lightgcn"):
            rows = params.encoder.user[u], params.encoder.item[p], params.encoder.item[n]
            reg = sum(map(np.linalg.norm, rows)) / len(u)
            return oracles.bpr(user, item, triples) + mu * reg
        if self.name == "mgcn":
            own, side = self.mgcn(params)
            squares = sum((x**2).sum() for x in (user[u], item[p], item[n])) / 2 / 2048
            nce = self.contrast(side[1][p], own[1][p]) + self.contrast(side[0][u], own[0][u])
            return oracles.bpr(user, item, triples) + mu * squares + 0.01 * nce
        z = self.content(params)
        if self.name == "freedom":
            aux = sum(oracles.bpr(user, rows, triples) for rows in z)
            return oracles.bpr(user, item, triples) + 1e-3 * aux
        fixed_user, fixed_item, fixed_z = self.targets
        f = lambda x: x @ params.encoder.predictor.kernel + params.encoder.predictor.bias  # noqa: E731

        def apart(a, b):
            product = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
            return 1 - ((a * b).sum(axis=1) / product).mean()

        loss = apart(f(user[u]), fixed_item[p]) + apart(f(item[p]), fixed_user[u])
        for rows, own in zip(z, fixed_z, strict=True):
            loss += 2 * (apart(f(rows[p]), fixed_item[p]) + apart(f(rows[p]), own[p]))
        return loss + mu * (np.linalg.norm(user) + np.linalg.norm(item)) / len(item)


@pytest.fixture(scope="module")
def small():
    """Of few numbers, so that finite differences are cheap."""
    rng = np.random.default_rng(0)
    pairs = {(int(u), int(i)) for u, i in rng.integers(0, [9, 40], (60, 2))}
    features = tuple(rng.normal(size=(40, d)).astype(np.float32) for d in (4, 3))
    whole = dataclasses.replace(toy.dataset(), n_users=9, n_items=40, features=features)
    return dataclasses.replace(whole, train=toy.make_interactions(pairs))


@pytest.mark.parametrize("name", MAKE)
def test_forward_loss_and_gradient_are_those_of_the_formulas(name, small):
    c = Dense(name, small)
    exact = oracles.to_float64(c.params)
    if name == "bm3":  # constants of the loss, which no gradient sees
        c.targets = *c.forward(exact), c.content(exact)
    user, item = embeddings(c.model, c.params, small)
    expected = c.forward(exact)
    if name == "bm3":
        layer = exact.encoder.predictor
        expected = tuple(x @ layer.kernel + layer.bias for x in expected)
    np.testing.assert_allclose(user, expected[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(item, expected[1], rtol=1e-5, atol=1e-5)
    weights = PretrainCoefficients(jnp.float32(0.3), jnp.float32(0))
    padded = (jnp.pad(jnp.asarray(x), (0, 2)) for x in (c.users, c.positives, c.negatives))
    batch = Batch(*padded, jnp.pad(jnp.ones(4), (0, 2)))
    data = device_data(c.model, small)

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        return pretrain_objective(c.model, params, data, weights, None, batch, jax.random.key(0))[0]

    value, gradients = loss(c.params)
    np.testing.assert_allclose(value, c.loss(exact, 0.3), rtol=1e-5)
    numeric = oracles.numeric_gradient(lambda params: c.loss(params, 0.3), c.params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5), gradients, numeric
    )


def test_edges_are_drawn_in_proportion_and_the_pruned_graph_is_their_own(small):
    model = freedom(Sizes(3, 3, {"visual": 2, "textual": 2}), dim=2, n_neighbours=2)
    data = device_data(model, toy.dataset())
    one = jax.jit(jax.vmap(lambda key: keep_edges(key, data, 1)))
    users, items = one(jax.random.split(jax.random.key(0), 20_000))
    drawn = [np.mean((users == u) & (items == i)) for u, i in toy.PAIRS]
    expected = [0.242641, 0.171573, 0.171573, 0.171573, 0.242641]
    np.testing.assert_allclose(drawn, expected, atol=0.012)
    # A draw without replacement: all different, as many as wanted, degrees their own.
    model = freedom(small.sizes, dim=3, n_neighbours=4, drop=0.6)
    data = device_data(model, small)
    graph = jax.jit(model.epoch_graph)(jax.random.key(1), None, data)
    n = int(len(small.train) * 0.4)
    matrix = np.zeros((9, 40))
    matrix[graph.users.receivers, graph.users.senders[0]] += 1
    assert matrix.sum() == n == (matrix > 0).sum()
    all_pairs = np.zeros((9, 40))
    all_pairs[small.train.users, small.train.items] = 1
    assert (matrix <= all_pairs).all()
    np.testing.assert_array_equal(matrix.sum(axis=1), graph.users.degrees)
    np.testing.assert_array_equal(matrix.sum(axis=0), graph.items.degrees)
    other = jax.jit(model.epoch_graph)(jax.random.key(2), None, data)
    assert not np.array_equal(other.users.senders, graph.users.senders)


def test_bm3_drops_from_targets_alone_one_mask_a_row(small):
    model = bm3(small.sizes, dim=3, dropout=0.5)
    params = model.init(jax.random.key(0))
    assert np.isfinite(losses(model, params, small)[0])
    a, b = (losses(model, params, small)[1] for _ in range(2))
    assert a == b  # the key decides
    plain = losses(bm3(small.sizes, dim=3, dropout=0.0), params, small)[1]
    assert plain["reg"] == a["reg"] and plain["user_item"] != a["user_item"]


OTHERS = ["lightgcn", "lightgcn_content", "bm3", "mgcn", "lattice", "dragon", "mmgcf", "lgmrec"]


@pytest.mark.parametrize(
    "name", ["freedom", *(pytest.param(name, marks=pytest.mark.long) for name in OTHERS)]
)
def test_trained_from_a_config(name, dataset, config, tmp_path):
    from configs import base

    use = {
        "lightgcn": base.use_lightgcn,
        "lightgcn_content": functools.partial(base.use_lightgcn, content=True),
        "freedom": base.use_freedom,
        "bm3": base.use_bm3,
        "mgcn": base.use_mgcn,
        "lattice": base.use_lattice,
        "dragon": base.use_dragon,
        "mmgcf": base.use_mmgcf,
        "lgmrec": base.use_lgmrec,
    }[name]
    use(config)
    config.pretrain.epochs = 2
    summary = train_and_evaluate(from_config(config), tmp_path / "run", dataset=dataset)
    assert summary["stages"]["pretrain"]["epochs"] == 2


def test_what_cannot_be_is_refused(config, small):
    from configs import base

    base.use_freedom(config)
    for field, value, message in (
        ("pretrain.alpha", 1.0, "own objective has no L_NCE"),
        ("adversarial.epochs", 5, "an objective of its own. Set it to 0"),
        ("adversarial.defense", "uat", "reach no score of model freedom"),
        ("model.drop", 1.0, r"a share in \[0, 1\)"),
    ):
        changed = config.copy_and_resolve_references()
        changed.update_from_flattened_dict({field: value})
        with pytest.raises(InputError, match=message):
            from_config(changed)
    blank = [x.copy() for x in small.features]
    blank[1][6] = 0
    with pytest.raises(InputError, match=r"item 6 has no textual feature"):
        device_data(freedom(small.sizes), dataclasses.replace(small, features=tuple(blank)))
    with pytest.raises(InputError, match=r"n_neighbours = 41: wanted at most the 40 items"):
        device_data(freedom(small.sizes, n_neighbours=41), small)
    with pytest.raises(InputError, match=r"model\.shares.*'audio' among them"):
        freedom(Sizes(3, 3, {"visual": 2, "audio": 2}))
