"""Propagating the difference alone gives what propagating everything gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uatmc_jax.models import (
    lightgcn,
    make_adjacency,
    make_graph,
    mmgcn,
    pad_field,
    shells_of,
)

LONG = [pytest.param(n, fuse, marks=pytest.mark.long) for n, fuse in ((3, "add"), (4, "concat"))]


@pytest.mark.parametrize("n_layers,fuse", [(1, "concat"), (2, "add"), *LONG])
def test_field_pass_equals_the_whole_pass(dataset, n_layers, fuse):
    """At odd and even depths; nodes out of reach do not move at all."""
    shared = {"dim": 4, "hidden": {}, "default_hidden": (5,), "latent_dims": {"visual": 6}}
    check_pass(mmgcn(dataset.sizes, **shared, n_layers=n_layers, fuse=fuse), dataset, n_layers)


@pytest.mark.parametrize(
    "n_layers", [2, *(pytest.param(n, marks=pytest.mark.long) for n in (1, 3))]
)
def test_a_column_of_lightgcn_equals_the_whole_pass(dataset, n_layers):
    model = lightgcn(dataset.sizes, dim=4, n_layers=n_layers, content=True)
    check_pass(model, dataset, n_layers, rtol=1e-5, atol=1e-6)


def check_pass(model, dataset, n_layers, rtol=1e-4, atol=1e-5):
    n_users, n_items = dataset.n_users, dataset.n_items
    params = jax.tree.map(lambda x: x + 0.1, model.init(jax.random.key(0)))
    graph = make_graph(dataset.train, n_users, n_items)
    z = model.project(params.projectors, tuple(jnp.asarray(x) for x in dataset.features))
    item = int(np.argmin(dataset.item_train_counts))
    row = tuple(x[item : item + 1] + 0.5 for x in z)
    replaced = tuple(x.at[item].set(r[0]) for x, r in zip(z, row, strict=True))
    encode = jax.jit(lambda z: jnp.concatenate(model.encode(params.encoder, z, graph)))
    clean, whole = np.asarray(encode(z)), np.asarray(encode(replaced))

    adjacency = make_adjacency(dataset.train, n_users, n_items)
    everyone = np.ones(n_users + n_items, bool)
    shells = shells_of(adjacency, item, n_layers, everyone, 10**6)
    sizes = [1, *(len(shell) + 2 for shell in shells[1:])]  # padding must not show
    field = jax.tree.map(jnp.asarray, pad_field(adjacency, shells, sizes))

    @jax.jit
    def difference(encoder, z, field, row):
        trace = model.field.trace(encoder, z, graph)
        gathered = model.field.gather(encoder, trace, graph, field)
        return model.field.encode(encoder, gathered, field, row)

    found = difference(params.encoder, z, field, row)
    for shell, embedded in zip(shells, found, strict=True):
        np.testing.assert_allclose(embedded[: len(shell)], whole[shell], rtol=rtol, atol=atol)
        assert np.abs(whole[shell] - clean[shell]).max() > 1e-6
    outside = np.setdiff1d(np.arange(n_users + n_items), np.concatenate(shells))
    np.testing.assert_array_equal(whole[outside], clean[outside])


def test_shells_by_breadth_first_search(dataset):
    adjacency = make_adjacency(dataset.train, dataset.n_users, dataset.n_items)
    n_nodes = dataset.n_users + dataset.n_items
    edges = {(int(u), int(i) + dataset.n_users) for u, i in zip(
        dataset.train.users, dataset.train.items, strict=True)}  # fmt: skip
    edges |= {(b, a) for a, b in edges}
    wanted = np.arange(n_nodes) % 2 == 0
    for item in (0, 9, 31):
        distance = {item + dataset.n_users: 0}
        for step in range(1, 4):
            reached = {b for a, b in edges if distance.get(a) == step - 1}
            distance |= {node: step for node in reached if node not in distance}
        shells = shells_of(adjacency, item, 3, wanted, 10**6)
        for step, shell in enumerate(shells):
            expected = [n for n, d in distance.items() if d == step and (step < 3 or wanted[n])]
            assert shell.tolist() == sorted(expected)
    assert shells_of(adjacency, 0, 3, wanted, 5) is None
