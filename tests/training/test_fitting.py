"""Settings fitted to a data set's size; batch sizes are tested with the audit's plan."""

import dataclasses

import numpy as np
import pytest

from configs import own
from uatmc_jax.data import make_synthetic
from uatmc_jax.errors import InputError
from uatmc_jax.settings import from_config
from uatmc_jax.training.fitting import fit_settings


def test_what_is_given_stays(dataset):
    settings = from_config(own.get_config())
    fitted, notes = fit_settings(settings, dataset, own.STEPS)
    assert fitted.pretrain.batch_size == fitted.adversarial.batch_size == 256
    told = "mu times 0.354 with these batches, where it was not given"
    assert fitted.eval == settings.eval and notes == ["batches of 256", told]
    fitted, notes = fit_settings(settings, dataset, own.STEPS, {"pretrain.batch_size"})
    assert (fitted.pretrain, fitted.adversarial.batch_size) == (settings.pretrain, 256)
    fitted, notes = fit_settings(
        settings, dataset, own.STEPS, {"pretrain.batch_size": 1, "adversarial.batch_size": 1}
    )
    assert fitted == settings and notes == []


def test_mu_weighs_on_a_row_as_much_as_in_the_batches_it_was_chosen_for(dataset):
    settings = from_config(own.get_config())
    fitted, _ = fit_settings(settings, dataset, own.STEPS)
    assert fitted.pretrain.mu == pytest.approx(settings.pretrain.mu / 8**0.5)
    assert fitted.adversarial.mu == pytest.approx(settings.adversarial.mu / 8**0.5)
    fitted, _ = fit_settings(settings, dataset, own.STEPS, {"pretrain.mu": 1})
    assert fitted.pretrain.mu == settings.pretrain.mu
    # MMGCN's is a mean over the batch.
    settings = from_config(own.get_config("mmgcn"))
    assert fit_settings(settings, dataset, own.STEPS)[0].pretrain.mu == settings.pretrain.mu
    # The gradient on a row, beside that of L_BPR, which is a mean: as large for both sizes.
    rows = np.random.default_rng(0).normal(size=(2048, 8))

    def on_a_row(batch, mu):
        return mu * batch * (np.linalg.norm(rows[0]) / np.linalg.norm(rows[:batch])) / batch

    both = on_a_row(2048, 1.0), on_a_row(256, 1 / 8**0.5)
    assert both[0] == pytest.approx(both[1], rel=0.05)


def test_lists_are_no_longer_than_the_catalogue():
    few = make_synthetic(3, n_users=60, n_items=30, n_interactions=300)
    settings = from_config(own.get_config())
    fitted, notes = fit_settings(settings, few, own.STEPS)
    assert fitted.eval.ks == (5, 10, 20) and "lists of at most 20 items ranked" in notes
    assert fit_settings(settings, few, own.STEPS, {"eval.ks"})[0].eval == settings.eval
    fewer = dataclasses.replace(few, n_items=19)
    with pytest.raises(InputError, match=r"has 19 items; .* at least 20"):
        fit_settings(settings, fewer, own.STEPS)


@pytest.mark.parametrize("model", [*own.PRESETS, "my_models:make_lightgcn"])
def test_every_model_has_settings(model):
    settings = from_config(own.get_config(model))
    assert settings.model.name == model
    assert settings.pretrain.mu == settings.adversarial.mu
