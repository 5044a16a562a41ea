"""Item-item graphs against brute force, with ties and clones."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models import toy
from uatmc_jax.errors import InputError
from uatmc_jax.models import neighbours
from uatmc_jax.models.neighbours import all_nearest, cosine_valued, directions, unweighted


def brute(x, k):
    """Every list by sorting all items by the tie rule."""
    units = x.astype(float) / np.linalg.norm(x.astype(float), axis=1, keepdims=True)
    ids = []
    for i in range(len(x)):
        values = [round(float(np.sum(units[i] * units[j])), 12) for j in range(len(x))]
        ids.append(sorted(range(len(x)), key=lambda j: (j != i, -values[j], j))[:k])
    return np.array(ids)


@given(
    st.lists(st.tuples(*[st.integers(-2, 2)] * 3).filter(any), min_size=3, max_size=14),
    st.integers(1, 14),
)
@settings(max_examples=60, deadline=None)
def test_lists_are_those_of_brute_force_with_ties_and_clones(rows, k):
    x, k = np.array(rows, np.float32), min(k, len(rows))
    found = all_nearest(directions(x), k)
    np.testing.assert_array_equal(found.ids, brute(x, k))
    assert (found.ids[:, 0] == np.arange(len(x))).all() and (found.cosines[:, 0] == 1).all()


def test_blocks_and_clones_of_an_average_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 33)).astype(np.float32)
    x[rng.choice(90, 30, replace=False)] = x.mean(axis=0)  # more clones than a list is long
    whole = all_nearest(directions(x), 10)
    np.testing.assert_array_equal(whole.ids, brute(x, 10))
    monkeypatch.setattr(neighbours, "_BLOCK", 7)
    cut = all_nearest(directions(x), 10)
    np.testing.assert_array_equal(whole.ids, cut.ids)
    np.testing.assert_array_equal(whole.cosines, cut.cosines)


def dense(graph, n):
    matrix = np.zeros((n, n))
    np.put_along_axis(matrix, np.asarray(graph.ids), np.asarray(graph.values), axis=1)
    return matrix


def test_the_toys_graphs_by_hand():
    lists = [all_nearest(directions(np.array(x, np.float32)), 2) for x in (toy.VISUAL, toy.TEXTUAL)]
    np.testing.assert_array_equal(lists[0].ids, [[0, 1], [1, 0], [2, 1]])
    np.testing.assert_array_equal(lists[1].ids, [[0, 2], [1, 2], [2, 1]])
    mixed = 0.1 * dense(unweighted(lists[0]), 3) + 0.9 * dense(unweighted(lists[1]), 3)
    expected = [[0.5, 0.05, 0.45], [0.05, 0.5, 0.45], [0, 0.5, 0.5]]
    np.testing.assert_allclose(mixed, expected, atol=1e-7)
    visual = [[0.555556, 0.444444, 0], [0.444444, 0.555556, 0], [0, 0.353553, 0.625]]
    textual = [[0.625, 0, 0.353553], [0, 0.555556, 0.444444], [0, 0.444444, 0.555556]]
    for one, matrix in zip(lists, (visual, textual), strict=True):
        np.testing.assert_allclose(dense(cosine_valued(one), 3), matrix, atol=1e-6)
    edited = all_nearest(directions(toy.edited().features[0]), 2)
    after = [[0.625, 0.353553, 0], [0, 0.555556, 0.444444], [0, 0.444444, 0.555556]]
    np.testing.assert_allclose(dense(cosine_valued(edited), 3), after, atol=1e-6)


def test_a_graph_is_applied_as_its_matrix_is():
    rng = np.random.default_rng(1)
    lists = all_nearest(directions(rng.uniform(size=(12, 5)).astype(np.float32)), 4)
    h = rng.normal(size=(12, 3))
    for graph in (unweighted(lists), cosine_valued(lists)):
        np.testing.assert_allclose(graph(jnp.asarray(h)), dense(graph, 12) @ h, atol=1e-5)


def test_cosines_that_cancel_have_no_square_root():
    x = np.array([[1, 0], [-1, 0], [-1, 0.1]], np.float32)
    with pytest.raises(InputError, match="cosines of item 0 to its neighbours sum to"):
        cosine_valued(all_nearest(directions(x), 3))
