"""What is a table, what is filled up, and who owns which pairs: on a mesh of one device."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType

from uatmc_jax import checkpoint
from uatmc_jax.data import Sizes, make_csr
from uatmc_jax.defenses import (
    AdversarialSettings,
    Frozen,
    Trained,
    adversarial_objective,
    coefficients,
    static_defense,
)
from uatmc_jax.errors import InputError
from uatmc_jax.evaluation.ranking import make_plan, top_k
from uatmc_jax.models import Batch, freedom, mmgcn, project_catalogue, vbpr
from uatmc_jax.numerics import take_features
from uatmc_jax.optimizer import OptimizerSettings, make_optimizer
from uatmc_jax.placement import (
    Blocks,
    Placement,
    cut,
    draw_batch,
    lay_out,
    make_placement,
    own_pairs,
    put,
    spread_data,
    spread_top_k,
    state_rows,
)
from uatmc_jax.placement.compiled import Collective, collectives, sent
from uatmc_jax.placement.data import check_fits
from uatmc_jax.placement.mesh import AXIS
from uatmc_jax.placement.pairs import _find, split_number
from uatmc_jax.settings import PretrainSettings
from uatmc_jax.training.batches import keyed_numbers, make_batch
from uatmc_jax.training.epochs import updates_of
from uatmc_jax.training.objectives import PretrainCoefficients, pretrain_objective

SIZES = Sizes(7, 9, {"visual": 5})


@functools.cache
def placement(multiple):
    mesh = jax.make_mesh((1,), (AXIS,), (AxisType.Auto,), devices=jax.devices()[:1])
    return Placement(mesh, multiple)


def shapes_of(make):
    return lambda sizes: jax.eval_shape(make(sizes).init, jax.random.key(0))


def test_tables_are_what_grows_with_users_or_items():
    rows = lay_out(placement(4), shapes_of(lambda s: vbpr(s, dim=9, hidden={})), SIZES).rows
    assert (rows.encoder.user, rows.encoder.item) == (7, 9)
    assert not any(jax.tree.leaves((rows.projectors, rows.encoder.kernel, rows.encoder.bias)))
    rows = lay_out(placement(4), shapes_of(lambda s: mmgcn(s, dim=4, hidden={})), SIZES).rows
    assert rows.encoder.identity == 16 and rows.encoder.towers[0].preference == 7


def test_moments_lie_as_what_they_are_of():
    params = {"table": jnp.ones((7, 3)), "bias": jnp.ones(7)}
    optimizer = make_optimizer(OptimizerSettings(clip_norm=1.0), 1, 1)
    rows = state_rows(optimizer, optimizer.init(params), {"table": 7, "bias": 0})
    assert sorted(jax.tree.leaves(rows)) == [0, 0, 0, 7, 7]  # a count, two moments of each


def test_what_is_filled_up_is_cut_again():
    rows, tree = {"a": 7, "b": 0}, {"a": jnp.arange(14.0).reshape(7, 2), "b": jnp.ones(3)}
    filled = put(placement(4), rows, tree)
    assert filled["a"].shape == (8, 2) and not filled["a"][7:].any()
    back = jax.jit(lambda x: cut(placement(4), rows, x))(filled)
    jax.tree.map(np.testing.assert_array_equal, back, tree)


@pytest.mark.parametrize(
    ("devices", "multiple", "said"), [(2, 64, "JAX sees 1"), (1, 64, None), (-1, 7, None)]
)
def test_devices_that_are_not_there(devices, multiple, said):
    if jax.device_count() > 1:
        pytest.skip("JAX sees several devices")
    if said is None:
        assert make_placement(devices, multiple) is None
    else:
        with pytest.raises(InputError, match=said):
            make_placement(devices, multiple)


@pytest.mark.parametrize("multiple", (1, 4, 16))
def test_a_batch_of_owned_pairs_is_that_of_all(dataset, multiple):
    """Users and items without pairs, blocks without users: the same triples, bit for bit."""
    of, key, n_items = placement(multiple), jax.random.key(4), dataset.n_items
    owned = own_pairs(of, dataset.train, dataset.n_users + 3, n_items, block_users=5)
    pairs = jnp.asarray(dataset.train.users), jnp.asarray(dataset.train.items)
    rows, weights = jax.random.permutation(key, len(dataset.train))[:40], jnp.ones(40)
    csr = make_csr(dataset.train, dataset.n_users + 3)
    expected = make_batch(key, pairs, csr, rows, weights, n_items)
    numbers = jnp.zeros_like(rows), rows
    found = jax.jit(lambda pairs: draw_batch(of, key, pairs, numbers, weights))(owned)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 2**31 - 2), min_size=4, max_size=4), st.integers(0, 2**32))
def test_numbers_beyond_int32_are_found(counts, seed):
    """Blocks of almost 2^31 pairs each, against int64 in NumPy."""
    edges = np.concatenate([[0], np.cumsum(np.array(counts, np.int64))])
    if edges[-1] == 0:
        return
    rng = np.random.default_rng(seed)
    near = np.clip(np.concatenate([edges - 1, edges, edges + 1]), 0, edges[-1] - 1)
    numbers = np.concatenate([rng.integers(0, edges[-1], 20), near])
    limbs = [jnp.asarray(x) for x in split_number(numbers)]
    block, place = jax.jit(_find)(jnp.asarray(split_number(edges)), tuple(limbs))
    expected = np.searchsorted(edges, numbers, side="right") - 1
    np.testing.assert_array_equal(block, expected)
    np.testing.assert_array_equal(place, numbers - edges[expected])


def mixed(x):
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) % 2**32
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) % 2**32
    return x ^ (x >> 16)


def permuted(keys, x, n):
    """The keyed order's number at place x, in Python's integers."""
    bits = max((n - 1).bit_length(), 2)
    while True:
        low = bits // 2
        left, right, widths = x >> low, x & ((1 << low) - 1), [bits - low, low]
        for key in keys:
            left, right = right, left ^ (mixed(right ^ key) & ((1 << widths[0]) - 1))
            widths.reverse()
        x = (left << low) | right
        if x < n:
            return x


@pytest.mark.parametrize("n", (5, 2**31 - 1, 2**31 + 5, 3 * 2**33 + 1, 2**45 + 7))
def test_a_keyed_order_of_any_length(n):
    key, size = jax.random.key(2), 3000
    keys = [int(k) for k in jax.random.bits(key, (8,))]
    for batch in {0, min(n // size, 2**31 - 2)}:
        (high, low), weights = keyed_numbers(key, n, jnp.int32(batch), size)
        found = (np.asarray(high, np.int64) << 31) + np.asarray(low)
        for at in (0, 1, 7, size - 1):
            place = batch * size + at
            assert weights[at] == (place < n)
            assert found[at] == (permuted(keys, place, n) if place < n else 0)


def test_too_many_pairs_are_not_sorted():
    class Data:
        n_pairs = 2**31

    with pytest.raises(InputError, match="keyed"):
        updates_of(PretrainSettings(), Data(), None)
    keyed = PretrainSettings(optimizer=OptimizerSettings(shuffle="keyed"))
    assert updates_of(keyed, Data(), None).steps == 2**20


def test_too_large_batches_of_too_many_pairs():
    with pytest.raises(InputError, match="65536"):
        keyed_numbers(jax.random.key(0), 2**31, jnp.int32(0), 2**17)


@pytest.mark.parametrize("multiple", (1, 8))
def test_a_ranking_by_owner_is_that_of_all(dataset, multiple):
    """Scores in whole numbers, so that there are ties, and a user without any pair."""
    of, n_users = placement(multiple), dataset.n_users + 1
    rng = np.random.default_rng(0)
    user, item = (
        jnp.asarray(rng.integers(-2, 3, (n, 3)), jnp.float32) for n in (n_users, dataset.n_items)
    )
    blocks = Blocks(4, 16)
    plan = make_plan(dataset.train, n_users, dataset.n_items, *blocks)
    owned = own_pairs(of, dataset.train, n_users, dataset.n_items, blocks.users)
    ranked = jax.jit(lambda u, i, seen: spread_top_k(of, u, i, seen, 12, blocks))
    expected = jax.jit(lambda u, i: top_k(u, i, plan, 12))(user, item)
    jax.tree.map(np.testing.assert_array_equal, ranked(user, item, owned), expected)


def test_checkpoints_of_filled_up_tables(tmp_path):
    """Written filled up, or by one device: read as either, and never as another model's."""
    rows = {"user": 7, "bias": 0}
    true = {"user": jnp.arange(14.0).reshape(7, 2), "bias": jnp.ones(3)}
    training, meta = {"epoch": jnp.int32(1)}, {"epoch": 1}
    checkpoint.save(tmp_path / "one", "pretrain", "best", true, training, meta)
    filled = put(placement(4), rows, true)
    both = rows, {"epoch": 0}
    checkpoint.save(tmp_path / "many", "pretrain", "best", filled, training, meta, both)
    for run in ("one", "many"):
        where = tmp_path / run, "pretrain", "best"
        for like, of in ((true, None), (filled, rows), (put(placement(16), rows, true), rows)):
            found = checkpoint.load_params(*where, like, of)
            np.testing.assert_array_equal(found["user"][:7], true["user"])
            assert found["user"].shape == like["user"].shape and not found["user"][7:].any()
        other = {**true, "user": jnp.zeros((6, 2))}
        with pytest.raises(InputError, match="of another"):
            checkpoint.load_params(*where, other)


def in_float16(dataset):
    """The data set with features that float16 holds."""
    half = (np.asarray(x).astype(np.float16) for x in dataset.features)
    return dataclasses.replace(dataset, features=tuple(x.astype(np.float32) for x in half))


def test_features_in_float16(dataset):
    """Read as they were; refused where float16 does not hold them."""
    exact, of = in_float16(dataset), placement(4)._replace(features="float16")
    model, rows = vbpr(exact.sizes, dim=4, hidden={}), jnp.array([3, 0, 3])
    features = spread_data(of, model, exact).features
    assert {x.dtype for x in features} == {jnp.dtype("float16")}
    for found, whole in zip(take_features(features, rows), exact.features, strict=True):
        assert found.dtype == jnp.float32
        np.testing.assert_array_equal(found, whole[np.array(rows)])
    with pytest.raises(InputError, match=r"mesh\.features = 'float16': of modality 0"):
        spread_data(of, model, dataset)


@pytest.mark.long  # compiles both stages twice
def test_features_in_float16_change_no_number(dataset):
    """z of all, and both stages' objectives with their gradients, bit for bit."""
    exact = in_float16(dataset)
    model = vbpr(exact.sizes, dim=4, hidden={})
    params = model.init(jax.random.key(0))
    n = jnp.array([0, 3, 1])
    batch = Batch(n, n, n + 4, jnp.ones(3))
    key, weights = jax.random.key(1), PretrainCoefficients(jnp.float32(0.1), jnp.float32(1))

    def stage_1(params, data):
        return pretrain_objective(model, params, data, weights, jnp.array([3, 0, 2]), batch, key)

    def found(of):
        data = spread_data(of, model, exact)
        chosen = AdversarialSettings(level="feature", defense="uat")
        defense = static_defense(chosen, exact.modalities)
        z = project_catalogue(model, params, data.features)
        frozen = Frozen(z, data.graph, params.projectors, data.features, None)

        def stage_2(trained):
            given = trained, frozen, coefficients(chosen), batch, key
            return adversarial_objective(model, defense, *given)

        first = jax.jit(jax.value_and_grad(stage_1, has_aux=True))(params, data)
        second = jax.jit(jax.value_and_grad(stage_2, has_aux=True))(Trained(params.encoder, None))
        return z, first, second

    one = placement(4)
    same, expected = found(one._replace(features="float16")), found(one)
    jax.tree.map(np.testing.assert_array_equal, same, expected)


def test_a_graph_that_does_not_fit_is_refused_with_its_arithmetic():
    """8 bytes a pair, and more states than the inputs of each of the three layers."""
    sizes, limit = Sizes(10**7, 10**6, {"visual": 4096, "textual": 384}), 80 * 10**9
    small = Sizes(19445, 7050, sizes.raw_dims)
    with pytest.raises(InputError, match=r"1000000000 pairs x 8 bytes = 8\.0 GB"):
        check_fits(mmgcn(sizes), sizes, 10**9, limit)
    check_fits(mmgcn(small), small, 118551, limit)


def test_a_graph_drawn_of_all_pairs_is_refused(dataset):
    with pytest.raises(InputError, match=r"mesh\.devices: model freedom"):
        spread_data(placement(4), freedom(dataset.sizes), dataset)


def test_bytes_between_devices_are_read_from_the_text():
    class Program:
        def as_text(self):
            return """
  %all-reduce.2 = f32[64,16]{1,0} all-reduce(%x), metadata={op_name="jit(f)/while/body/gather"}
  ROOT %g = (s32[128]{0}, pred[]) all-gather-start(%x, %y), metadata={op_name="jit(f)/gather"}
  %not = f32[64,16]{1,0} add(%all-reduce.2, %all-reduce.2)
"""

    found = collectives(Program())
    assert found == [Collective("all-reduce", 4096, True), Collective("all-gather", 513, False)]
    assert (sent(found), sent(found, in_loop=True), sent(found, in_loop=False)) == (4609, 4096, 513)
