"""Hardening a model that is trained by an objective of its own: MGCN, beside its lists."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from configs import test as test_config
from uatmc_jax.data import make_synthetic
from uatmc_jax.defenses import (
    DEFENSES,
    AdversarialSettings,
    Coefficients,
    Defense,
    Frozen,
    Trained,
    Whole,
    adversarial_objective,
    check_model,
)
from uatmc_jax.errors import InputError
from uatmc_jax.models import Batch, device_data, lgmrec, mgcn, project_catalogue, vbpr
from uatmc_jax.settings import from_config
from uatmc_jax.training import train_and_evaluate

DATA = make_synthetic(5, n_users=50, n_items=40, n_interactions=400)
MODEL = mgcn(DATA.sizes, dim=4, n_neighbours=4)
LAM, EPS, MU = 0.7, 0.2, 0.3


@functools.cache
def given():
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), MODEL.init(jax.random.key(0))
    )
    batch = Batch(
        *(jnp.asarray(rng.integers(0, n, 12), jnp.int32) for n in (50, 40, 40)), jnp.ones(12)
    )
    data = device_data(MODEL, DATA)
    return params, data, project_catalogue(MODEL, params, data.features), batch


def objective(kind, lam=LAM, **changes):
    """Its loss and terms, and the gradient by the encoder."""
    params, data, z, batch = given()
    frozen = Frozen(z, data.graph, whole=Whole(params, data))
    names = ("lam", "beta", "eps", "step_size", "mu", "content_weight")
    weights = dict(zip(names, (lam, 0.0, EPS, 1.0, MU, 0.0), strict=True)) | changes
    scalars = Coefficients(**{k: jnp.float32(v) for k, v in weights.items()})

    def loss(encoder):
        key = jax.random.key(1)
        trained = Trained(encoder)
        return adversarial_objective(MODEL, Defense(kind), trained, frozen, scalars, batch, key)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(params.encoder)


def bpr(encoder, z):
    """L_BPR of the batch, everything encoded."""
    _, data, _, batch = given()
    user, item = MODEL.encode(encoder, z, data.graph)
    user = user[batch.users]
    margin = jnp.sum(user * (item[batch.positives] - item[batch.negatives]), axis=1)
    return jnp.mean(jax.nn.softplus(-margin))


def worst(encoder):
    """z after one l2 step of each of the batch's items to the edge of its ball, by the formula."""
    _, _, z, batch = given()
    gradient = jax.grad(bpr, argnums=1)(encoder, z)
    there = np.zeros(DATA.n_items, bool)
    there[np.asarray(batch.positives)] = there[np.asarray(batch.negatives)] = True
    moved = []
    for x, g in zip(z, gradient, strict=True):
        x, g = np.asarray(x, float), np.asarray(g, float)
        step = g / np.maximum(np.linalg.norm(g, axis=1, keepdims=True), 1e-30)
        radius = EPS * np.linalg.norm(x, axis=1, keepdims=True)
        moved.append(jnp.asarray(x + np.where(there[:, None], radius * step, 0.0), jnp.float32))
    return tuple(moved)


def own(encoder):
    params, data, _, batch = given()
    return MODEL.objective(params.replace(encoder=encoder), data, jnp.float32(MU), batch, None)


@pytest.mark.long  # compiles MGCN's step
def test_uat_is_its_own_objective_and_bpr_at_the_worst_content():
    (loss, terms), gradient = objective("uat")
    encoder = given()[0].encoder
    expected, expected_terms = own(encoder)
    z = worst(encoder)
    assert set(terms) == {"bpr", "reg", "contrast", "adv"}
    for name, value in expected_terms.items():
        assert terms[name] == pytest.approx(float(value), rel=1e-5)
    assert (
        terms["adv"] == pytest.approx(float(bpr(encoder, z)), rel=1e-4)
        and terms["adv"] > terms["bpr"]
    )
    assert loss == pytest.approx(float(expected + LAM * terms["adv"]), rel=1e-5)
    slope = jax.grad(lambda e: own(e)[0] + LAM * bpr(e, z))(encoder)
    for a, b in zip(*map(jax.tree.leaves, (gradient, slope)), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_without_a_defence_it_is_its_own_objective():
    (loss, _), gradient = objective("none")
    encoder = given()[0].encoder
    assert loss == pytest.approx(float(own(encoder)[0]), rel=1e-6)
    slope = jax.grad(lambda e: own(e)[0])(encoder)
    for a, b in zip(*map(jax.tree.leaves, (gradient, slope)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def mgcn_config(**adversarial):
    config = test_config.get_config()
    base.use_mgcn(config)
    config.eval.ks = (5, 20)
    config.model.dim, config.model.n_neighbours = 4, 4
    config.pretrain.epochs, config.pretrain.patience = 1, 5
    config.adversarial.update(epochs=2, eps=0.1, lam=0.5, **adversarial)
    return config


@pytest.mark.long  # compiles both stages
@pytest.mark.parametrize("defense", ["uat_mc", "mirror"])
def test_mgcn_is_hardened_from_a_config(defense, tmp_path):
    config = mgcn_config(defense=defense, beta=1.0)
    summary = train_and_evaluate(from_config(config), tmp_path / "run", dataset=DATA)
    assert summary["stages"]["adversarial"]["epochs"] == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"defense": "uat", "level": "feature"}, "raw features of model mgcn also choose"),
        ({"defense": "exact"}, "scores that are affine"),
        ({"defense": "uat", "swap_modalities": True}, "an objective of its own. Leave it False"),
    ],
)
def test_what_cannot_be_is_refused(fields, message):
    with pytest.raises(InputError, match=message):
        from_config(mgcn_config(**fields))


@pytest.mark.parametrize("defense", [kind for kind in DEFENSES if kind != "none"])
def test_content_read_in_two_ways_is_hardened_on_raw_features_alone(defense):
    fields = {"harmless": "some.npz"} if defense == "shaped" else {}
    fields |= {"modalities": ("visual",)} if defense == "balancing" else {}
    fields |= {"lam": 0.5} if defense == "mirror" else {}
    chosen = AdversarialSettings(defense=defense, **fields)
    model = lgmrec(DATA.sizes, dim=4)
    with pytest.raises(InputError, match="level = 'projected': what model lgmrec") as refused:
        check_model(chosen, model)
    assert "Use defense = 'uat' with level = 'feature', or defense = 'none'." in str(refused.value)
    check_model(chosen, vbpr(DATA.sizes, dim=4))
    check_model(AdversarialSettings(defense="uat", level="feature"), model)
    check_model(AdversarialSettings(defense="none"), model)
