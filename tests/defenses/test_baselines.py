"""Noise, dropout, spectral penalty, Mirror Gradient, the content term, chosen modalities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import oracles
from tests.models.test_oracle import CASES, TRIPLES, assert_trees_close, case
from uatmc_jax.defenses import Coefficients, Defense, Frozen, Trained, adversarial_objective
from uatmc_jax.defenses.perturbed import _dropped, _noisy
from uatmc_jax.defenses.step import make_step
from uatmc_jax.errors import InputError

objective = jax.jit(adversarial_objective, static_argnums=(0, 1))


def scalars(lam=2.0, eps=0.3, mu=0.4, content=0.0):
    return Coefficients(*(jnp.float32(x) for x in (lam, 3.0, eps, 1.0, mu, content)))


def step_of(c, defense, seed=0, **changes):
    key = jax.random.key(seed)
    frozen = Frozen(c.z, c.graph)
    return make_step(c.model, defense, None, frozen, scalars(**changes), c.batch, key)


def terms_of(c, defense, seed=0, **changes):
    found = objective(
        c.model, defense, Trained(c.params.encoder), Frozen(c.z, c.graph), scalars(**changes),
        c.batch, jax.random.key(seed),
    )[1]  # fmt: skip
    return {name: float(x) for name, x in found.items()}


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_noise_fills_the_ball_and_leaves_it_never(norm):
    c = case(*CASES[1])

    @jax.jit
    @jax.vmap
    def drawn(seed):
        step = step_of(c, Defense("noise", norm), seed)
        return step.z, _noisy(step, None)

    order = np.inf if norm == "linf" else 2
    lengths = []
    for clean, noisy in zip(*drawn(jnp.arange(20)), strict=True):
        size = np.linalg.norm(noisy - clean, ord=order, axis=2)
        lengths.append(size / (0.3 * np.linalg.norm(clean, axis=2)))
    lengths = np.concatenate(lengths)
    assert lengths.max() <= 1 + 1e-5
    # Uniform in a ball of three dimensions, the cube as well: the length cubed is uniform.
    assert np.mean(lengths**3) == pytest.approx(0.5, abs=0.05)


def test_dropout_drops_its_share_and_keeps_the_mean():
    c = case(*CASES[1])

    @jax.jit
    @jax.vmap
    def drawn(seed):
        step = step_of(c, Defense("dropout"), seed)
        return step.z, _dropped(step, None)

    shares = []
    for clean, rows in zip(*drawn(jnp.arange(40)), strict=True):
        kept = np.asarray(rows != 0)
        np.testing.assert_allclose(rows[kept], (clean / 0.7)[kept], rtol=1e-6)
        shares.append(1 - kept.mean())
    assert np.mean(shares) == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize("kind", ["noise", "dropout"])
def test_random_defences_are_seeded_and_nothing_at_no_strength(kind):
    c = case(*CASES[1])
    drawn = [terms_of(c, Defense(kind), seed=s)["adv"] for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    terms = terms_of(c, Defense(kind), eps=0.0)
    assert terms["adv"] == pytest.approx(terms["bpr"], rel=1e-6)


@pytest.mark.parametrize("kind", ["uat", "noise", "dropout"])
def test_modalities_that_are_not_named_stay(kind):
    """AMR perturbs the images alone."""
    from uatmc_jax.defenses import perturbed

    c = case(*CASES[1])
    step = step_of(c, Defense(kind, modalities=(1,)))
    selected = c.model.select(c.params.encoder, c.batch.users, step.items)
    if kind == "uat":
        first = perturbed.first_look(step, selected)
        (delta,) = perturbed._ascended(step, selected, first)
        visual, textual = perturbed._moved(step, (delta,))
    else:
        visual, textual = {"noise": _noisy, "dropout": _dropped}[kind](step, selected)
    np.testing.assert_array_equal(visual, step.z[0])
    assert bool(jnp.any(textual != step.z[1]))


@pytest.mark.parametrize("arguments", [CASES[1], CASES[4]])
def test_spectral_penalty(arguments):
    c = case(*arguments)
    encoder = oracles.to_float64(c.params.encoder)
    if c.name == "vbpr":
        matrices = [encoder.kernel]
    else:
        matrices = [tower.widen.kernel for tower in encoder.towers if tower.widen is not None]
        matrices += [
            w
            for tower in encoder.towers
            for layer in tower.layers
            for w in (layer.neighbour, layer.own.kernel, layer.fuse.kernel)
        ]
    expected = sum(np.linalg.svd(w, compute_uv=False)[0] ** 2 for w in matrices)
    found = terms_of(c, Defense("spectral"))["adv"]
    assert found == pytest.approx(expected, rel=1e-5)


def test_spectral_penalty_wants_the_model_to_name_its_matrices():
    c = case(*CASES[1])
    with pytest.raises(InputError, match="content_kernels"):
        adversarial_objective(
            c.model._replace(content_kernels=None), Defense("spectral"),
            Trained(c.params.encoder), Frozen(c.z, c.graph), scalars(), c.batch, None,
        )  # fmt: skip


def test_mirror_gradient_descends_here_and_climbs_there():
    """grad = g(theta) - lambda g(theta - step g(theta)), g the gradient without a defence."""
    c = case(*CASES[1])
    frozen, key = Frozen(c.z, c.graph), jax.random.key(0)

    def gradient(defense, trained):
        def loss(e):
            return adversarial_objective(
                c.model, defense, e, frozen, scalars(lam=0.6, eps=0.2), c.batch, key
            )[0]

        return jax.grad(loss)(trained)

    start = Trained(c.params.encoder)
    here = gradient(Defense("none"), start)
    down = jax.tree.map(lambda x, g: x - 0.2 * g, start, here)
    there = gradient(Defense("none"), down)
    expected = jax.tree.map(lambda a, b: a - 0.6 * b, here, there)
    assert_trees_close(gradient(Defense("mirror"), start), expected, 1e-6)


@pytest.mark.parametrize("arguments", [CASES[1], CASES[4]])
def test_content_term(arguments):
    """BPR on the score minus the score without the batch's content."""
    c = case(*arguments)
    encoder64, z64 = oracles.to_float64((c.params.encoder, list(c.z)))
    in_batch = np.isin(range(len(z64[0])), [i for _, p, n in TRIPLES for i in (p, n)])[:, None]
    user, item = c.encode(encoder64, z64)
    user0, item0 = c.encode(encoder64, [np.where(in_batch, 0.0, z) for z in z64])
    parts = [
        user[u] @ (item[p] - item[n]) - user0[u] @ (item0[p] - item0[n]) for u, p, n in TRIPLES
    ]
    expected = np.mean(oracles.softplus(-np.array(parts)))
    assert terms_of(c, Defense("none", keep_content=True))["content"] == pytest.approx(
        expected, rel=1e-5
    )
