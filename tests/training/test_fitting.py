"""Settings fitted to a data set's size; batch sizes are tested with the audit's plan."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import own
from uatmc_jax.data import Sizes, make_synthetic
from uatmc_jax.errors import InputError
from uatmc_jax.models import Batch, vbpr
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


def test_that_share_keeps_the_regularisers_pull_on_a_row():
    """L_reg's own gradient, times B as L_BPR's is 1 / B of a row's, in batches of both sizes."""
    rows = jnp.asarray(np.random.default_rng(0).normal(size=(2048, 8)), jnp.float32)
    model = vbpr(Sizes(2048, 10, {"visual": 4}), dim=4)

    def pull(size, mu):
        ids = jnp.arange(size)
        batch = Batch(ids, ids, ids, jnp.ones(size))
        first = jax.grad(lambda x: model.regularize(None, batch, x, x, x))(rows[:size])[0]
        return mu * size * float(jnp.linalg.norm(first))

    assert pull(256, 1 / 8**0.5) == pytest.approx(pull(2048, 1.0), rel=0.05)
    assert pull(256, 1.0) > 2 * pull(2048, 1.0)


def test_where_there_are_many_rows_a_step_writes_those_it_reads(dataset):
    many, settings = dataclasses.replace(dataset, n_users=100_000), from_config(own.get_config())
    fitted, notes = fit_settings(settings, many, own.STEPS)
    assert [x.optimizer.rows for x in (fitted.pretrain, fitted.adversarial)] == ["deferred"] * 2
    assert f"of {100_000 + dataset.n_items:,} users and items" in notes[-1]
    fitted, _ = fit_settings(settings, many, own.STEPS, {"pretrain.optimizer.rows": "dense"})
    assert (fitted.pretrain.optimizer.rows, fitted.adversarial.optimizer.rows) == (
        "dense",
        "deferred",
    )
    for some, name in ((dataset, "vbpr"), (many, "mmgcn"), (many, "lightgcn")):
        settings = from_config(own.get_config(name))
        fitted, _ = fit_settings(settings, some, own.STEPS)
        assert fitted.pretrain.optimizer == settings.pretrain.optimizer


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
