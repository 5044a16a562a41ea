"""Steps that write the batch's rows alone, against dense Adam in NumPy and in the library."""

import dataclasses
import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import base
from tests.training.test_run import SMALL
from uatmc_jax import checkpoint
from uatmc_jax.data import make_synthetic
from uatmc_jax.defenses import coefficients
from uatmc_jax.errors import InputError
from uatmc_jax.models import Batch, Sizes, build_model, mmgcn
from uatmc_jax.models.protocol import in_encoder
from uatmc_jax.numerics import take, weighted_mean
from uatmc_jax.optimizer import Adam, OptimizerSettings, make_adam, make_optimizer
from uatmc_jax.settings import from_config
from uatmc_jax.training.epoch import compile_epochs
from uatmc_jax.training.replay import EXACT_STEPS, WINDOW, Moved, advance, make_schedule
from uatmc_jax.training.rows import ITEMS, USERS, Rows, check_rows, row_updates, table_kinds
from uatmc_jax.training.stages import adversarial_parts, init_params, pretrain_stage

N_USERS, N_ITEMS, DIM, BATCH = 7, 9, 3, 5


@flax.struct.dataclass
class Tables:
    user: jax.Array
    item: jax.Array
    scale: jax.Array


@flax.struct.dataclass
class Whole:
    encoder: Tables
    output: Any = None


def loss_of(trained, fixed, batch, key):
    """L_BPR of scores scale * <user, item>."""
    del fixed, key
    encoder, at = trained.encoder, in_encoder(batch)
    user, rows = take(encoder.user, at.users), [at.positives, at.negatives]
    positive, negative = (take(encoder.item, row) for row in rows)
    margin = encoder.scale * jnp.sum(user * (positive - negative), axis=1)
    return weighted_mean(jax.nn.softplus(-margin), batch.weights), {}


class NumpyAdam:
    """Dense Adam on the same loss in float64; lazy where only rows of the batch are stepped."""

    def __init__(self, tables, rate, lazy, clip=0.0):
        self.x = [np.asarray(x, np.float64) for x in tables]
        self.m, self.v = ([np.zeros_like(x) for x in self.x] for _ in range(2))
        self.rate, self.lazy, self.clip, self.t = rate, lazy, clip, 0

    def gradients(self, users, positives, negatives, weights):
        user, item, scale = self.x
        difference = item[positives] - item[negatives]
        dot = (user[users] * difference).sum(1)
        slope = -weights / weights.sum() / (1 + np.exp(scale * dot))
        g = [np.zeros_like(x) for x in self.x]
        np.add.at(g[0], users, (slope * scale)[:, None] * difference)
        np.add.at(g[1], positives, (slope * scale)[:, None] * user[users])
        np.add.at(g[1], negatives, -(slope * scale)[:, None] * user[users])
        g[2] += slope @ dot
        norm = np.sqrt(sum((x**2).sum() for x in g))
        return [x * min(1.0, self.clip / max(norm, 1e-30)) if self.clip else x for x in g]

    def step(self, users, positives, negatives, weights):
        gradients = self.gradients(users, positives, negatives, weights)
        self.t += 1
        touched = (users, np.concatenate([positives, negatives]), ...)
        for n, (g, rows) in enumerate(zip(gradients, touched, strict=True)):
            m, v = 0.9 * self.m[n] + 0.1 * g, 0.999 * self.v[n] + 0.001 * g**2
            corrected = np.sqrt(v / (1 - 0.999**self.t)) + 1e-8
            x = self.x[n] - self.rate(self.t - 1) * m / (1 - 0.9**self.t) / corrected
            rows = rows if self.lazy else ...
            for of, new in ((self.m, m), (self.v, v), (self.x, x)):
                of[n][rows] = new[rows]


SCHEDULED = OptimizerSettings(0.01, "cosine", warmup_epochs=1, clip_norm=0.05)


@functools.cache
def compiled(chosen, epoch_steps, n_epochs, replays):
    """Optimiser, and an epoch of the library's row steps over given batches."""
    adam = make_adam(chosen, epoch_steps, n_epochs)
    optimizer = make_optimizer(chosen, epoch_steps, n_epochs)
    rows = Rows((USERS, ITEMS, ""), adam, replays)
    counts = {USERS: N_USERS, ITEMS: N_ITEMS}

    @jax.jit
    def epoch(trained, state, batches):
        updates = row_updates(loss_of, optimizer, rows, counts, epoch_steps)(trained, state)

        def step(carry, batch):
            return updates.step(carry, None, batch, jax.random.key(0))

        carry, _ = jax.lax.scan(step, updates.carry, batches)
        return updates.end(carry)

    return optimizer, epoch


def run_rows(tables, batches, chosen, epoch_steps, replays):
    """The tables after the library's row steps over the batches, epochs of so many steps."""
    n_epochs = len(batches) // epoch_steps
    optimizer, epoch = compiled(chosen, epoch_steps, n_epochs, replays)
    trained = Whole(Tables(*tables))
    state = optimizer.init(trained)
    for n in range(n_epochs):
        some = batches[n * epoch_steps : (n + 1) * epoch_steps]
        stacked = jax.tree.map(lambda *x: np.stack(x), *some)
        trained, state = epoch(trained, state, stacked)
    return jax.tree.leaves(trained.encoder)


def draw(seed, n_steps, n_rare=1):
    """Tables, and batches with rows many times, rarely and never in them."""
    rng = np.random.default_rng(seed)
    tables = [
        rng.normal(size=shape).astype(np.float32) for shape in ((N_USERS, DIM), (N_ITEMS, DIM))
    ]
    batches = []
    for _ in range(n_steps):
        rare = rng.random() < 0.05
        users = rng.integers(0, N_USERS if rare else N_USERS - n_rare, BATCH)
        items = rng.integers(0, N_ITEMS - 1 if rare else 3, (2, BATCH))
        weights = (np.arange(BATCH) < rng.integers(1, BATCH + 1)).astype(np.float32)
        batches.append((users, *items, weights))
    return [*tables, np.float32(1.5)], batches


@settings(max_examples=6, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), lazy=st.booleans(), n_rare=st.integers(0, N_USERS - 1))
def test_rows_are_stepped_as_in_numpy(seed, lazy, n_rare):
    """Repeated rows, padding, clipping and a schedule; 200 steps in two epochs."""
    tables, batches = draw(seed, 200, n_rare)
    rate = make_adam(SCHEDULED, 100, 2).rate
    rates = np.asarray(rate(np.arange(200)), np.float64)
    oracle = NumpyAdam(tables, rates.__getitem__, lazy, SCHEDULED.clip_norm)
    for batch in batches:
        oracle.step(*batch)
    given_ = [Batch(*batch) for batch in batches]
    found = run_rows([jnp.asarray(x) for x in tables], given_, SCHEDULED, 100, not lazy)
    for a, b in zip(found, oracle.x, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-5)  # float32 over 200 steps of 0.01


def test_deferred_rows_are_those_of_numpy_and_lazy_ones_are_not():
    tables, batches = draw(3, 200)
    oracle = NumpyAdam(tables, lambda _: 0.01, lazy=False)
    for batch in batches:
        oracle.step(*batch)
    given_ = [Batch(*batch) for batch in batches]
    chosen, start = OptimizerSettings(0.01), [jnp.asarray(x) for x in tables]
    off = []
    for replays in (True, False):
        found = run_rows(start, given_, chosen, 200, replays)
        off.append(max(np.abs(a - b).max() for a, b in zip(found, oracle.x, strict=True)))
    assert off[0] < 1e-5 < 1e-3 < off[1]


@pytest.mark.parametrize("start", (0, 100, 5000))
def test_missed_steps_are_made_up_for(start):
    """Every number of missed steps, gradients down to where eps rules; against steps in float64.

    A row's x may be off by 1e-4 of what it moved.
    """
    n_steps, tiny = 400, (1e-9, 1e-8, 1e-7, 1e-5, 1e-2, 1.0)
    adam = Adam(lambda n: 0.01 / (1 + n / 1000))
    since = np.arange(max(start, 1), start + n_steps)
    rng = np.random.default_rng(0)
    m = rng.uniform(0.5, 1, (len(since), len(tiny))) * tiny * rng.choice([-1, 1], len(tiny))
    v = 0.001 * rng.uniform(0.5, 2, m.shape) * np.square(tiny)
    x, gone_m, gone_v = np.zeros_like(m), m.copy(), v.copy()
    for u in range(start + 1, start + n_steps + 1):
        behind = (since < u)[:, None]
        gone_m, gone_v = (np.where(behind, b * x, x) for b, x in ((0.9, gone_m), (0.999, gone_v)))
        down = gone_m / (1 - 0.9**u) / (np.sqrt(gone_v / (1 - 0.999**u)) + 1e-8)
        x -= np.where(behind, adam.rate(u - 1) * down, 0)

    @jax.jit
    def moved(m, v, since):
        schedule = make_schedule(adam, jnp.int32(start), n_steps)
        rows = [Moved(jnp.zeros_like(m), m, v)]
        return advance(adam, schedule, rows, since, jnp.int32(start + n_steps))[0]

    found = moved(*(jnp.asarray(y, jnp.float32) for y in (m, v)), jnp.asarray(since, jnp.int32))
    # float32's 1 - b2^u alone is off by 1e-5 of itself in a stage's first steps, also in optax.
    np.testing.assert_allclose(found.x, x, rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(found.m, gone_m, rtol=2e-5, atol=1e-30)
    np.testing.assert_allclose(found.v, gone_v, rtol=2e-5, atol=1e-30)
    assert n_steps > WINDOW > EXACT_STEPS  # all three ways are taken


def stage_2(config, dataset, rows, **fields):
    config.adversarial.update(batch_size=8, **fields)
    config.adversarial.optimizer.rows = rows
    chosen = from_config(config)
    model = build_model(chosen.model, dataset.sizes)
    parts = adversarial_parts(chosen, model, init_params(chosen, model), dataset.on_device)
    return parts, (parts.frozen, coefficients(chosen.adversarial))


def assert_close(a, b, atol):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=atol)


# Slow: one more program, for the one defence that takes a step within the step.
@pytest.mark.parametrize("defense", ("uat_mc", pytest.param("mirror", marks=pytest.mark.long)))
def test_deferred_stage_2_is_the_dense_one(config, defense):
    """Three epochs, 177 steps: losses, parameters and Adam's moments, in the same structure."""
    dataset, found = make_synthetic(3, **SMALL), {}
    lam = 0.5 if defense == "mirror" else 5.0
    for rows in ("dense", "deferred"):
        parts, fixed = stage_2(config, dataset, rows, defense=defense, lam=lam)
        state, losses, epoch = parts.first_state(0), [], jax.jit(parts.epoch)
        for _ in range(3):
            state, terms, finite = epoch(state, fixed, dataset.on_device)
            losses.append(terms)
            assert finite
        found[rows] = losses, state
    (losses, state), (deferred_losses, deferred) = found.values()
    assert jax.tree.structure(state) == jax.tree.structure(deferred)
    assert_close(losses, deferred_losses, 1e-5)
    assert_close((state.trained, state.optimizer), (deferred.trained, deferred.optimizer), 3e-6)


# Slow: two more programs, for the way that projects all items.
@pytest.mark.parametrize("nce_items", (4, pytest.param(0, marks=pytest.mark.long)))
def test_deferred_stage_1_is_the_dense_one_and_goes_on_from_a_checkpoint(
    config, nce_items, tmp_path
):
    """A stage of dense steps can be gone on with by deferred ones: their states are alike."""
    dataset, found = make_synthetic(3, **SMALL), {}
    data = dataset.on_device
    config.pretrain.update(batch_size=8, nce_items=nce_items)
    for rows in ("dense", "deferred"):
        config.pretrain.optimizer.rows = rows
        chosen = from_config(config)
        model = build_model(chosen.model, dataset.sizes)
        params = init_params(chosen, model)
        stage, state = pretrain_stage(chosen, model, params, data, lambda params, z: {})
        for _ in range(2):
            state, terms, _ = stage.run_epoch(state, stage.fixed, data)
        found[rows] = jax.tree.map(np.asarray, (state, terms))
    assert_close(*found.values(), 1e-5)
    training = {"optimizer": state.optimizer, "epoch": state.epoch, "key": state.key}
    checkpoint.save(tmp_path, "pretrain", "latest", state.trained, training, {"epoch": 2})
    params, read = checkpoint.load_state(tmp_path, "pretrain", "latest", state.trained, training)
    again = state.__class__(params, read["optimizer"], read["epoch"], read["key"])
    (on, *_), (after, *_) = (stage.run_epoch(s, stage.fixed, data) for s in (state, again))
    for x, y in zip(jax.tree.leaves(on), jax.tree.leaves(after), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.long
def test_several_deferred_trainings_go_under_one_vmap(config):
    """Each ends as the dense one of its seed and weights, batches being drawn one by one."""
    dataset = make_synthetic(3, **SMALL)
    data, defense = dataset.on_device, "exact"
    config.adversarial.optimizer.shuffle = "keyed"
    parts, (frozen, weights) = stage_2(config, dataset, "dense", defense=defense)
    epoch, others = jax.jit(parts.epoch), dataclasses.replace(weights, lam=weights.lam / 2)
    members = ((0, weights), (1, others))
    alone = [epoch(parts.first_state(seed), (frozen, w), data)[0] for seed, w in members]
    parts, _ = stage_2(config, dataset, "deferred", defense=defense)
    state, both = (
        jax.tree.map(lambda *x: jnp.stack(x), *some)
        for some in ([parts.first_state(seed) for seed, _ in members], [w for _, w in members])
    )
    state, *_ = compile_epochs(parts.epoch, (None, 0))(state, (frozen, both), data)
    for n, one in enumerate(alone):
        assert_close(jax.tree.map(lambda x, n=n: x[n], state), one, 1e-5)


def test_what_reads_more_than_the_batchs_rows_is_refused(config):
    dataset = make_synthetic(3, **SMALL)
    features, sizes = dataset.on_device.features, dataset.sizes
    chosen = from_config(config)
    model = build_model(chosen.model, sizes)
    params = init_params(chosen, model)
    assert table_kinds(model) == (USERS, ITEMS, "", "")
    check_rows(model, params, features, "field")
    with pytest.raises(InputError, match=r"field needs .* model mmgcn .* 'dense'"):
        check_rows(mmgcn(Sizes(*sizes), dim=4), params, features, "field")
    base.use_mmgcn(config)
    config.adversarial.optimizer.rows = "lazy"
    with pytest.raises(InputError, match=r"adversarial.optimizer.rows = 'lazy' needs .* mmgcn"):
        from_config(config)
    whole = model._replace(regularize=lambda encoder, *_: jnp.mean(encoder.user**2))
    with pytest.raises(InputError, match=r"field: L_reg .* beyond the batch's"):
        check_rows(whole, params, features, "field")
    other = model._replace(
        select=lambda e, users, items: e.replace(user=2 * take(e.user, users), item=e.item[items])
    )
    with pytest.raises(InputError, match=r"field: select .* other than the rows"):
        check_rows(other, params, features, "field")
    unlike = model._replace(select=lambda e, users, items: (e.user[users], e.item[items]))
    with pytest.raises(InputError, match="unlike the encoder's"):
        table_kinds(unlike)
