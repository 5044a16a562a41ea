"""Stage 2 as assembled from settings."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.training.test_run import SMALL
from uatmc_jax.data import make_synthetic
from uatmc_jax.defenses import coefficients, static_defense
from uatmc_jax.models import build_model
from uatmc_jax.settings import from_config
from uatmc_jax.training.epoch import TrainState
from uatmc_jax.training.stages import adversarial_parts, init_params, pretrain_stage


def test_lambda_and_eps_rise_over_the_ramp(config):
    """Epoch 1 of a ramp over 2 is an epoch of half the lambda and eps, epoch 2 of all."""
    dataset = make_synthetic(3, **SMALL)
    data = dataset.on_device

    def epoch(ramp, lam, eps, number):
        config.adversarial.update(defense="exact", ramp_epochs=ramp, lam=lam, eps=eps)
        settings = from_config(config)
        model = build_model(settings.model, dataset.sizes)
        parts = adversarial_parts(settings, model, init_params(settings, model), data)
        state = parts.first_state(0)
        state = TrainState(state.trained, state.optimizer, jnp.int32(number - 1), state.key)
        after, terms, _ = jax.jit(parts.epoch)(
            state, (parts.frozen, coefficients(settings.adversarial)), data
        )
        return np.asarray(terms["loss"]), jax.tree.leaves(after.trained)

    for number, share in ((1, 0.5), (2, 1.0), (3, 1.0)):
        ramped, plain = epoch(2, 2.0, 0.2, number), epoch(0, share * 2.0, share * 0.2, number)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), *(ramped, plain)
        )
    assert not np.array_equal(epoch(2, 2.0, 0.2, 1)[0], epoch(0, 2.0, 0.2, 1)[0])


def static(config):
    settings = from_config(config)
    return static_defense(settings.adversarial, settings.data.modality_names)


def test_modalities_are_named_in_the_settings_and_numbered_in_the_step(config):
    config.adversarial.defense = "uat"
    assert static(config).modalities is None
    config.adversarial.modalities = ("textual",)
    assert static(config).modalities == (1,)


def test_modalities_are_swapped_in_training_and_nowhere_else(config):
    dataset = make_synthetic(3, **SMALL)
    found = {}
    for swap in (False, True):
        config.adversarial.swap_modalities = swap
        settings = from_config(config)
        model = build_model(settings.model, dataset.sizes)
        params = init_params(settings, model)
        parts = adversarial_parts(settings, model, params, dataset.on_device)
        found[swap] = parts.frozen.z, parts.content(parts.disassemble(params))
    (plain, read), (swapped, still_read) = found[False], found[True]
    for a, b in zip(swapped, plain[::-1], strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(still_read, read, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(plain[0], plain[1])


def test_mu_rises_over_its_warm_up(config):
    """Epoch n of a warm-up over 4 has n / 4 of mu: the term's share of the loss says so."""
    dataset = make_synthetic(3, **SMALL)
    config.pretrain.update(mu=0.5, mu_warmup_epochs=4, alpha=0.0)
    settings = from_config(config)
    model = build_model(settings.model, dataset.sizes)
    data, params = dataset.on_device, init_params(settings, model)
    stage, state = pretrain_stage(settings, model, params, data, lambda params, z: {})
    for share in (0.25, 0.5, 0.75, 1.0, 1.0):
        state, terms, _ = stage.run_epoch(state, stage.fixed, data)
        expected = terms["bpr"] + share * 0.5 * terms["reg"]
        np.testing.assert_allclose(terms["loss"], expected, rtol=1e-5)
