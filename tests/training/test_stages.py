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
from uatmc_jax.training.stages import adversarial_parts, init_params


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
