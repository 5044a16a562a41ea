"""Forward passes and all gradients of both models against dense float64 NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import oracles
from tests.conftest import make_interactions
from uatmc_jax.data import make_csr
from uatmc_jax.data.dataset import DeviceData
from uatmc_jax.defenses import Coefficients, Defense, Frozen, Trained, adversarial_objective
from uatmc_jax.models import Batch, Sizes, encode_changed, make_graph, mmgcn, select, vbpr
from uatmc_jax.training.objectives import PretrainCoefficients, pretrain_objective

N_USERS, N_ITEMS, DIM = 5, 6, 3
PAIRS = make_interactions([(0, 0), (0, 1), (1, 1), (1, 2), (2, 0), (2, 3), (3, 4), (3, 1), (4, 2)])
TRIPLES = [(0, 0, 2), (1, 1, 0), (2, 3, 4), (3, 1, 5), (0, 1, 4), (4, 2, 1)]
MODALITIES = {
    1: {"visual": 4},
    2: {"visual": 4, "textual": 3},
    3: {"visual": 4, "textual": 3, "audio": 2},
}
CASES = [
    ("vbpr", 1, None),
    ("vbpr", 2, None),
    ("vbpr", 3, None),
    ("mmgcn", 1, "concat"),
    ("mmgcn", 2, "concat"),
    ("mmgcn", 2, "add"),
    ("mmgcn", 3, "add"),
]

# Differentiating the larger ones takes a second each to compile.
LONG = {3: pytest.mark.long, 5: pytest.mark.long, 6: pytest.mark.long}
FEWER = [pytest.param(case, marks=LONG.get(n, ())) for n, case in enumerate(CASES)]

SHARED = {"dim": DIM, "hidden": {"visual": (5, 4)}, "default_hidden": (4,)}


class Case:
    """A tiny model with data, and its oracle."""

    def __init__(self, name, n_modalities, fuse):
        self.name, self.fuse = name, fuse
        self.raw_dims = MODALITIES[n_modalities]
        sizes = Sizes(N_USERS, N_ITEMS, self.raw_dims)
        if name == "vbpr":
            self.model = vbpr(sizes, **SHARED)
        else:
            self.model = mmgcn(sizes, **SHARED, latent_dims={"visual": 4}, fuse=fuse)
        rng = np.random.default_rng(0)
        # Noise, so that biases and scales are tested away from 0 and 1 too.
        self.params = jax.tree.map(
            lambda x: x + jnp.asarray(rng.normal(scale=0.3, size=x.shape), jnp.float32),
            self.model.init(jax.random.key(1)),
        )
        self.features = tuple(
            jnp.asarray(rng.normal(size=(N_ITEMS, d)), jnp.float32) for d in self.raw_dims.values()
        )
        self.z = self.model.project(self.params.projectors, self.features)
        self.graph = make_graph(PAIRS, N_USERS, N_ITEMS)
        users, positives, negatives = np.array(TRIPLES, np.int32).T
        padding = ((0, 2),)  # two padding triples, which must not count
        self.batch = Batch(
            *(jnp.asarray(np.pad(x, padding)) for x in (users, positives, negatives)),
            jnp.asarray(np.pad(np.ones(len(TRIPLES), np.float32), padding)),
        )
        self.data = DeviceData(
            (jnp.asarray(PAIRS.users), jnp.asarray(PAIRS.items)),
            make_csr(PAIRS, N_USERS),
            self.graph,
            self.features,
        )
        self.mean = oracles.mean_matrix(PAIRS, N_USERS, N_ITEMS)

    def encode(self, encoder, z):
        if self.name == "vbpr":
            return oracles.vbpr(encoder, z)
        return oracles.mmgcn(encoder, z, self.mean, N_USERS, self.fuse)

    def regularize(self, encoder, user, item):
        if self.name == "vbpr":
            return oracles.vbpr_reg(user, item, TRIPLES)
        return oracles.mmgcn_reg(encoder, TRIPLES, N_USERS)

    def pretrain_loss(self, params, mu, alpha):
        z = oracles.project(params.projectors, oracles.to_float64(self.features), self.raw_dims)
        user, item = self.encode(params.encoder, z)
        return (
            oracles.bpr(user, item, TRIPLES)
            + mu * self.regularize(params.encoder, user, item)
            + alpha * oracles.modal_info_nce(z, params.temperature)
        )

    def adversarial_loss(self, encoder, z):
        return oracles.bpr(*self.encode(encoder, z), TRIPLES)


@functools.cache
def case(*arguments):
    return Case(*arguments)


def assert_trees_close(actual, expected, tolerance=1e-5):
    jax.tree.map(
        lambda a, e: np.testing.assert_allclose(a, e, rtol=tolerance, atol=tolerance),
        actual,
        expected,
    )


@pytest.mark.parametrize("arguments", CASES)
def test_forward(arguments):
    c = case(*arguments)
    z = oracles.project(
        oracles.to_float64(c.params.projectors), oracles.to_float64(c.features), c.raw_dims
    )
    assert_trees_close(list(c.z), z)
    expected = c.encode(oracles.to_float64(c.params.encoder), z)
    assert_trees_close(tuple(jax.jit(c.model.encode)(c.params.encoder, c.z, c.graph)), expected)


@pytest.mark.parametrize("arguments", FEWER)
def test_pretraining_loss_and_gradients_of_all_parameters(arguments):
    c = case(*arguments)
    weights = PretrainCoefficients(0.3, 0.7)
    key = jax.random.key(0)

    def loss(params):
        return pretrain_objective(c.model, params, c.data, weights, None, c.batch, key)[0]

    oracle = functools.partial(c.pretrain_loss, mu=0.3, alpha=0.7)
    value, gradients = jax.jit(jax.value_and_grad(loss))(c.params)
    np.testing.assert_allclose(value, oracle(oracles.to_float64(c.params)), rtol=1e-5)
    assert_trees_close(gradients, oracles.numeric_gradient(oracle, c.params))


@pytest.mark.parametrize("arguments", FEWER)
def test_gradient_with_respect_to_z(arguments):
    c = case(*arguments)
    items = jnp.arange(N_ITEMS)
    encoder64 = oracles.to_float64(c.params.encoder)

    def loss(z):
        selected = select(c.model, c.params.encoder, c.graph, c.batch.users, items)
        user, item = encode_changed(c.model, selected, c.z, c.graph, c.batch.users, items, z)
        margin = jnp.sum(user * (item[c.batch.positives] - item[c.batch.negatives]), axis=1)
        return jnp.sum(c.batch.weights * jax.nn.softplus(-margin)) / len(TRIPLES)

    expected = oracles.numeric_gradient(lambda z: c.adversarial_loss(encoder64, z), c.z)
    assert_trees_close(jax.jit(jax.grad(loss))(c.z), expected)


# What the published code does besides, one thing and all of it.
AS_PUBLISHED = {"leak": True, "align_over": "items"}


@pytest.mark.parametrize(
    ("arguments", "kind", "more"),
    [(CASES[1], kind, {}) for kind in ("none", "uat", "uat_mc")]
    + [(CASES[4], "uat_mc", {})]
    # The same terms of larger programs.
    + [pytest.param(CASES[4], kind, {}, marks=pytest.mark.long) for kind in ("none", "uat")]
    + [pytest.param(CASES[6], k, {}, marks=pytest.mark.long) for k in ("none", "uat", "uat_mc")]
    + [
        (CASES[1], "uat", {"leak": True}),
        (CASES[1], "uat_mc", {"leak": True}),
        (CASES[1], "uat_mc", {"align_over": "items"}),
        pytest.param(CASES[4], "uat_mc", AS_PUBLISHED, marks=pytest.mark.long),
    ],
)
def test_adversarial_objective_and_its_gradients(arguments, kind, more):
    """Max phase by complex steps inside finite differences, min phase by finite differences."""
    c = case(*arguments)
    # The number of rows that carry a gradient, which the mean may not be over.
    over_items = more.get("align_over") == "items"
    lam, beta, eps, mu = 2.0, 3.0, 0.3, 0.4
    encoder64, z64 = oracles.to_float64((c.params.encoder, list(c.z)))
    positives = sorted({p for _, p, _ in TRIPLES})
    negatives = sorted({n for _, _, n in TRIPLES})

    def climbed(encoder, attacked):
        value = c.adversarial_loss(encoder, attacked)
        if kind == "uat_mc":
            g = oracles.complex_step_gradient(lambda z: c.adversarial_loss(encoder, z), attacked)
            for rows in (positives, negatives):
                share = len(rows) / N_ITEMS if over_items else 1.0
                value += beta * share * oracles.alignment(g, rows)
        return value

    def inner(delta):
        return climbed(encoder64, [z + d for z, d in zip(z64, delta, strict=True)])

    delta = [np.zeros_like(z) for z in z64]
    if kind != "none":
        gradient = oracles.numeric_gradient(inner, delta)
        in_batch = np.isin(np.arange(N_ITEMS), positives + negatives)[:, None]
        delta = [
            in_batch
            * eps
            * np.linalg.norm(z, axis=1, keepdims=True)
            * g
            / np.maximum(np.linalg.norm(g * in_batch, axis=1, keepdims=True), 1e-30)
            for z, g in zip(z64, gradient, strict=True)
        ]

    def oracle(encoder):
        user, item = c.encode(encoder, z64)
        value = oracles.bpr(user, item, TRIPLES) + mu * c.regularize(encoder, user, item)
        if kind != "none":
            attacked = [z + d for z, d in zip(z64, delta, strict=True)]
            value += lam * c.adversarial_loss(encoder, attacked)
        return value + climbed(encoder, z64) if more.get("leak") else value

    defense = Defense(kind, "l2", 1, False, "projected", **more)
    weights = Coefficients(*(jnp.float32(x) for x in (lam, beta, eps, 1.0, mu, 0.0)))

    def loss(encoder):
        frozen = Frozen(c.z, c.graph)
        return adversarial_objective(
            c.model, defense, Trained(encoder), frozen, weights, c.batch, jax.random.key(0)
        )[0]

    value, gradients = jax.jit(jax.value_and_grad(loss))(c.params.encoder)
    np.testing.assert_allclose(value, oracle(encoder64), rtol=1e-5)
    assert_trees_close(gradients, oracles.numeric_gradient(oracle, encoder64))


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_rows_propagated_alone_are_those_of_the_whole_graph(n_layers):
    """In any order, more than once, with padding, and with other content in some items."""
    c = case("mmgcn", 2, "concat")
    sizes = Sizes(N_USERS, N_ITEMS, c.raw_dims)
    model = mmgcn(sizes, **SHARED, latent_dims={"visual": 4}, n_layers=n_layers)
    encoder = model.init(jax.random.key(4)).encoder
    users, items = jnp.array([3, 0, 3]), jnp.array([5, N_ITEMS, 1, 5])
    z_rows = tuple(jax.random.normal(jax.random.key(5), (4, DIM)) for _ in c.z)
    z_rows = tuple(x.at[3].set(x[0]) for x in z_rows)
    selected = select(model, encoder, c.graph, users, items)
    user, item = encode_changed(model, selected, c.z, c.graph, users, items, z_rows)
    moved = tuple(z.at[items].set(x, mode="drop") for z, x in zip(c.z, z_rows, strict=True))
    expected = model.encode(encoder, moved, c.graph)
    kept = jnp.array([0, 2, 3])
    assert_trees_close(user, expected.user[users], 1e-6)
    assert_trees_close(item[kept], expected.item[items[kept]], 1e-6)
    alone = model._replace(prepare=None, propagate=None)
    selected = select(alone, encoder, c.graph, users, items)
    whole = encode_changed(alone, selected, c.z, c.graph, users, items, z_rows)
    assert_trees_close((user, item[kept]), (whole.user, whole.item[kept]), 1e-6)


def test_frozen_preference_is_left_out_of_the_gradient():
    c = case("mmgcn", 2, "concat")
    sizes = Sizes(N_USERS, N_ITEMS, c.raw_dims)
    frozen = mmgcn(sizes, **SHARED, latent_dims={"visual": 4}, train_preference=False)
    weights = PretrainCoefficients(0.3, 0.7)

    def gradients(model):
        def loss(p):
            return pretrain_objective(model, p, c.data, weights, None, c.batch, jax.random.key(0))[
                0
            ]

        return jax.jit(jax.grad(loss))(c.params)

    for tower in gradients(frozen).encoder.towers:
        assert not tower.preference.any()
    assert gradients(c.model).encoder.towers[0].preference.any()


def test_models_without_a_cheap_path_give_the_same_rows():
    """The dense path, which a user's own model takes, equals VBPR's cheap one."""
    c = case("vbpr", 2, None)
    dense = c.model._replace(select=None, encode_rows=None)
    items = jnp.array([4, 1, N_ITEMS, 0])  # with one padding row
    z_rows = tuple(jax.random.normal(jax.random.key(5), (4, DIM)) for _ in c.z)
    rows = {}
    for name, model in (("cheap", c.model), ("dense", dense)):
        selected = select(model, c.params.encoder, c.graph, c.batch.users, items)
        user, item = encode_changed(model, selected, c.z, c.graph, c.batch.users, items, z_rows)
        rows[name] = user, item[jnp.array([0, 1, 3])]
    assert_trees_close(rows["cheap"], rows["dense"], 1e-6)


def test_an_item_without_features_does_not_blow_up_the_gradient():
    """Zero features and zero biases project to zero, where normalising has no derivative."""
    c = case("vbpr", 2, None)
    params = c.model.init(jax.random.key(0))
    weights = PretrainCoefficients(0.3, 0.7)

    @jax.jit
    @jax.grad
    def gradient(p, data):
        return pretrain_objective(c.model, p, data, weights, None, c.batch, jax.random.key(0))[0]

    def largest(features):
        data = c.data.replace(features=features)
        return max(float(jnp.abs(g).max()) for g in jax.tree.leaves(gradient(params, data)))

    empty = tuple(x.at[2].set(0.0) for x in c.features)
    assert not c.model.project(params.projectors, empty)[0][2].any()
    assert largest(empty) < 10 * largest(c.features)


def test_blocks_of_the_catalogue_project_alike(monkeypatch):
    from uatmc_jax.models import projection

    c = case("vbpr", 2, None)

    def total(params):
        z = projection.project_all(c.model, params, c.features)
        return sum(jnp.sum(jnp.sin(3 * x)) for x in z), z

    whole, gradient = jax.value_and_grad(total, has_aux=True)(c.params)
    for block in (4, 5):
        monkeypatch.setattr(projection, "PROJECTION_BLOCK", block)
        cut, cut_gradient = jax.value_and_grad(total, has_aux=True)(c.params)
        assert_trees_close(whole, cut, 1e-6)
        assert_trees_close(gradient.projectors, cut_gradient.projectors, 1e-5)


@pytest.mark.parametrize("drawn", [pytest.param(None, marks=pytest.mark.slow), [3, 39, 0, 17]])
def test_row_path_of_pretraining_equals_the_whole_catalogue(drawn):
    """On a catalogue larger than the batch only the rows in play are projected."""
    n_items = 40
    c = case("vbpr", 2, None)
    model = vbpr(Sizes(N_USERS, n_items, c.raw_dims), **SHARED)
    params = model.init(jax.random.key(2))
    features = tuple(
        jax.random.normal(jax.random.key(d), (n_items, d)) for d in c.raw_dims.values()
    )
    data = DeviceData(c.data.pairs, c.data.seen, make_graph(PAIRS, N_USERS, n_items), features)
    weights, key = PretrainCoefficients(0.3, 0.7), jax.random.key(9)
    nce = None if drawn is None else jnp.array(drawn)
    dense = model._replace(select=None, encode_rows=None)
    values = [
        jax.jit(
            jax.value_and_grad(
                lambda p, m=m: pretrain_objective(m, p, data, weights, nce, c.batch, key)[0]
            )
        )(params)
        for m in (model, dense)
    ]
    assert_trees_close(values[0], values[1], 1e-5)


def test_mmgcns_regulariser_weighs_users_twice():
    """With E all ones and P^v zero it is 1 + 1/2 + 1/2, whatever padding the batch has."""
    c = case("mmgcn", 2, "concat")
    first, second = c.params.encoder.towers
    encoder = c.params.encoder.replace(
        identity=jnp.ones_like(c.params.encoder.identity),
        towers=(first.replace(preference=jnp.zeros_like(first.preference)), second),
    )
    assert float(c.model.regularize(encoder, c.batch)) == pytest.approx(2.0)
