"""Training the projectors' last layer: z as learned, against dense NumPy and the whole model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import oracles
from tests.models.test_oracle import CASES, TRIPLES, assert_trees_close, case
from tests.training.test_run import SMALL
from uatmc_jax.data import make_synthetic
from uatmc_jax.defenses import (
    Coefficients,
    Defense,
    Frozen,
    Trained,
    adversarial_objective,
    coefficients,
)
from uatmc_jax.errors import InputError
from uatmc_jax.models import build_model
from uatmc_jax.models.projection import project_all
from uatmc_jax.settings import from_config
from uatmc_jax.training.stages import adversarial_parts, init_params

EPS, LAM, MU, CONTENT = 0.3, 2.0, 0.4, 0.7


def learned(c):
    """The trained parameters and what is frozen, the last layer being trained."""
    layer = c.model.head
    # The stale z must be read by nobody.
    stale = tuple(jnp.full_like(z, jnp.nan) for z in c.z)
    hidden = layer.read(c.params.projectors, c.features)
    trained = Trained(c.params.encoder, layer.split(c.params.projectors))
    return trained, Frozen(stale, c.graph, hidden=hidden)


def loss(c, defense, trained, frozen, eps=EPS):
    weights = Coefficients(*(jnp.float32(x) for x in (LAM, 3.0, eps, 1.0, MU, CONTENT)))
    key = jax.random.key(0)
    return adversarial_objective(c.model, defense, trained, frozen, weights, c.batch, key)[0]


def project64(c, output):
    """z in float64 from the last layer's parameters."""
    projectors = c.model.head.join(c.params.projectors, output)
    return oracles.project(
        oracles.to_float64(projectors), oracles.to_float64(c.features), c.raw_dims
    )


@pytest.mark.parametrize("arguments", CASES)
def test_the_layer_taken_out_and_put_back_is_the_projector(arguments):
    c = case(*arguments)
    layer, projectors = c.model.head, c.params.projectors
    output = layer.split(projectors)
    same = jax.tree.map(np.array_equal, layer.join(projectors, output), projectors)
    assert jax.tree.all(same)
    z = layer.apply(output, layer.read(projectors, c.features))
    assert_trees_close(z, c.z, 1e-6)
    other = jax.tree.map(lambda x: x + 0.5, output)
    joined = c.model.project(layer.join(projectors, other), c.features)
    assert_trees_close(layer.apply(other, layer.read(projectors, c.features)), joined, 1e-6)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_exact_loss_and_gradients_of_the_layer(norm):
    c = case(*CASES[1])

    def oracle(trained):
        encoder, z = trained.encoder, project64(c, trained.output)
        user, item = oracles.vbpr(encoder, z)
        worst, content = oracles.vbpr_exact(encoder, z, TRIPLES, EPS, norm)
        clean = oracles.bpr(user, item, TRIPLES) + MU * c.regularize(encoder, user, item)
        return clean + LAM * worst + CONTENT * content

    trained, frozen = learned(c)
    defense = Defense("exact", norm, keep_content=True)
    value, gradients = jax.jit(jax.value_and_grad(lambda t: loss(c, defense, t, frozen)))(trained)
    trained64 = oracles.to_float64(trained)
    np.testing.assert_allclose(value, oracle(trained64), rtol=1e-5)
    assert_trees_close(gradients, oracles.numeric_gradient(oracle, trained64))


@pytest.mark.parametrize("kind", ["uat", "linearized"])
@pytest.mark.parametrize("arguments", [CASES[1], pytest.param(CASES[4], marks=pytest.mark.long)])
def test_gradients_of_the_layer_where_every_item_is_propagated(arguments, kind):
    """One l2 step, held fixed (uat), or its first-order value (linearized)."""
    c = case(*arguments)
    trained, frozen = learned(c)
    trained64 = oracles.to_float64(trained)
    in_batch = np.isin(np.arange(len(c.z[0])), [i for _, p, n in TRIPLES for i in (p, n)])[:, None]

    def slopes(trained):
        z = project64(c, trained.output)
        return oracles.complex_step_gradient(lambda z: c.adversarial_loss(trained.encoder, z), z)

    held = [
        in_batch * EPS * g / np.maximum(np.linalg.norm(g, axis=1, keepdims=True), 1e-30)
        for g in slopes(trained64)
    ]

    def oracle(trained):
        encoder, z = trained.encoder, project64(c, trained.output)
        user, item = c.encode(encoder, z)
        clean = oracles.bpr(user, item, TRIPLES)
        if kind == "uat":
            moved = [a + b for a, b in zip(z, held, strict=True)]
            adversarial = c.adversarial_loss(encoder, moved)
        else:
            lengths = [np.linalg.norm(in_batch * g, axis=1) for g in slopes(trained)]
            adversarial = clean + EPS * np.sum(lengths)
        return clean + MU * c.regularize(encoder, user, item) + LAM * adversarial

    defense = Defense(kind, "l2")
    value, gradients = jax.jit(jax.value_and_grad(lambda t: loss(c, defense, t, frozen)))(trained)
    np.testing.assert_allclose(value, oracle(trained64), rtol=1e-5)
    # Of the layer alone; the encoder's are those of the frozen layer.
    expected = oracles.numeric_gradient(
        lambda output: oracle(Trained(trained64.encoder, output)), trained64.output
    )
    assert_trees_close(gradients.output, expected, 1e-4)


@pytest.mark.parametrize("kind", ["none", "noise", "dropout", "exact", "uat_mc"])
def test_an_untouched_layer_is_the_frozen_one(kind):
    c = case(*CASES[1])
    trained, frozen = learned(c)

    @jax.jit
    def slopes(trained, frozen):
        return jax.value_and_grad(lambda t: loss(c, Defense(kind, "linf"), t, frozen))(trained)

    value, gradients = slopes(trained, frozen)
    expected, without = slopes(Trained(trained.encoder), Frozen(c.z, c.graph))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert_trees_close(gradients.encoder, without.encoder, 1e-4)
    assert all(bool(jnp.any(g)) for g in jax.tree.leaves(gradients.output))


def test_a_stage_changes_the_layer_and_the_rest_of_the_projectors_not(config):
    config.adversarial.update(defense="exact", train_projector_head=True)
    settings = from_config(config)
    dataset = make_synthetic(3, **SMALL)
    data = dataset.on_device
    model = build_model(settings.model, dataset.sizes)
    params = init_params(settings, model)
    parts = adversarial_parts(settings, model, params, data)
    fixed = parts.frozen, coefficients(settings.adversarial)
    state, *_ = jax.jit(parts.epoch)(parts.first_state(0), fixed, data)
    after = parts.assemble(state.trained)
    for name in dataset.raw_dims:
        layers = params.projectors[name]["params"]
        moved = {
            layer: not jax.tree.all(
                jax.tree.map(np.array_equal, layers[layer], after.projectors[name]["params"][layer])
            )
            for layer in layers
        }
        last = max(layer for layer in layers if layer.startswith("Dense"))
        assert moved == {layer: layer == last for layer in layers}
    # What is validated on is what the assembled model projects; and the way back is exact.
    assert_trees_close(parts.content(state.trained), project_all(model, after, data.features), 1e-6)
    back = parts.disassemble(after)
    assert jax.tree.all(jax.tree.map(np.array_equal, back, state.trained))


def test_a_model_that_names_no_last_layer_and_perturbed_features_are_refused(config):
    config.adversarial.update(train_projector_head=True)
    settings = from_config(config)
    dataset = make_synthetic(3, **SMALL)
    model = build_model(settings.model, dataset.sizes)
    with pytest.raises(InputError, match=r"train_projector_head.*vbpr does not name"):
        adversarial_parts(settings, model._replace(head=None), None, None)
    config.adversarial.level = "feature"
    with pytest.raises(InputError, match=r"config\.adversarial\.level.*train_projector_head"):
        from_config(config)
