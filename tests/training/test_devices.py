"""What a run reads where it reads it: all users, or those drawn."""

import dataclasses

import jax
import numpy as np
import pytest

from uatmc_jax.data import make_synthetic
from uatmc_jax.errors import InputError
from uatmc_jax.evaluation.metrics import user_metrics
from uatmc_jax.evaluation.ranking import make_plan, top_k
from uatmc_jax.models import build_model, project_all
from uatmc_jax.training.devices import on_devices
from uatmc_jax.training.stages import init_params


def sampled(settings, count):
    return dataclasses.replace(settings, eval=dataclasses.replace(settings.eval, sample=count))


def test_drawn_users_are_measured_as_among_all(settings):
    data, k = make_synthetic(3, n_users=60, n_items=60, n_interactions=600), 20
    model = build_model(settings.model, data.sizes)
    params = init_params(settings, model)
    z = project_all(model, params, data.on_device.features)
    user, item = model.encode(params.encoder, z, data.on_device.graph)
    _, ranked = top_k(user, item, make_plan(data.train, data.n_users, data.n_items), k)
    relevant = data.held_out("test")
    of_each = user_metrics(ranked, np.arange(data.n_users), relevant, (k,))
    here = on_devices(sampled(settings, 15), model, data)
    (found,) = here.measure(params, None, [here.held_out["test"]])
    # Whom it drew is known by what is held out of them.
    counts = np.diff(here.held_out["test"].indptr)
    drawn = np.random.default_rng([settings.seed, 6]).choice(np.arange(60), 15, replace=False)
    drawn = np.sort(drawn)
    np.testing.assert_array_equal(counts, np.diff(relevant.indptr)[drawn])
    for name, values in of_each.items():
        expected = np.asarray(values)[drawn].sum() / (counts > 0).sum()
        assert found[name] == pytest.approx(expected, abs=1e-6), name
    assert here.popularity("test").keys() == found.keys() | {
        f"{m}@{n}" for m in ("recall", "ndcg", "precision", "map") for n in settings.eval.ks
    }


def test_as_many_as_there_are_is_all(settings):
    data = make_synthetic(3, n_users=60, n_items=60, n_interactions=600)
    model = build_model(settings.model, data.sizes)
    whole, all_drawn = (on_devices(sampled(settings, n), model, data) for n in (0, 60))
    params = jax.jit(model.init)(jax.random.key(0))
    one, other = (x.measure(params, None, [x.held_out["valid"]])[0] for x in (whole, all_drawn))
    assert one == other


def test_nobody_with_anything_held_out(dataset):
    without = np.setdiff1d(np.arange(dataset.n_users), dataset.test.users)
    if not len(without):
        pytest.skip("everyone has something held out")
    with pytest.raises(InputError, match=r"eval\.sample"):
        dataset.held_out("test", without[:1])
