"""Modality Balancing against dense NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import oracles
from tests.defenses.test_baselines import objective, scalars, step_of, terms_of
from tests.models.test_oracle import CASES, TRIPLES, case
from uatmc_jax.defenses import (
    AdversarialSettings,
    Defense,
    Frozen,
    Trained,
    balancing,
    check_model,
)
from uatmc_jax.defenses.balance import nearest
from uatmc_jax.errors import InputError

EPS, STEPS = 0.3, 6


def defence(norm="linf", sensitive=0, steps=STEPS):
    return Defense("balancing", norm, steps, modalities=(sensitive,))


def dense(c, norm, sensitive, step_size):
    """L_adv and its gradient by (user, kernel), the edits held fixed, of VBPR."""
    encoder, z = oracles.to_float64((c.params.encoder, list(c.z)))
    d = z[0].shape[1]
    kernels = np.split(encoder.kernel, len(z))
    w, other = kernels[sensitive], 1 - sensitive
    to_user, to_kernel, total = np.zeros_like(encoder.user), np.zeros_like(encoder.kernel), 0.0
    for u, p, n in TRIPLES:
        row, wanted = z[sensitive][p], z[sensitive][n] @ w
        radius, delta = EPS * np.linalg.norm(row), np.zeros(d)
        for _ in range(STEPS):
            slope = -2 * ((row + delta) @ w - wanted) @ w.T
            if norm == "linf":
                delta = np.clip(delta + step_size * radius * np.sign(slope), -radius, radius)
            else:
                delta = delta + step_size * radius * slope / np.linalg.norm(slope)
                delta = delta * min(1, radius / np.linalg.norm(delta))
        content, apart = encoder.user[u][-d:], z[other][p] - z[other][n]
        missing = -content @ (delta @ w) - content @ (apart @ kernels[other])
        if missing > 0:
            total += missing
            to_user[u, -d:] -= delta @ w + apart @ kernels[other]
            blocks = np.split(to_kernel, len(z))
            blocks[sensitive] -= np.outer(delta, content)
            blocks[other] -= np.outer(apart, content)
            to_kernel = np.concatenate(blocks)
    n = len(TRIPLES)
    return total / n, to_user / n, to_kernel / n


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("sensitive", [0, 1])
@pytest.mark.parametrize("step_size", [0.25, 1.0])
def test_the_term_and_its_gradient(norm, sensitive, step_size):
    c = case(*CASES[1])
    weights = scalars(eps=EPS).replace(step_size=jnp.float32(step_size))

    def adv(encoder):
        given = Trained(encoder), Frozen(c.z, c.graph), weights, c.batch, jax.random.key(0)
        return objective(c.model, defence(norm, sensitive), *given)[1]["adv"]

    found, gradient = jax.value_and_grad(adv)(c.params.encoder)
    total, to_user, to_kernel = dense(c, norm, sensitive, step_size)
    assert total > 0
    assert float(found) == pytest.approx(total, rel=1e-5)
    np.testing.assert_allclose(gradient.user, to_user, atol=1e-6)
    np.testing.assert_allclose(gradient.kernel, to_kernel, atol=1e-6)


def test_edits_stay_in_the_ball_and_reach_the_negative_where_it_is_wide():
    c = case(*CASES[1])

    def far(eps, steps, size):
        step = step_of(c, defence("l2", steps=steps), eps=eps)
        step = step._replace(weights=step.weights.replace(step_size=jnp.float32(size)))
        selected = c.model.select(c.params.encoder, c.batch.users, step.items)
        delta = nearest(step, selected, c.model.encode_rows(selected, step.z))
        real = slice(len(TRIPLES))
        rows, kernel = np.asarray(step.z[0]), np.split(np.asarray(c.params.encoder.kernel), 2)[0]
        inside = np.linalg.norm(delta, axis=1) / (eps * np.linalg.norm(rows[step.positive], axis=1))
        gap = (rows[step.positive] + delta - rows[step.negative]) @ kernel
        return inside[real].max(), np.linalg.norm(gap, axis=1)[real].max()

    assert far(0.2, 20, 0.3)[0] <= 1 + 1e-5
    gaps = [far(eps, 400, 0.01)[1] for eps in (0.01, 0.3, 5.0)]
    assert gaps[0] > gaps[1] > gaps[2] and gaps[2] < 0.06


def test_without_a_budget_others_hold_their_own_margin():
    c = case(*CASES[1])
    encoder, z = oracles.to_float64((c.params.encoder, list(c.z)))
    kernel, d = np.split(encoder.kernel, 2)[1], z[0].shape[1]
    held = [encoder.user[u][-d:] @ ((z[1][p] - z[1][n]) @ kernel) for u, p, n in TRIPLES]
    found = terms_of(c, defence(), eps=0.0)["adv"]
    assert found == pytest.approx(np.mean(np.maximum(0, np.negative(held))), rel=1e-5)


def test_one_modality_is_named_and_another_is_there():
    for modalities in ((), ("visual", "textual")):
        with pytest.raises(InputError, match="sensitive modality"):
            AdversarialSettings(defense="balancing", modalities=modalities)
    c = case(*CASES[1])
    with pytest.raises(InputError, match="visual alone"):
        check_model(balancing("visual"), c.model, {"visual": 8})
    with pytest.raises(InputError, match="encode_rows"):
        check_model(balancing("visual"), case(*CASES[4]).model, {"visual": 8, "textual": 8})
