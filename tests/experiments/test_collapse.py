"""The table behind docs/fidelity.md's section on the published weights."""

import numpy as np
import pytest

from configs import test as test_config
from tests import oracles
from tests.commands import call
from uatmc_jax.data import open_dataset
from uatmc_jax.models import build_model, project_catalogue
from uatmc_jax.settings import from_config
from uatmc_jax.training.stages import init_params


def test_a_line_an_epoch_with_the_lengths_of_the_rows():
    """Those before the first epoch against dense NumPy."""
    done = call("experiments.collapse", "--config=configs/test.py", "--epochs=1")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 4
    found = [float(cell) for cell in done.stdout.splitlines()[1].strip("| ").split("|")][1:5]
    settings = from_config(test_config.get_config())
    dataset = open_dataset(settings.data)
    model = build_model(settings.model, dataset.sizes)
    params = init_params(settings, model)
    z = oracles.to_float64(project_catalogue(model, params, dataset.on_device.features))
    user, item = oracles.vbpr(oracles.to_float64(params.encoder), z)
    lengths = [np.sqrt((rows**2).sum(axis=1).mean()) for rows in (user, *np.split(item, 2, axis=1))]
    assert found == pytest.approx([*lengths, (z[0] * z[1]).sum(axis=1).mean()], abs=1e-4)


def test_other_models_are_refused():
    refused = call("experiments.collapse", "--config=configs/synthetic_mmgcn.py")
    assert refused.returncode == 2 and "wanted 'vbpr'" in refused.stderr
