"""The table behind docs/fidelity.md's section on the published weights."""

import jax
import numpy as np
import pytest

from configs import test as test_config
from experiments.collapse import lengths
from tests import oracles
from tests.commands import call
from uatmc_jax.data import open_dataset
from uatmc_jax.models import build_model, project_catalogue
from uatmc_jax.settings import from_config


def test_lengths_are_those_of_the_rows():
    settings = from_config(test_config.get_config())
    dataset = open_dataset(settings.data)
    model = build_model(settings.model, dataset.sizes)
    params = model.init(jax.random.key(0))
    z = project_catalogue(model, params, dataset.on_device.features)
    found = lengths(params, z)
    user, item = oracles.vbpr(oracles.to_float64(params.encoder), oracles.to_float64(z))
    free, content = np.split(item, 2, axis=1)
    for name, rows in (("users", user), ("items", free), ("content", content)):
        assert found[name] == pytest.approx(np.sqrt((rows**2).sum(axis=1).mean()), rel=1e-5)
    a, b = oracles.to_float64(z)
    assert found["cos(z^v, z^t)"] == pytest.approx((a * b).sum(axis=1).mean(), abs=1e-6)


def test_it_prints_a_line_an_epoch_and_takes_vbpr_alone():
    done = call("experiments.collapse", "--config=configs/test.py", "--epochs=1")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 4
    refused = call("experiments.collapse", "--config=configs/synthetic_mmgcn.py")
    assert refused.returncode == 2 and "wanted 'vbpr'" in refused.stderr
